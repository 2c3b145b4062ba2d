"""Each small preset learns eight images of the embedded world by heart, all with one learning rate."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision.ops import box_iou

from hem.data.embedded import embedded
from hem.detectors.faster_rcnn import FasterRCNN
from hem.detectors.fcos import FCOS
from hem.detectors.retinanet import RetinaNet
from hem.detectors.rtdetr import RTDETR
from hem.detectors.ssd import SSDLite

CONF = Path(__file__).parents[2] / "conf" / "detector"
KINDS = {
    "small_retinanet": RetinaNet,
    "small_faster_rcnn": FasterRCNN,
    "small_fcos": FCOS,
    "small_ssdlite": SSDLite,
    "small_rtdetr": RTDETR,
}


def preset(name, **more):
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    kind = KINDS[name]
    assert settings.pop("_target_") == f"{kind.__module__}.{kind.__qualname__}"
    return kind(class_names=("face", "car"), **(settings | more))


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight stills of the embedded world: images and targets."""
    world = embedded(
        tmp_path_factory.mktemp("world"),
        seed=7,
        n_train=8,
        n_test=1,
        n_unlabelled_videos=1,
        n_heldout_videos=1,
        frames_per_video=12,
        frames_per_heldout_video=12,
        workers=1,
    )
    samples = [world.train[index] for index in range(8)]
    return [sample.image for sample in samples], [sample.target for sample in samples]


def ap50(found, targets):
    """Area under the interpolated precision-recall curve at IoU 0.5, mean over the two classes."""
    areas = []
    for label in (1, 2):
        hits, total = [], 0
        for one, target in zip(found, targets, strict=True):
            truth = target.boxes_xyxy[target.labels == label]
            total += len(truth)
            free = torch.ones(len(truth), dtype=torch.bool)
            one = one.of_class(label)
            for box, score in zip(one.boxes_xyxy.float(), one.scores.tolist(), strict=True):
                overlap = box_iou(box[None], truth)[0] * free if len(truth) else torch.zeros(0)
                hit = len(overlap) > 0 and float(overlap.max()) >= 0.5
                if hit:
                    free[int(overlap.argmax())] = False
                hits.append((score, hit))
        flags = np.array([hit for _, hit in sorted(hits, key=lambda pair: -pair[0])], dtype=float)
        good = flags.cumsum()
        precision = good / np.arange(1, len(flags) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        areas.append(float((precision * flags).sum() / max(1, total)))
    return float(np.mean(areas))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.detr) if "rtdetr" in name else name for name in KINDS]
)
def test_overfits_eight_images(name, eight):
    torch.manual_seed(0)
    detector = preset(name).train()
    images, targets = eight
    steps = 200
    optimiser = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(detector(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimiser.step()
        schedule.step()
    assert ap50(detector.detect(images, 0.05), targets) >= 0.9
