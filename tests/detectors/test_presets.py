"""Every preset builds, trains a step and detects; torchvision's own models take torchvision's weights."""

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from torchvision.ops import FrozenBatchNorm2d

from hem.command_line import composed
from hem.config import OptimConfig
from hem.detectors.faster_rcnn import FasterRCNN
from hem.detectors.fcos import FCOS
from hem.detectors.retinanet import RetinaNet
from hem.detectors.ssd import SSDLite
from hem.errors import HemError
from hem.structures import Target

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "detector").glob("*.yaml"))


def presets(small):
    names = [name for name in PRESETS if name.startswith(("small_", "quickstart_")) == small]
    return [pytest.param(name, marks=pytest.mark.detr) if "rtdetr" in name else name for name in names]


SHARED = Path(os.environ.get("HEM_SHARED", ROOT.parent / "shared"))
FOREIGN = SHARED / "data" / "weights" / "legacy_nanodet_m.ckpt"


def build(name, **more):
    return instantiate(composed("train", [f"detector={name}"]).detector, class_names=["a", "b"], **more)


def step_and_detect(detector, size=128):
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(2)]
    targets = [
        Target(torch.tensor([[10.0, 10.0, 60.0, 70.0]]), torch.tensor([2])),
        Target(
            negatives_xyxy=torch.tensor([[50.0, 30.0, 100.0, 90.0]]),
            negative_labels=torch.tensor([1]),
            ignore_xyxy=torch.tensor([[0.0, 0.0, 40.0, 40.0]]),
        ),
    ]
    losses = detector.train()(images, targets)
    sum(losses.values()).backward()
    return losses, detector.detect(images, 0.5)


def assert_taught(losses, found):
    assert losses and all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert len(found) == 2


