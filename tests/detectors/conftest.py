"""Tiny detectors of every family, and images with coloured shapes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hem.detectors.faster_rcnn import FasterRCNN
from hem.detectors.fcos import FCOS
from hem.detectors.protocol import Detector
from hem.detectors.retinanet import RetinaNet
from hem.detectors.ssd import SSDLite
from hem.structures import Target

_PYRAMID = {
    "backbone": "mobilenetv3_small_050",
    "strides": (8, 16),
    "fpn_channels": 16,
    "extra_levels": "none",
    "min_size": 96,
    "max_size": 96,
    "bn_momentum": 0.1,
}
FAMILIES = ("faster_rcnn", "retinanet", "fcos", "ssd")


def build_tiny(family: str, seed: int = 0, class_names: tuple[str, ...] = ("disc", "square"), **more: object):
    torch.manual_seed(seed)
    if family == "faster_rcnn":
        small = {"representation": 16, "rpn_proposals": (60, 60), "rpn_batch": 32, "roi_batch": 32}
        detector: Detector = FasterRCNN(class_names=class_names, **(_PYRAMID | small | more))
    elif family == "retinanet":
        small = {"head_convs": 1, "head_norm": "group"}
        detector = RetinaNet(class_names=class_names, **(_PYRAMID | small | more))
    elif family == "fcos":
        detector = FCOS(class_names=class_names, **(_PYRAMID | {"head_convs": 1} | more))
    else:
        more.pop("ohem", None)
        small = {"backbone": "mobilenet_v3_small", "size": 96, "bn_momentum": 0.1, "smallest": 0.25}
        detector = SSDLite(class_names=class_names, **(small | more))
    return detector.train()


@pytest.fixture
def tiny() -> Callable[..., Detector]:
    torch.set_num_threads(1)
    return build_tiny


@pytest.fixture
def images() -> list[torch.Tensor]:
    generator = np.random.default_rng(3)
    return [torch.from_numpy(generator.integers(0, 255, (3, 96, 96), dtype=np.uint8)) for _ in range(2)]


@pytest.fixture
def labelled() -> list[Target]:
    return [
        Target(torch.tensor([[8.0, 8.0, 44.0, 40.0], [50.0, 52.0, 84.0, 88.0]]), torch.tensor([1, 2])),
        Target(torch.tensor([[20.0, 30.0, 60.0, 66.0]]), torch.tensor([2])),
    ]
