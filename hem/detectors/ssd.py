"""SSD300 on VGG16 (Liu et al., 2016) and SSDLite on MobileNetV3 (Howard et al., 2019)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD as UpstreamSSD
from torchvision.models.detection.ssdlite import (
    SSDLiteFeatureExtractorMobileNet,
    SSDLiteHead,
)

from hem.detectors.contract import Contract, PartialTransform, adopt
from hem.detectors.official import Official, chain_stages, finish, mobilenet_stages
from hem.detectors.one_stage import PartialSSD
from hem.detectors.precision import keep_boxes_exact
from hem.detectors.protocol import Detector, settings_of
from hem.errors import HemError

_SSD300 = Official("ssd300_vgg16", "vgg16", default_trainable=4, frozen=False)
_SSDLITE = Official("ssdlite320_mobilenet_v3_large", "mobilenet_v3_large", default_trainable=6, frozen=False)


class SSD300(Detector):
    """SSD at 300 x 300 on VGG16, behind hem's protocol.

    Args:
        class_names: names of labels 1, 2, ….
        weights: of the whole detector: None, a published name (``COCO_V1``), or a local file.
        replace_head: see Detector.load_weights.
        backbone_weights: None, a published name for VGG16 (``IMAGENET1K_FEATURES``), or a local file.
        backbone_weights_prefix: see BackboneSpec.
        trainable_layers: 0 to 5 stages of VGG16; None: 4 with pretrained weights, else all.
        negative_ratio: background boxes with the largest loss that teach, for each positive, > 0.
        nms_iou, max_detections: see RetinaNet.
        ignore_ioa, soft_lambda, soft_temperature: see Contract.
        ohem: True; SSD's loss mines online by construction.

    Raises:
        HemError: on a value out of range, an unknown name, weights that do not fit, or ohem=False.
    """

    family = "ssd"

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        weights: str | None = None,
        replace_head: bool = False,
        backbone_weights: str | None = None,
        backbone_weights_prefix: str | None = None,
        trainable_layers: int | None = None,
        negative_ratio: float = 3.0,
        nms_iou: float = 0.45,
        max_detections: int = 200,
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        ohem: bool = True,
    ) -> None:
        settings = settings_of(locals())
        net = ssd300_vgg16(
            weights=None,
            weights_backbone=None,
            num_classes=len(class_names) + 1,
            nms_thresh=nms_iou,
            detections_per_img=max_detections,
            positive_fraction=_fraction(negative_ratio),
        )
        _adopt(net, _contract(settings))
        super().__init__(net, class_names, settings)
        extractor = self.net.backbone
        body = nn.Sequential(*extractor.features.children(), *list(extractor.extra[0].children())[:-1])
        pools = [index for index, part in enumerate(body) if isinstance(part, nn.MaxPool2d)]
        finish(self, _SSD300, body, chain_stages(body, [0, *pools]))


class SSDLite(Detector):
    """SSDLite on a torchvision MobileNetV3, behind hem's protocol.

    Args:
        class_names: names of labels 1, 2, ….
        backbone: ``mobilenet_v3_large`` or ``mobilenet_v3_small``. Large at 320 with
            ``reduced_tail=True`` is torchvision's model, whose published weights fit.
        weights: of the whole detector: None, a published name (``COCO_V1``), or a local file.
        replace_head: see Detector.load_weights.
        backbone_weights: None, a published name (``IMAGENET1K_V1``; with reduced_tail=False), or a
            local file.
        backbone_weights_prefix, backbone_activation, backbone_norm: see BackboneSpec.
        bn_momentum: of every batch-norm layer, head and extra layers too. torchvision's 0.03 suits
            long training; None keeps it. 0.1 for short training from scratch.
        reduced_tail: halve the width of the last blocks, as torchvision does from scratch.
        trainable_layers: 0 to 6 stages; None: all.
        size: images are resized to size x size, whatever their shape; a multiple of 32.
        smallest, largest: default boxes run between these shares of ``size``, in (0, 1].
        prior: as in FasterRCNN.
        negative_ratio, nms_iou, max_detections: see SSD300.
        image_mean, image_std: of RGB in [0, 1].
        ignore_ioa, soft_lambda, soft_temperature, ohem: see SSD300.

    Raises:
        HemError: on a value out of range, an unknown name, weights that do not fit, or ohem=False.
    """

    family = "ssd"

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        backbone: str = "mobilenet_v3_large",
        weights: str | None = None,
        replace_head: bool = False,
        backbone_weights: str | None = None,
        backbone_weights_prefix: str | None = None,
        backbone_activation: str | None = None,
        backbone_norm: str | None = None,
        bn_momentum: float | None = None,
        reduced_tail: bool = True,
        trainable_layers: int | None = None,
        size: int = 320,
        smallest: float = 0.2,
        largest: float = 0.95,
        prior: float | None = None,
        negative_ratio: float = 3.0,
        nms_iou: float = 0.55,
        max_detections: int = 300,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        ohem: bool = True,
    ) -> None:
        settings = settings_of(locals())
        if backbone not in ("mobilenet_v3_large", "mobilenet_v3_small"):
            raise HemError(
                f"detector.backbone: SSDLite takes mobilenet_v3_large or mobilenet_v3_small, got {backbone!r}"
            )
        if size < 96 or size % 32 or not 0 < smallest < largest <= 1:
            raise HemError(
                "detector: size must be a multiple of 32 from 96 on, and 0 < smallest < largest <= 1, got "
                f"{size}, {smallest}, {largest}"
            )
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03 if bn_momentum is None else bn_momentum)
        features = _mobilenet(backbone, reduced_tail, norm)
        boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=smallest, max_ratio=largest)
        options: dict[str, Any] = {
            "nms_thresh": nms_iou,
            "detections_per_img": max_detections,
            "topk_candidates": 300,
            "positive_fraction": _fraction(negative_ratio),
            "image_mean": list(image_mean),
            "image_std": list(image_std),
        }
        classes = len(class_names) + 1
        extractor = SSDLiteFeatureExtractorMobileNet(features, _last_stage(features), norm)
        widths = retrieve_out_channels(extractor, (size, size))
        head = SSDLiteHead(widths, boxes.num_anchors_per_location(), classes, norm)
        if prior is not None:
            for module in head.classification_head.module_list:
                _set_prior(module[-1], prior, classes)
        net = UpstreamSSD(extractor, boxes, (size, size), classes, head=head, **options)
        _adopt(net, _contract(settings))
        super().__init__(net, class_names, settings)
        finish(self, _SSDLITE, features, mobilenet_stages(features))


def _mobilenet(name: str, reduced_tail: bool, norm: Any) -> nn.Sequential:  # noqa: ANN401
    """Return the features of a MobileNetV3, started as torchvision starts SSDLite from scratch."""
    net = torchvision.models.get_model(name, weights=None, norm_layer=norm, reduced_tail=reduced_tail)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, mean=0.0, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    features: nn.Sequential = net.features
    return features


def _last_stage(features: nn.Sequential) -> int:
    """Return the block in which the stride grows for the last time: its expansion is the first map."""
    return [index for index, block in enumerate(features) if getattr(block, "_is_cn", False)][-1]


def _set_prior(layer: nn.Conv2d, prior: float, classes: int) -> None:
    if not 0 < prior < 1:
        raise HemError(f"detector.prior must lie in (0, 1), got {prior}")
    assert layer.bias is not None
    with torch.no_grad():
        background = torch.tensor((1 - prior) / prior * (classes - 1)).log()
        layer.bias.view(-1, classes)[:, 0] = background
        layer.bias.view(-1, classes)[:, 1:] = 0


def _fraction(negative_ratio: float) -> float:
    if not negative_ratio > 0:
        raise HemError(f"detector.negative_ratio must be > 0, got {negative_ratio}")
    return 1 / (1 + negative_ratio)


def _contract(settings: Mapping[str, Any]) -> Contract:
    if not settings["ohem"]:
        raise HemError(
            "detector.ohem=false: SSD's loss is online hard example mining by construction; choose "
            "negative_ratio, or another family"
        )
    return Contract.of(settings)


def _adopt(net: nn.Module, contract: Contract) -> None:
    adopt(net, PartialSSD, contract=contract)
    transform: Any = net.transform
    adopt(transform, PartialTransform)
    keep_boxes_exact(net)
