"""Frames per second of decode + detect alone, and of the same with temporal evidence collected.

    python experiments/benchmarks/mine_with_detector.py [--frames 300] [--rounds 16] [--seconds 20]
        [--detectors small_retinanet faster_rcnn_mobilenet]

Random weights answer with noise or nothing, so each network runs in full and the boxes it hands out are
replaced: three steady ones a frame and, in one frame of ten, one that overlap alone does not settle.
The cost of the network does not depend on them, that of mining does. Evidence is collected as a run
does it, files and all. Beside decode + detect, one batch after the other, stands the same with the next
batch begun before the last is answered, as a run does it: what evidence adds to that is its own cost. The
ways are measured side by side, in either order by turns, and a ratio is
the median over the rounds, with its quartiles: a machine whose speed changes within seconds gives the best
round to either way by luck. A slow network is given fewer frames, so that a way takes about --seconds.
Opening a file and writing its evidence have a price of their own, which weighs on short videos.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decode_rate import moving_texture
from mine_from_detections import COLLECT, share, side_by_side
from omegaconf import OmegaConf
from torch import Tensor

from hem.allocator import keep_freed_memory
from hem.config import VideoConfig
from hem.detectors.protocol import Detector
from hem.instantiate import instantiate
from hem.ops.ahead import asked_ahead
from hem.structures import Detections, VideoInfo
from hem.training.evidence_pass import run_pass
from hem.training.video_data import VideoData
from hem.video.manifest import scan_videos
from hem.video.source import open_source
from hem.video.writer import write_video


def boxes_of(frame: int) -> Detections:
    """Return what a sensible detector would say of a 720p frame."""
    rows = [(200.0 + 300 * k, 300.0, 290.0 + 300 * k, 410.0, 0.9) for k in range(3)]
    if frame % 10 == 5:
        x, y = np.random.default_rng(frame).uniform((60, 60), (1100, 180))
        rows.append((x, y, x + 80, y + 100, 0.85))
    table = torch.tensor(rows, dtype=torch.float64)
    return Detections(table[:, :4], table[:, 4], torch.ones(len(rows), dtype=torch.int64))


def network(name: str) -> Detector:
    """Return a detector of the configuration with random weights."""
    path = Path(__file__).parents[2] / "conf" / "detector" / f"{name}.yaml"
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(node, dict)
    node = {key: value for key, value in node.items() if key != "replace_head"} | {"weights": None}
    torch.manual_seed(0)
    detector: Detector = instantiate(node, "detector", Detector, class_names=("object",))
    return detector.eval()


def affordable(detector: Detector, video: VideoInfo, frames: int, seconds: float) -> int:
    """Return how many frames, from 24 to ``frames``, the network alone reads in ``seconds``."""
    with open_source(video, batch_size=1, end_frame=2) as source:
        for batch in source:  # the first one warms up
            start = time.perf_counter()
            detector.detect(batch.frames, floor_score=COLLECT.floor_score)
            taken = time.perf_counter() - start
    return min(frames, max(24, int(seconds / taken)))


class Steered:
    """A network that runs in full and whose boxes are replaced; what a pass needs of a detector."""

    class_names = ("object",)
    score_range = (0.0, 1.0)

    def __init__(self, network: Detector) -> None:
        self._network = network
        self._ask: Any = None
        self.done = 0

    def digest(self) -> str:
        """Return the network's."""
        return self._network.digest()

    @contextmanager
    def asking(self, floor_score: float) -> Iterator["Steered"]:
        """Give itself, asked as the network is."""
        with self._network.asking(floor_score) as self._ask:
            yield self

    def __call__(self, frames: Tensor) -> list[Detections]:
        """Return what ``boxes_of`` says of the next frames."""
        return self.begin(frames)()

    def begin(self, frames: Tensor) -> Callable[[], list[Detections]]:
        """Return what gives that, once the network has answered."""
        answer = self._ask.begin(frames)

        def finish() -> list[Detections]:
            answer()
            self.done += len(frames)
            return [boxes_of(k) for k in range(self.done - len(frames), self.done)]

        return finish


def measure(name: str, video: VideoInfo, frames: int, rounds: int, seconds: float) -> None:
    """Print one detector's rates."""
    detector = network(name)
    frames = affordable(detector, video, frames, seconds)
    shorter = Path(video.path).with_name(f"{frames}.mp4")
    write_video(shorter, moving_texture(720, 1280, frames), fps=25)
    data = VideoData(scan_videos(shorter).videos, VideoConfig(batch_size=8))

    def alone() -> None:
        done = 0
        with data.source(data.videos[0]) as source:
            for batch in source:
                detector.detect(batch.frames, COLLECT.floor_score)
                done += len([boxes_of(k) for k in range(done, done + len(batch))])

    def ahead() -> None:
        with data.source(data.videos[0]) as source, Steered(detector).asking(COLLECT.floor_score) as steered:
            for _ in asked_ahead(source, steered):
                pass

    def with_evidence() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_pass(Steered(detector), data, COLLECT, Path(folder))  # type: ignore[arg-type]

    times = side_by_side(rounds, {"alone": alone, "ahead": ahead, "evidence": with_evidence})
    rates = " | ".join(f"{frames / np.median(one):.1f}" for one in times.values())
    print(
        f"| {name} | {frames} | {rounds} | {rates} | {share(times['alone'], times['evidence'])} "
        f"| {share(times['ahead'], times['evidence'])} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--detectors", nargs="+", default=["small_retinanet", "faster_rcnn_mobilenet"])
    arguments = parser.parse_args()
    kept = "" if keep_freed_memory() else "not "  # as the commands do
    print(f"{os.cpu_count()} cores, freed memory {kept}kept, load before {os.getloadavg()[0]:.1f}")
    print(
        "| detector | frames | rounds | decode + detect, frames/s | asked ahead | with temporal evidence "
        "| to decode + detect | to asked ahead |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.mp4"
        write_video(path, moving_texture(720, 1280, arguments.frames), fps=25)
        for name in arguments.detectors:
            video = scan_videos(path).videos[0]
            measure(name, video, arguments.frames, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
