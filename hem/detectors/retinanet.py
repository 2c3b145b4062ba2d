"""RetinaNet (Lin et al., 2017, and torchvision's v2) on any backbone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.detection import (
    RetinaNet as UpstreamRetinaNet,
)
from torchvision.models.detection import (
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from hem.detectors.backbones import BackboneSpec, Pyramid, group_norm, level_sizes
from hem.detectors.contract import Contract, PartialTransform, adopt
from hem.detectors.official import Official, finish, refuse_ignored, resnet_stages
from hem.detectors.one_stage import PartialRetinaNetHead
from hem.detectors.precision import keep_boxes_exact
from hem.detectors.protocol import Detector, settings_of
from hem.errors import HemError

_FIXED = {
    "strides": (8, 16, 32),
    "extra_levels": "p6p7",
    "fpn_channels": 256,
    "anchor_sizes": (32, 64, 128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "head_convs": 4,
    "head_norm": None,
    "prior": 0.01,
}
_OFFICIAL = {
    "resnet50_fpn": (
        retinanet_resnet50_fpn,
        Official("retinanet_resnet50_fpn", "resnet50", zero_eps=("COCO_V1", "DEFAULT"), fixed=_FIXED),
    ),
    "resnet50_fpn_v2": (
        retinanet_resnet50_fpn_v2,
        Official(
            "retinanet_resnet50_fpn_v2", "resnet50", frozen=False, fixed=_FIXED | {"head_norm": "group"}
        ),
    ),
}


class RetinaNet(Detector):
    """RetinaNet behind hem's protocol.

    Args:
        class_names: names of labels 1, 2, ….
        backbone: ``resnet50_fpn``, ``resnet50_fpn_v2`` (torchvision's own models, whose published
            weights fit) or any name of BackboneSpec, with a pyramid.
        weights: of the whole detector: None, a published name (``COCO_V1``), or a local file.
        replace_head: see Detector.load_weights.
        backbone_weights, backbone_weights_prefix, backbone_activation, backbone_norm, bn_momentum,
            strides, extra_levels, fpn_channels, trainable_layers: see BackboneSpec; torchvision's own
            models count trainable layers from 0 to 5. They have their strides, levels, channels, and of
            what follows anchors, head and prior: another value is an error.
        frozen_eps: see FasterRCNN.
        anchor_sizes: three anchors a level grow from each of these, in pixels of the resized image;
            one for each level. None: 4 x stride of the level.
        aspect_ratios: height / width of the anchors.
        head_convs: convolutions before the outputs, 1 to 4; fewer train sooner from scratch.
        head_norm: ``group`` or None. Without pretrained weights a head of four plain convolutions
            hardly starts; GroupNorm does.
        prior: probability of an object at every output before training, in (0, 1).
        min_size, max_size: the shorter side is resized to min_size unless the longer would exceed
            max_size.
        image_mean, image_std: of RGB in [0, 1].
        nms_iou: boxes of one class overlapping a better one by more are dropped, in (0, 1]. Higher
            keeps close neighbours and doubles.
        max_detections: kept for each image.
        ignore_ioa, soft_lambda, soft_temperature, ohem, ohem_ratio, ohem_minimum: see Contract.

    Raises:
        HemError: on a value out of range, an unknown name, weights that do not fit, or a setting that
            the named network would not read.
    """

    family = "retinanet"

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
        strides: Sequence[int] = (8, 16, 32),
        extra_levels: str = "p6p7",
        fpn_channels: int = 256,
        trainable_layers: int | None = None,
        anchor_sizes: Sequence[int] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        head_convs: int = 4,
        head_norm: str | None = None,
        prior: float = 0.01,
        min_size: int = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        nms_iou: float = 0.5,
        max_detections: int = 300,
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        ohem: bool = False,
        ohem_ratio: float = 3.0,
        ohem_minimum: int = 32,
    ) -> None:
        settings = settings_of(locals())
        contract = Contract.of(settings)
        common: dict[str, Any] = {
            "min_size": min_size,
            "max_size": max_size,
            "image_mean": list(image_mean),
            "image_std": list(image_std),
            "nms_thresh": nms_iou,
            "detections_per_img": max_detections,
        }
        classes = len(class_names) + 1
        if backbone in _OFFICIAL:
            refuse_ignored(RetinaNet, settings, _OFFICIAL[backbone][1])
            net = _OFFICIAL[backbone][0](weights=None, weights_backbone=None, num_classes=classes, **common)
        else:
            net = _generic(
                BackboneSpec.of(settings),
                classes,
                anchor_sizes,
                aspect_ratios,
                head_convs,
                head_norm,
                prior,
                common,
            )
        adopt(net.transform, PartialTransform)
        keep_boxes_exact(net)
        adopt(
            net.head,
            PartialRetinaNetHead,
            contract=contract,
            positive_iou=net.proposal_matcher.high_threshold,
        )
        super().__init__(net, class_names, settings)
        if backbone in _OFFICIAL:
            body = self.net.backbone.body
            finish(self, _OFFICIAL[backbone][1], body, resnet_stages(body))
        else:
            finish(self, None)


def _generic(
    spec: BackboneSpec,
    classes: int,
    anchor_sizes: Sequence[int] | None,
    aspect_ratios: Sequence[float],
    head_convs: int,
    head_norm: str | None,
    prior: float,
    common: dict[str, Any],
) -> UpstreamRetinaNet:
    pyramid = Pyramid(spec)
    anchors = retina_anchors(level_sizes(anchor_sizes, spec, pyramid.levels), aspect_ratios)
    per_place = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(spec.channels, per_place, classes, norm_layer=norm_layer(head_norm))
    head.classification_head = type(head.classification_head)(
        spec.channels, per_place, classes, prior, norm_layer(head_norm)
    )
    if not 1 <= head_convs <= 4:
        raise HemError(f"detector.head_convs must lie in 1..4, got {head_convs}")
    for part in (head.classification_head, head.regression_head):
        part.conv = part.conv[:head_convs]
    return UpstreamRetinaNet(pyramid, classes, anchor_generator=anchors, head=head, **common)


def retina_anchors(sizes: Sequence[int], aspect_ratios: Sequence[float]) -> AnchorGenerator:
    """Return anchors of three scales (1, 2^(1/3), 2^(2/3)) of each size; Lin et al., 2017, section 4."""
    scales = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in sizes)
    return AnchorGenerator(scales, (tuple(aspect_ratios),) * len(scales))


def norm_layer(name: str | None) -> Callable[[int], nn.Module] | None:
    """Return the norm layer of a detector's head by name: ``group``, ``batch`` or None."""
    if name is None:
        return None
    if name == "group":
        return group_norm
    if name == "batch":
        return partial(nn.BatchNorm2d, momentum=0.1)
    raise HemError(f"detector.head_norm: {name!r} is none of group, batch, null")
