"""Training steps a second: hem's detectors against the same networks as plain torchvision or transformers.

    python experiments/benchmarks/training_steps.py small_retinanet small_faster_rcnn --steps 30

For each preset of conf/detector, one network, three ways, step by step in turn so that whatever else
the machine does falls on all alike: torchvision's own loss, hem with the same fully labelled images,
and hem with half of the images partly labelled (weights, two hard negatives, two ignore regions).
The ratio is the median over rounds of plain time / hem time of that round; wanted are 0.97 or more
fully labelled and 0.95 or more with replay. ``--cpu-time`` counts the process's own CPU seconds,
which a busy machine disturbs less.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import hydra.utils
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.ops import box_convert

from hem.detectors.protocol import Detector
from hem.structures import Target

CONF = Path(__file__).parents[2] / "conf" / "detector"


def plain_copy(net: nn.Module) -> nn.Module:
    """Return the same network with torchvision's own classes."""
    plain = copy.deepcopy(net)
    for module in plain.modules():
        parent = type(module).__mro__[1]
        if type(module).__name__.startswith("Partial") and parent.__module__.startswith("torchvision"):
            module.__class__ = parent
    return plain


def batch(count: int, size: int) -> tuple[list[Tensor], list[Target], list[Target]]:
    """Return images, fully labelled targets, and targets of which every second is partly labelled."""
    random = torch.Generator().manual_seed(0)
    images, full, partly = [], [], []
    for index in range(count):
        images.append(torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=random))
        corners = torch.rand(8, 2, generator=random) * size * 0.6
        sides = (0.1 + 0.25 * torch.rand(8, 2, generator=random)) * size
        boxes = torch.cat([corners, corners + sides], dim=1)
        full.append(Target(boxes[:4], torch.ones(4)))
        mixed = Target(
            boxes[:2],
            torch.ones(2),
            weights=torch.tensor([1.0, 0.5]),
            negatives_xyxy=boxes[4:6],
            negative_weights=torch.tensor([2.0, 1.0]),
            ignore_xyxy=boxes[6:],
            conflict_iou=2.0,
        )
        partly.append(full[-1] if index % 2 else mixed)
    return images, full, partly


def plain_step(
    detector: Detector, images: list[Tensor], full: list[Target], device: torch.device
) -> tuple[Callable[[], dict[str, Tensor]], nn.Module]:
    """Return a function that gives the losses of upstream's own network, and that network."""
    if detector.family != "detr":
        net = plain_copy(detector.net).to(device)

        def torchvision_step() -> dict[str, Tensor]:
            floats = [image.to(device).float().div_(255) for image in images]
            labels = [{"boxes": t.boxes_xyxy.to(device), "labels": t.labels.to(device)} for t in full]
            return net(floats, labels)

        return torchvision_step, net
    kind = next(k for k in type(detector.net).__mro__ if k.__module__.startswith("transformers."))
    net = kind(detector.net.config).train().to(device)
    net.load_state_dict(detector.net.state_dict())

    def transformers_step() -> dict[str, Tensor]:
        pixels = torch.stack([image.to(device).float().div_(255) for image in images])
        labels = []
        for target in full:
            boxes = box_convert(target.boxes_xyxy, "xyxy", "cxcywh") / images[0].shape[1]
            labels.append({"boxes": boxes.to(device), "class_labels": target.labels.to(device) - 1})
        return net(pixels, labels=labels).loss_dict

    return transformers_step, net


def timed(
    step: Callable[[], dict[str, Tensor]], optimiser: torch.optim.Optimizer, clock: Callable[[], float]
) -> float:
    """Return the seconds of one optimisation step."""
    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    synchronise()
    start = clock()
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(step().values())).sum().backward()
    optimiser.step()
    synchronise()
    return clock() - start


def compare(name: str, steps: int, count: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return seconds a step of the plain network, and the two ratios."""
    settings = OmegaConf.load(CONF / f"{name}.yaml")
    detector: Detector = hydra.utils.instantiate(settings, class_names=["object"]).train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    partial_net = copy.deepcopy(detector).to(device)
    detector.to(device)
    images, full, partly = batch(count, int(settings.get("min_size") or settings.get("size") or 640))

    upstream, plain = plain_step(detector, images, full, device)
    ways = {
        "plain": (upstream, torch.optim.SGD(plain.parameters(), lr=1e-4)),
        "labelled": (lambda: detector(images, full), torch.optim.SGD(detector.parameters(), lr=1e-4)),
        "replay": (lambda: partial_net(images, partly), torch.optim.SGD(partial_net.parameters(), lr=1e-4)),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(steps + 2):
        for way in sorted(ways, reverse=bool(round_ % 2)):
            taken = timed(*ways[way], clock)
            if round_ >= 2:
                seconds[way].append(taken)

    def ratio(way: str) -> float:
        return statistics.median(p / h for p, h in zip(seconds["plain"], seconds[way], strict=True))

    return {
        "plain_s": statistics.median(seconds["plain"]),
        "labelled": ratio("labelled"),
        "replay": ratio("replay"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("presets", nargs="*", default=["small_retinanet", "small_faster_rcnn"])
    parser.add_argument("--steps", type=int, default=20, help="rounds that count, after two that do not")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of this process, not wall time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(f"{'preset':28} {'plain s/step':>12} {'labelled':>9} {'replay':>7}")
    for name in options.presets:
        found = compare(name, options.steps, options.batch, clock)
        print(
            f"{name:28} {found['plain_s']:12.3f} {found['labelled']:9.3f} {found['replay']:7.3f}", flush=True
        )


if __name__ == "__main__":
    main()
