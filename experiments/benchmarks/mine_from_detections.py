"""What mining from given detections costs beside decoding, and what queries cost beside the pass.

    python experiments/benchmarks/mine_from_detections.py [--frames 300] [--rounds 9]
        [--video FILE --detections FILE]

All by ``hem.mine_videos``, the call behind ``python -m hem.mine``, against reading the same file through
the same frame source. The ways take turns, in either order, and a ratio is the median over the rounds, with
its quartiles: a machine whose speed changes within seconds gives the best round to any way by luck. Three
tables:

- a 720p file made here, with three steady boxes in every frame and, in a share of the frames (the
  density), one box that overlap alone does not settle;
- with --video and --detections (authors' text): the published rule on that file;
- 100 settings answered from the evidence of a pass: with all thresholds of the kind moving, and with
  label_threshold fixed, as in the presets that come with hem.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from decode_rate import bare_pyav, moving_texture
from numpy.typing import NDArray
from torch import Tensor

from hem.api import mine_videos
from hem.artifacts.evidence import load_evidence
from hem.mining.collect import collect_evidence
from hem.mining.presets import Hem, Paper, Preset
from hem.mining.run import Rule, query
from hem.mining.sources import read_detections
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Detections, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings
from hem.video.manifest import scan_videos
from hem.video.source import open_source
from hem.video.writer import write_video

DENSITIES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
COLLECT = CollectSettings(floor_score=0.1, search_margin=None)


def side_by_side(rounds: int, ways: Mapping[str, Callable[[], object]]) -> dict[str, NDArray[np.float64]]:
    """Return each way's seconds, (rounds,): a round takes all of them, every other one backwards."""
    seconds = {name: np.zeros(rounds) for name in ways}
    for number in range(rounds):
        order = list(ways)
        for name in reversed(order) if number % 2 else order:
            start = time.perf_counter()
            ways[name]()
            seconds[name][number] = time.perf_counter() - start
    return seconds


