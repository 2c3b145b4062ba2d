"""FCOS (Tian et al., 2019) on any backbone."""

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection import FCOS as UpstreamFCOS
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from hem.detectors.backbones import BackboneSpec, Pyramid, group_norm
from hem.detectors.contract import Contract, PartialTransform, adopt
from hem.detectors.official import Official, finish, refuse_ignored, resnet_stages
from hem.detectors.one_stage import PartialFCOSHead
from hem.detectors.precision import keep_boxes_exact
from hem.detectors.protocol import Detector, settings_of
from hem.errors import HemError

_OFFICIAL = Official(
    "fcos_resnet50_fpn",
    "resnet50",
    fixed={
        "strides": (8, 16, 32),
        "extra_levels": "p6p7",
        "fpn_channels": 256,
        "head_convs": 4,
        "prior": 0.01,
    },
)


class FCOS(Detector):
    """FCOS behind hem's protocol.

    Args:
        class_names: names of labels 1, 2, ….
        backbone: ``resnet50_fpn`` (torchvision's own model, whose published weights fit) or any name
            of BackboneSpec, with a pyramid.
        weights: of the whole detector: None, a published name (``COCO_V1``), or a local file.
        replace_head: see Detector.load_weights.
        backbone_weights … trainable_layers: see BackboneSpec; torchvision's own model has its
            strides, levels and channels (another value is an error), and counts trainable layers
            from 0 to 5.
        frozen_eps: see FasterRCNN.
        head_convs: convolutions before the outputs, >= 1; torchvision's own model has 4.
        prior: probability of an object at every output before training, in (0, 1); torchvision's own
            model has 0.01.
        centre_radius: points within this many strides of a box's centre are positives, > 0.
        min_size, max_size, image_mean, image_std, nms_iou, max_detections: see RetinaNet.
        ignore_ioa (unused by points), soft_lambda, soft_temperature, ohem, ohem_ratio, ohem_minimum:
            see Contract. A point is ignored where it lies in an ignore region.

    Raises:
        HemError: on a value out of range, an unknown name, weights that do not fit, or a setting that
            the named network would not read.
    """

    family = "fcos"

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
        head_convs: int = 4,
        prior: float = 0.01,
        centre_radius: float = 1.5,
        min_size: int = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        nms_iou: float = 0.6,
        max_detections: int = 100,
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        ohem: bool = False,
        ohem_ratio: float = 3.0,
        ohem_minimum: int = 32,
    ) -> None:
        settings = settings_of(locals())
        contract = Contract.of(settings)
        options: dict[str, Any] = {
            "min_size": min_size,
            "max_size": max_size,
            "image_mean": list(image_mean),
            "image_std": list(image_std),
            "nms_thresh": nms_iou,
            "detections_per_img": max_detections,
            "center_sampling_radius": centre_radius,
        }
        classes = len(class_names) + 1
        if backbone == "resnet50_fpn":
            refuse_ignored(FCOS, settings, _OFFICIAL)
            net = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes, **options)
        else:
            net = _generic(BackboneSpec.of(settings), classes, head_convs, prior, options)
        adopt(net.transform, PartialTransform)
        keep_boxes_exact(net)
        adopt(net.head, PartialFCOSHead, contract=contract, radius=centre_radius)
        super().__init__(net, class_names, settings)
        if backbone == "resnet50_fpn":
            body = self.net.backbone.body
            finish(self, _OFFICIAL, body, resnet_stages(body))
        else:
            finish(self, None)


def _generic(
    spec: BackboneSpec, classes: int, head_convs: int, prior: float, options: dict[str, Any]
) -> UpstreamFCOS:
    if head_convs < 1 or not 0 < prior < 1:
        raise HemError(
            f"detector: head_convs must be >= 1 and prior lie in (0, 1), got {head_convs} and {prior}"
        )
    pyramid = Pyramid(spec)
    coarser = [spec.strides[-1] * 2 ** (step + 1) for step in range(pyramid.levels - len(spec.strides))]
    cells = tuple((stride,) for stride in (*spec.strides, *coarser))
    # Built narrow for its box coder: its own GroupNorm takes multiples of 32 channels only.
    head = FCOSHead(32, 1, classes, 1)
    head.classification_head = FCOSClassificationHead(
        spec.channels, 1, classes, head_convs, prior, group_norm
    )
    head.regression_head = FCOSRegressionHead(spec.channels, 1, head_convs, group_norm)
    return UpstreamFCOS(
        pyramid,
        classes,
        anchor_generator=AnchorGenerator(cells, ((1.0,),) * len(cells)),
        head=head,
        **options,
    )
