"""Each small preset learns eight images by heart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision.ops import box_iou

from hem.detectors.faster_rcnn import FasterRCNN
from hem.detectors.fcos import FCOS
from hem.detectors.retinanet import RetinaNet
from hem.detectors.ssd import SSDLite
from hem.structures import Target

CONF = Path(__file__).parents[2] / "conf" / "detector"
KINDS = {
    "small_retinanet": RetinaNet,
    "small_faster_rcnn": FasterRCNN,
    "small_fcos": FCOS,
    "small_ssdlite": SSDLite,
}


def preset(name, **more):
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    kind = KINDS[name]
    assert settings.pop("_target_") == f"{kind.__module__}.{kind.__qualname__}"
    return kind(class_names=("disc", "square"), **(settings | more))


def shapes(count, seed=0, size=192):
    """Noise with one to three discs (label 1) and squares (label 2) of 24 to 72 px that do not touch."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images, targets = [], []
    for _ in range(count):
        picture = random.integers(90, 130, (size, size, 3)).astype(np.uint8)
        boxes, labels = [], []
        for _ in range(20):
            side = int(random.integers(24, 72))
            left, top = random.integers(0, size - side, 2)
            box = [left, top, left + side, top + side]
            apart = all(box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in boxes)
            if not apart or len(boxes) == 3:
                continue
            label = int(random.integers(1, 3))
            inside = (abs(rows - top - side / 2) <= side / 2) & (abs(columns - left - side / 2) <= side / 2)
            if label == 1:
                inside = (rows - top - side / 2) ** 2 + (columns - left - side / 2) ** 2 <= side**2 / 4
            picture[inside] = random.integers(0, 255, 3)
            boxes.append(box)
            labels.append(label)
        images.append(torch.from_numpy(picture).permute(2, 0, 1).contiguous())
        targets.append(Target(torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)))
    return images, targets


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
@pytest.mark.parametrize("name", KINDS)
def test_overfits_eight_images(name):
    torch.manual_seed(0)
    detector = preset(name).train()
    images, targets = shapes(8)
    steps = 150
    optimiser = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(detector(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimiser.step()
        schedule.step()
    assert ap50(detector.detect(images, 0.05), targets) >= 0.9
