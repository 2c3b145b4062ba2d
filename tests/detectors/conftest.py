"""Tiny detectors of every family, and images with coloured shapes."""

import copy
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torchvision.models.vgg import cfgs

from hem.detectors.faster_rcnn import FasterRCNN
from hem.detectors.fcos import FCOS
from hem.detectors.protocol import Detector
from hem.detectors.retinanet import RetinaNet
from hem.detectors.rtdetr import RTDETR
from hem.detectors.ssd import SSD300, SSDLite
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
FAMILIES = (
    *("faster_rcnn", "retinanet", "fcos", "ssd", "ssd300"),
    pytest.param("detr", marks=pytest.mark.detr),
)
# VGG16's own chain of layers, with thin ones wherever SSD300 does not fix the width.
_THIN_VGG = [4, 4, "M", 4, 4, "M", 8, 8, 8, "M", 8, 8, 512, "M", 8, 8, 512, "M"]
_SMALL_DETR = {
    "network": {
        **{"d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        **{"encoder_in_channels": [16, 32, 32], "decoder_in_channels": [32, 32, 32], "decoder_layers": 2},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "hidden_expansion": 0.5},
    },
    "backbone_network": {
        **{"embedding_size": 8, "hidden_sizes": [8, 16, 32, 32], "depths": [1, 1, 1, 1]},
        "layer_type": "basic",
    },
    **{"size": 96, "queries": 20, "denoising": 8},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``family`` runs for every one, unless it names its own.

    SSD300 shares its class' code with SSDLite but for the network, which takes a second to build: it
    has the contract's properties, and the rest by its preset.
    """
    named = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "family" in metafunc.fixturenames and not any("family" in str(one) for one in named):
        properties = metafunc.module.__name__.endswith("test_properties")
        metafunc.parametrize("family", [one for one in FAMILIES if properties or one != "ssd300"])


_BUILT: dict[str, Detector] = {}


def build_tiny(family: str, seed: int = 0, class_names: tuple[str, ...] = ("disc", "square"), **more: object):
    """Return a fresh tiny detector; each kind is built once and copied."""
    key = repr((family, seed, class_names, sorted(more.items())))
    if key not in _BUILT:
        _BUILT[key] = _build(family, seed, class_names, **more)
    return copy.deepcopy(_BUILT[key])


def _build(family: str, seed: int, class_names: tuple[str, ...], **more: object):
    torch.manual_seed(seed)
    if family == "faster_rcnn":
        small = {"representation": 16, "rpn_proposals": (60, 60), "rpn_batch": 32, "roi_batch": 32}
        detector: Detector = FasterRCNN(class_names=class_names, **(_PYRAMID | small | more))
    elif family == "retinanet":
        small = {"head_convs": 1, "head_norm": "group"}
        detector = RetinaNet(class_names=class_names, **(_PYRAMID | small | more))
    elif family == "fcos":
        detector = FCOS(class_names=class_names, **(_PYRAMID | {"head_convs": 1} | more))
    elif family == "detr":
        more.pop("nms_iou", None)
        detector = RTDETR(class_names=class_names, **(_SMALL_DETR | more))
    elif family == "ssd300":
        more.pop("prior", None)
        with patch.dict(cfgs, D=_THIN_VGG):
            detector = SSD300(class_names=class_names, **more)
    else:
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
