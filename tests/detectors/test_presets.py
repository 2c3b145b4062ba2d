"""Every preset builds, trains a step and detects; torchvision's own models take torchvision's weights."""

import os
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hem.detectors.ssd import SSDLite
from hem.errors import HemError
from hem.structures import Target

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "detector").glob("*.yaml"))
SMALL = [name for name in PRESETS if name.startswith("small_")]
SHARED = Path(os.environ.get("HEM_SHARED", ROOT.parent / "shared"))
FOREIGN = SHARED / "data" / "weights" / "legacy_nanodet_m.ckpt"


def build(name, **more):
    settings = OmegaConf.load(ROOT / "conf" / "detector" / f"{name}.yaml")
    return instantiate(settings, class_names=["a", "b"], **more)


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
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    assert len(detector.detect(images, 0.5)) == 2


@pytest.mark.parametrize("name", SMALL)
def test_small_presets(name):
    step_and_detect(build(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name not in SMALL])
def test_large_presets(name):
    more = {"weights": None, "backbone_weights": None}
    if "ssd" not in name:
        more |= {"min_size": 128, "max_size": 160}
    step_and_detect(build(name, **more))


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
