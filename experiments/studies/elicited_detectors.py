"""Small pedestrian detectors for the studies: torchvision heads on a ShuffleNetV2, trained on Penn-Fudan.

Two families, minutes of CPU each; only their weak and strong points matter here, not their figures.
"""

import re
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CHANNELS = 96
SIDES = (200, 240, 280, 320)  # shorter sides drawn from in training; the last one is used to detect
STAGES = ("stage2", "stage3", "stage4")


class ShuffleFpn(nn.Module):
    """ShuffleNetV2 x1.0 with a feature pyramid of strides 8, 16, 32 and 64."""

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        body = torchvision.models.shufflenet_v2_x1_0(weights=None)
        self.body = nn.ModuleDict({name: getattr(body, name) for name in ("conv1", "maxpool", *STAGES)})
        for module in list(self.body.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU):  # the stored weights were trained with this slope
                    setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
        if weights is not None:
            self._load(weights)
        self.fpn = FeaturePyramidNetwork([116, 232, 464], CHANNELS, extra_blocks=LastLevelMaxPool())
        self.out_channels = CHANNELS

    def _load(self, path: Path) -> None:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        stored = stored.get("state_dict", stored)
        prefix = "model.backbone."
        wanted = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
        own = self.body.state_dict()
        missing = sorted(set(own) - set(wanted))
        if missing:
            raise SystemExit(f"{path} lacks {missing[:3]} …: not the backbone expected")
        first = wanted["conv1.0.weight"]
        wanted["conv1.0.weight"] = first[:, [2, 1, 0]]  # stored for BGR, fed RGB here
        self.body.load_state_dict({name: wanted[name] for name in own})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps by name."""
        features = self.body["maxpool"](self.body["conv1"](images))
        maps = {}
        for name in STAGES:
            features = self.body[name](features)
            maps[name] = features
        return dict(self.fpn(maps))


def build(family: str, weights: Path | None) -> nn.Module:
    """Return an untrained ``retinanet`` or ``faster_rcnn`` for one class (label 1)."""
    backbone = ShuffleFpn(weights)
    ratios = ((1.0, 2.0, 3.0),) * 4
    more = {"min_size": SIDES, "max_size": 640}
    if family == "retinanet":
        sizes = tuple(tuple(int(s * 2 ** (k / 3)) for k in range(3)) for s in (24, 48, 96, 192))
        anchors = AnchorGenerator(sizes, ratios)
        head = RetinaNetHead(CHANNELS, anchors.num_anchors_per_location()[0], 2)
        return RetinaNet(
            backbone,
            2,
            anchor_generator=anchors,
            head=head,
            score_thresh=0.02,
            detections_per_img=100,
            topk_candidates=400,
            **more,
        )
    anchors = AnchorGenerator(((24, 36), (48, 68), (96, 136), (192, 272)), ratios)
    return FasterRCNN(
        backbone, rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign([*STAGES], 7, 2),
        box_head=TwoMLPHead(CHANNELS * 49, 256),
        box_predictor=torchvision.models.detection.faster_rcnn.FastRCNNPredictor(256, 2),
        rpn_pre_nms_top_n_test=400, rpn_post_nms_top_n_test=150, rpn_pre_nms_top_n_train=800,
        rpn_post_nms_top_n_train=400, box_batch_size_per_image=128, box_score_thresh=0.02,
        box_detections_per_img=100, **more,
    )  # fmt: skip


def penn_fudan(root: Path) -> list[tuple[Tensor, Tensor]]:
    """Return (image uint8 (3, H, W) RGB, boxes float32 (N, 4)) of every photograph, sorted by name."""
    items = []
    for path in sorted((root / "PNGImages").glob("*.png")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        text = (root / "Annotation" / f"{path.stem}.txt").read_text(encoding="latin-1")
        found = re.findall(r"\((\d+), (\d+)\) - \((\d+), (\d+)\)", text)
        boxes = np.array([[int(v) for v in row] for row in found], dtype=np.float32).reshape(-1, 4)
        boxes[:, :2] -= 1  # corners count from 1, both ends inside
        items.append((torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(boxes)))
    return items


def train(family: str, shared: Path, *, steps: int = 260, batch: int = 4, seed: int = 0) -> nn.Module:
    """Train one detector on two thirds of Penn-Fudan (every third photograph is held out)."""
    torch.manual_seed(seed)  # layers are built by torchvision, which knows only the global generator
    model = build(family, shared / "data" / "weights" / "legacy_nanodet_m.ckpt")
    items = [item for i, item in enumerate(penn_fudan(shared / "data" / "pennfudan")) if i % 3]
    generator = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # a batch of four says less than the stored statistics
    begun = time.perf_counter()
    for step in range(steps):
        chosen = [items[int(i)] for i in generator.choice(len(items), batch, replace=False)]
        images, targets = zip(*[_augment(*item, generator) for item in chosen], strict=True)
        losses = model(list(images), list(targets))
        loss = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            print(
                f"{family} step {step} loss {float(loss.detach()):.3f} {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    return model.eval()


def _augment(
    image: Tensor, boxes: Tensor, generator: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    if generator.random() < 0.5:
        image = image.flip(2)
        boxes = torch.stack(
            [image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0], boxes[:, 3]], 1
        )
    gain = float(generator.uniform(0.7, 1.3))
    scaled = (image.float() / 255 * gain).clamp(0, 1)
    return scaled, {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}


@torch.inference_mode()
def detect(model: nn.Module, frames: Tensor, floor: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (boxes float64 (N, 4), scores float64 (N,)) of each uint8 frame (B, 3, H, W)."""
    results = model([frame.float() / 255 for frame in frames])
    found = []
    for result in results:
        keep = result["scores"] >= floor
        found.append((result["boxes"][keep].double().numpy(), result["scores"][keep].double().numpy()))
    return found
