"""Faster R-CNN: the paper's VGG16, torchvision's own models, and any backbone with a pyramid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models import vgg16
from torchvision.models.detection import (
    FasterRCNN as UpstreamFasterRCNN,
)
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from hem.detectors.backbones import BackboneSpec, Pyramid, level_sizes
from hem.detectors.contract import Contract, PartialTransform, adopt
from hem.detectors.official import (
    Official,
    chain_stages,
    finish,
    mobilenet_stages,
    refuse_ignored,
    resnet_stages,
)
from hem.detectors.precision import keep_boxes_exact
from hem.detectors.protocol import Detector, settings_of
from hem.detectors.two_stage import PartialRoIHeads, PartialRPN
from hem.errors import HemError

_FIXED = {
    "strides": (4, 8, 16, 32),
    "extra_levels": "pool",
    "fpn_channels": 256,
    "anchor_sizes": (32, 64, 128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "representation": 1024,
}
_MOBILE = _FIXED | {"strides": None, "anchor_sizes": None}  # two levels, five sizes at each
_OFFICIAL = {
    "resnet50_fpn": (
        fasterrcnn_resnet50_fpn,
        Official("fasterrcnn_resnet50_fpn", "resnet50", zero_eps=("COCO_V1", "DEFAULT"), fixed=_FIXED),
    ),
    "resnet50_fpn_v2": (
        fasterrcnn_resnet50_fpn_v2,
        Official("fasterrcnn_resnet50_fpn_v2", "resnet50", frozen=False, fixed=_FIXED),
    ),
    "mobilenet_v3_large_fpn": (
        fasterrcnn_mobilenet_v3_large_fpn,
        Official("fasterrcnn_mobilenet_v3_large_fpn", "mobilenet_v3_large", fixed=_MOBILE),
    ),
    "mobilenet_v3_large_320_fpn": (
        fasterrcnn_mobilenet_v3_large_320_fpn,
        Official("fasterrcnn_mobilenet_v3_large_320_fpn", "mobilenet_v3_large", fixed=_MOBILE),
    ),
}
# Nothing complete is published for it; torchvision's name of the backbone's weights is.
_VGG = Official(
    "vgg16",
    "vgg16",
    frozen=False,
    fixed={"strides": None, "extra_levels": None, "fpn_channels": None, "representation": 4096},
)


class FasterRCNN(Detector):
    """Faster R-CNN behind hem's protocol.

    Args:
        class_names: names of labels 1, 2, ….
        backbone: ``vgg16`` (one level of stride 16, as in the flicker paper),
            ``resnet50_fpn``, ``resnet50_fpn_v2``, ``mobilenet_v3_large_fpn``,
            ``mobilenet_v3_large_320_fpn`` (torchvision's own models, whose published weights fit), or
            any name of BackboneSpec, with a pyramid.
        weights: of the whole detector: None, a published name (``COCO_V1``), or a local file.
        replace_head: see Detector.load_weights.
        backbone_weights … trainable_layers: see BackboneSpec; vgg16 and torchvision's own models
            have their strides, levels and channels (another value is an error), and count trainable
            layers as torchvision does.
        frozen_eps: epsilon of frozen batch norm; 0 for torchvision's first published weights (set by
            itself when they are asked for by name; say so when they are given as a file).
        anchor_sizes: one for each level, in pixels of the resized image. None: 4 x stride (vgg16:
            128, 256 and 512 at its one level). torchvision's own models have theirs.
        aspect_ratios: height / width of the anchors; torchvision's own models have these.
        representation: width of the second stage's two layers; vgg16 and torchvision's own models
            have theirs.
        prior: probability of an object at every second-stage output before training, in (0, 1), or
            None for torchvision's start, where all classes are as likely as background.
        rpn_proposals: proposals passed on, (training, testing); fewer is faster. None: 2000, 1000.
        rpn_batch, roi_batch: samples for each image in the two losses.
        min_size, max_size: None: the model's own (800, 1333; VGG16 600, 1000; the 320 model 320, 640).
        image_mean, image_std: of RGB in [0, 1].
        nms_iou, max_detections: see RetinaNet.
        ignore_ioa, soft_lambda, soft_temperature, negative_repeats, negative_jitter, ohem: see
            Contract.

    Raises:
        HemError: on a value out of range, an unknown name, weights that do not fit, or a setting that
            the named network would not read.
    """

    family = "faster_rcnn"

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        backbone: str = "resnet50_fpn",
        weights: str | None = None,
        replace_head: bool = False,
        backbone_weights: str | None = None,
        backbone_weights_prefix: str | None = None,
        backbone_activation: str | None = None,
        backbone_norm: str | None = None,
        bn_momentum: float | None = None,
        frozen_eps: float | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        extra_levels: str = "pool",
        fpn_channels: int = 256,
        trainable_layers: int | None = None,
        anchor_sizes: Sequence[int] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        representation: int = 1024,
        prior: float | None = None,
        rpn_proposals: Sequence[int] | None = None,
        rpn_batch: int = 256,
        roi_batch: int = 512,
        min_size: int | None = None,
        max_size: int | None = None,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        nms_iou: float = 0.5,
        max_detections: int = 100,
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        negative_repeats: int = 4,
        negative_jitter: float = 0.05,
        ohem: bool = False,
    ) -> None:
        settings = settings_of(locals())
        contract = Contract.of(settings)
        options: dict[str, Any] = {
            "image_mean": list(image_mean),
            "image_std": list(image_std),
            "rpn_batch_size_per_image": rpn_batch,
            "box_batch_size_per_image": roi_batch,
            "box_nms_thresh": nms_iou,
            "box_detections_per_img": max_detections,
        }
        if rpn_proposals is not None:
            train, test = rpn_proposals
            options |= {"rpn_post_nms_top_n_train": train, "rpn_pre_nms_top_n_train": train}
            options |= {"rpn_post_nms_top_n_test": test, "rpn_pre_nms_top_n_test": test}
        options |= {k: v for k, v in (("min_size", min_size), ("max_size", max_size)) if v is not None}
        classes = len(class_names) + 1
        fixed = _VGG if backbone == "vgg16" else _OFFICIAL[backbone][1] if backbone in _OFFICIAL else None
        if fixed is not None:
            refuse_ignored(FasterRCNN, settings, fixed)
        if backbone in _OFFICIAL:
            build = _OFFICIAL[backbone][0]
            net = build(weights=None, weights_backbone=None, num_classes=classes, **options)
        elif backbone == "vgg16":
            net = _vgg(classes, anchor_sizes or (128, 256, 512), aspect_ratios, options)
        else:
            net = _generic(
                BackboneSpec.of(settings), classes, anchor_sizes, aspect_ratios, representation, options
            )
        if prior is not None:
            set_prior(net.roi_heads.box_predictor.cls_score, prior)
        adopt(net.transform, PartialTransform)
        keep_boxes_exact(net)
        adopt(net.rpn, PartialRPN, contract=contract, single_class=classes == 2)
        adopt(net.roi_heads, PartialRoIHeads, contract=contract, classes=classes)
        super().__init__(net, class_names, settings)
        self._finish(backbone)

    def _finish(self, backbone: str) -> None:
        if backbone == "vgg16":
            body = self.net.backbone
            pools = [index for index, part in enumerate(body) if isinstance(part, nn.MaxPool2d)]
            stages = chain_stages(body, [0, *(index + 1 for index in pools)])
            # Under these two names a published VGG16 fits, fc6 and fc7 included.
            whole = nn.ModuleDict({"features": body, "classifier": self.net.roi_heads.box_head[1]})
            finish(self, _VGG, whole, stages)
        elif backbone in _OFFICIAL:
            body = self.net.backbone.body
            stages = resnet_stages(body) if backbone.startswith("resnet") else mobilenet_stages(body)
            finish(self, _OFFICIAL[backbone][1], body, stages)
        else:
            finish(self, None)

    def set_floor(self, score_threshold: float) -> None:
        """See Detector."""
        self.net.roi_heads.score_thresh = score_threshold

    def set_limit(self, detections: int) -> None:
        """See Detector; there are never more than ``rpn_proposals`` of each class."""
        self.net.roi_heads.detections_per_img = detections


def _vgg(
    classes: int, sizes: Sequence[int], aspect_ratios: Sequence[float], options: dict[str, Any]
) -> UpstreamFasterRCNN:
    """Return the network of Ren et al., 2015: conv5_3 features, 7 x 7 pooling, two layers of 4096."""
    whole = vgg16(weights=None)
    body = whole.features[:-1]
    body.out_channels = 512
    # VGG's own classifier up to its last layer, so that ImageNet weights of fc6 and fc7 fit.
    head = nn.Sequential(nn.Flatten(), whole.classifier[:-1])
    return UpstreamFasterRCNN(
        body,
        rpn_anchor_generator=AnchorGenerator((tuple(sizes),), (tuple(aspect_ratios),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        box_head=head,
        box_predictor=FastRCNNPredictor(4096, classes),
        **({"min_size": 600, "max_size": 1000} | options),
    )


def _generic(
    spec: BackboneSpec,
    classes: int,
    anchor_sizes: Sequence[int] | None,
    aspect_ratios: Sequence[float],
    representation: int,
    options: dict[str, Any],
) -> UpstreamFasterRCNN:
    pyramid = Pyramid(spec)
    sizes = level_sizes(anchor_sizes, spec, pyramid.levels)
    names = [str(index) for index in range(len(spec.strides))]
    return UpstreamFasterRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in sizes), (tuple(aspect_ratios),) * len(sizes)
        ),
        box_roi_pool=MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(spec.channels * 49, representation),
        box_predictor=FastRCNNPredictor(representation, classes),
        **options,
    )


def set_prior(layer: nn.Linear | nn.Conv2d, prior: float) -> None:
    """Set a softmax output's biases so that all classes together start with probability ``prior``.

    Raises:
        HemError: if prior is not in (0, 1).
    """
    if not 0 < prior < 1:
        raise HemError(f"detector.prior must lie in (0, 1), got {prior}")
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.zero_()
        layer.bias[0] = float(torch.logit(torch.tensor(1 - prior))) + float(
            torch.log(torch.tensor(layer.bias.numel() - 1.0))
        )