def best(rounds: int, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of each way's best round."""
    return {name: float(seconds.min()) for name, seconds in side_by_side(rounds, ways).items()}


def share(whole: NDArray[np.float64], part: NDArray[np.float64]) -> str:
    """Return the median of ``whole / part`` over the rounds, with its quartiles."""
    lower, ratio, upper = np.quantile(whole / part, (0.25, 0.5, 0.75))
    return f"{ratio:.2f}x ({lower:.2f} to {upper:.2f})"


def plain_loop(video: VideoInfo) -> float:
    """Return the frames/s of a plain PyAV loop with ``to_ndarray``, for reference."""
    start = time.perf_counter()
    return bare_pyav(Path(video.path), "AUTO") / (time.perf_counter() - start)


def decode(video: VideoInfo) -> int:
    """Read every frame, nothing else."""
    with open_source(video, batch_size=16) as source:
        return sum(len(batch) for batch in source)


def mining(video: VideoInfo, detections: Path, preset: Preset, work: Path) -> Callable[[], object]:
    """Return a call that mines afresh."""
    collect = None if isinstance(preset, Paper) else COLLECT

    def run() -> object:
        shutil.rmtree(work / "mined", ignore_errors=True)
        return mine_videos([video], preset, detections=detections, collect=collect, output_dir=work / "mined")

    return run


def write_detections(path: Path, frames: int, density: float) -> None:
    """Write authors' text: three steady boxes a frame, and lone ones at the density."""
    rng = np.random.default_rng(1)
    lines = []
    for t in range(frames):
        rows = [(200 + 300 * k, 300, 90, 110, 0.9) for k in range(3)]
        if int((t + 1) * density) > int(t * density):
            rows.append((*rng.uniform((60, 60), (1100, 180)), 80, 100, 0.85))
        lines += [f"frame{t + 1}.jpg", str(len(rows)), *(" ".join(f"{v:.2f}" for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def curve(frames: int, rounds: int, work: Path) -> None:
    """Print rates over densities, as shares of decoding alone."""
    write_video(work / "made.mp4", moving_texture(720, 1280, frames), fps=25)
    video = scan_videos(work / "made.mp4").videos[0]
    print(f"\na plain PyAV loop: {max(plain_loop(video) for _ in range(rounds)):.0f} frames/s")
    print("\n| density of open candidates | decode, frames/s | paper | hem |\n|---|---|---|---|")
    for density in DENSITIES:
        path = work / "made.txt"
        write_detections(path, frames, density)
        ways = {
            "decode": lambda: decode(video),
            "paper": mining(video, path, Paper(), work),
            "hem": mining(video, path, Hem(), work),
        }
        times = side_by_side(rounds, ways)
        shares = " | ".join(share(times["decode"], times[name]) for name in ("paper", "hem"))
        print(f"| {density:g} | {frames / np.median(times['decode']):.0f} | {shares} |", flush=True)


def published(path: Path, detections: Path, rounds: int, work: Path) -> None:
    """Print the published rule's rate on a file."""
    video = scan_videos(path).videos[0]
    frames = decode(video)
    ways = {"decode": lambda: decode(video), "paper": mining(video, detections, Paper(), work)}
    print("\n| published rule from detections | frames/s | best round | of decoding |\n|---|---|---|---|")
    for name, seconds in (times := side_by_side(rounds, ways)).items():
        rates = f"{frames / np.median(seconds):.0f} | {frames / seconds.min():.0f}"
        print(f"| {name} | {rates} | {share(times['decode'], seconds)} |", flush=True)


def pass_with_detector(video: VideoInfo, found: VideoDetections) -> float:
    """Return the seconds of a pass in which small_retinanet runs in full and ``found`` is its answer."""
    from mine_with_detector import network

    detector, done = network("small_retinanet"), 0

    def detect(batch: Tensor) -> list[Detections]:
        nonlocal done
        detector.detect(batch, floor_score=COLLECT.floor_score)
        done += len(batch)
        return [found.frame(index) for index in range(done - len(batch), done)]

    start = time.perf_counter()
    with open_source(video, batch_size=8, end_frame=found.n_frames) as source:
        collect_evidence(source, detect=detect, settings=COLLECT)
    return time.perf_counter() - start


def queries(path: Path, detections: Path, rounds: int, work: Path) -> None:
    """Print what 100 settings cost beside a pass without and with a detector, best rounds of each."""
    video = scan_videos(path).videos[0]
    collecting = best(rounds, {"": mining(video, detections, Hem(), work)})[""]
    found = read_detections(detections, video)
    detecting = min(pass_with_detector(video, found) for _ in range(min(rounds, 3)))
    rng = np.random.default_rng(0)
    moving = [
        replace(
            TemporalThresholds(0.5, 0.2),
            score_threshold=float(rng.uniform(0.3, 0.8)),
            steadiness_threshold=float(rng.uniform(0.02, 0.3)),
            ncc_threshold=float(rng.uniform(0.2, 0.8)),
        )
        for _ in range(100)
    ]
    fixed = [replace(one, label_threshold=0.85) for one in moving]
    print("\n| 100 settings, evidence loaded afresh | seconds | of a pass without detector | with |")
    print("|---|---|---|---|")
    print(f"| the pass itself, without and with small_retinanet | | {collecting:.2f} s | {detecting:.2f} s |")
    folder = next((work / "mined" / "evidence").iterdir())

    def asked(rule: Rule, settings: list[TemporalThresholds]) -> Callable[[], object]:
        both = [HemThresholds(one, ElicitedThresholds()) if rule == "hem" else one for one in settings]

        def run() -> None:
            evidence = load_evidence(folder)
            for one in both:
                query(evidence, rule, one)

        return run

    rules: tuple[Rule, ...] = ("temporal", "hem")
    kinds = {"scores move": moving, "labels fixed": fixed}
    ways = {f"{rule}, {name}": asked(rule, settings) for rule in rules for name, settings in kinds.items()}
    for name, seconds in best(max(rounds, 7), ways).items():
        shares = f"{seconds / collecting:.1%} | {seconds / detecting:.1%}"
        print(f"| {name} | {seconds:.3f} | {shares} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--detections", type=Path)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if arguments.video is not None:
            published(arguments.video, arguments.detections, arguments.rounds, work)
            queries(arguments.video, arguments.detections, arguments.rounds, work)
        curve(arguments.frames, arguments.rounds, work)
        if arguments.video is None:
            queries(work / "made.mp4", work / "made.txt", arguments.rounds, work)
    print(f"load after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