@pytest.mark.parametrize("name", presets(small=True))
def test_small_presets(name):
    assert_taught(*step_and_detect(build(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", presets(small=False))
def test_large_presets(name):
    more = {"weights": None}
    if "rtdetr" in name:
        more |= {"size": 128}
    else:
        more |= {"backbone_weights": None}
        more |= {} if "ssd" in name else {"min_size": 128, "max_size": 160}
    assert_taught(*step_and_detect(build(name, **more)))


def test_every_preset_has_a_learning_rate():
    """The table beside the presets names each of them, and its settings are ones there are."""
    table = (ROOT / "conf" / "detector" / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    patterns = [row[1].strip().strip("`") for row in rows]
    for name in PRESETS:
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    for row in rows:
        given = dict(part.split("=") for part in row[2].split("`")[1].split())
        assert OptimConfig(**given).lr > float(row[3]) > 0


_COMMON = {"strides": (8, 16), "extra_levels": "none", "fpn_channels": 128}
_ANCHORS = {"anchor_sizes": (16, 32, 64, 128, 256), "aspect_ratios": (1.0,)}
_IGNORED = {
    "faster_rcnn_resnet50": _COMMON | _ANCHORS | {"representation": 256},
    "faster_rcnn_resnet50_v2": _COMMON | _ANCHORS | {"representation": 256},
    "faster_rcnn_mobilenet": _COMMON | _ANCHORS | {"representation": 256},
    "faster_rcnn_mobilenet_320": _COMMON | _ANCHORS | {"representation": 256},
    "faster_rcnn_vgg16": _COMMON | {"representation": 256},
    "retinanet_resnet50": _COMMON | _ANCHORS | {"head_convs": 2, "head_norm": "group", "prior": 0.1},
    "retinanet_resnet50_v2": _COMMON | _ANCHORS | {"head_convs": 2, "head_norm": "batch", "prior": 0.1},
    "fcos_resnet50": _COMMON | {"head_convs": 2, "prior": 0.1},
}

_CLASSES = {"faster": FasterRCNN, "retinanet": RetinaNet, "fcos": FCOS}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in _IGNORED.items() for key in keys])
def test_a_setting_that_a_complete_network_does_not_read_is_refused(name, key):
    config = dict(composed("train", [f"detector={name}"]).detector)
    config |= {"weights": None, key: _IGNORED[name][key]}
    del config["_target_"]
    with pytest.raises(HemError, match=rf"detector\.{key}=.*leave it out.*detector\.backbone=torchvision:"):
        _CLASSES[name.split("_")[0]](class_names=["a"], **config)


@pytest.mark.parametrize("kind", [FasterRCNN, RetinaNet, FCOS])
def test_an_epsilon_that_no_layer_reads_is_refused(kind):
    said = r"detector\.frozen_eps=0\.0: .* has no batch norm that reads it"
    with pytest.raises(HemError, match=said):
        kind(class_names=["a"], backbone="shufflenet_v2_x0_5", fpn_channels=32, frozen_eps=0.0)
    with pytest.raises(HemError, match=said):  # complete, but not frozen
        kind(class_names=["a"], frozen_eps=0.0)
    frozen = kind(class_names=["a"], frozen_eps=0.25, backbone_norm="frozen")
    layers = [one for one in frozen.net.backbone.body.modules() if isinstance(one, FrozenBatchNorm2d)]
    assert layers and {one.eps for one in layers} == {0.25}


def test_what_a_complete_network_has_may_be_said():
    weightless = {"weights": None}
    build("faster_rcnn_mobilenet_320", **weightless, fpn_channels=256, aspect_ratios=[0.5, 1, 2])
    build("retinanet_resnet50_v2", **weightless, head_norm="group", anchor_sizes=[32, 64, 128, 256, 512])
    build("fcos_resnet50", **weightless, strides=[8, 16, 32], head_convs=4)


def test_without_a_network_the_error_says_how(monkeypatch):
    def unreachable(*arguments, **keywords):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(HemError, match=r"COCO_V1.*no route to host.*detector\.weights=/path/to/file\.pth"):
        SSDLite(class_names=["a"], weights="COCO_V1")
    with pytest.raises(HemError, match=r"COCO_V9.*not known"):
        SSDLite(class_names=["a"], weights="COCO_V9")


def test_plain_torchvision_checkpoint(tmp_path):
    """A detector trained with torchvision alone loads, freezes as torchvision would, and comes back."""
    from hem.detectors.weights import load_detector, save_detector

    torch.manual_seed(0)
    upstream = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    torch.save(upstream.state_dict(), tmp_path / "theirs.pth")
    ours = build("faster_rcnn_mobilenet_320", weights=str(tmp_path / "theirs.pth"), replace_head=False)
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    upstream.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        expected = upstream([image.float() / 255])[0]
    found = ours.detect([image], 0.0)[0]
    count = min(10, len(found))
    assert count > 0
    torch.testing.assert_close(found.scores[:count].float(), expected["scores"][:count], rtol=1e-4, atol=1e-5)
    body = ours.net.backbone.body
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules())
    assert not next(body.parameters()).requires_grad
    assert ours.settings["backbone_norm"] == "frozen" and ours.settings["trainable_layers"] == 3
    config = ours.decided({"weights": "theirs.pth", "replace_head": False})
    assert config["backbone_norm"] == "frozen" and config["trainable_layers"] == 3
    rebuilt = build("faster_rcnn_mobilenet_320", **(config | {"weights": None}))
    learns = [parameter.requires_grad for parameter in ours.parameters()]
    assert [parameter.requires_grad for parameter in rebuilt.parameters()] == learns
    save_detector(tmp_path / "ours.pt", ours)
    again = load_detector(tmp_path / "ours.pt")
    assert again.digest() == ours.digest()
    assert not next(again.net.backbone.body.parameters()).requires_grad


@pytest.mark.parametrize("name", ["faster_rcnn_shufflenet", "retinanet_shufflenet"])
def test_shufflenet_takes_a_foreign_backbone(name):
    if not FOREIGN.is_file():
        pytest.skip(f"{FOREIGN} is not there (set HEM_SHARED)")
    detector = build(
        name,
        backbone_weights=str(FOREIGN),
        backbone_weights_prefix="model.backbone.",
        backbone_activation="leaky_relu_0.1",
    )
    theirs = torch.load(FOREIGN, weights_only=True, map_location="cpu")["state_dict"]
    ours = detector.net.backbone.body.state_dict()
    assert all(torch.equal(value, theirs[f"model.backbone.{key}"]) for key, value in ours.items())
