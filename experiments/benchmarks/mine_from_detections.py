"""Frames per second of the published rule from given detections, against plain decoding of the file.

    python experiments/benchmarks/mine_from_detections.py VIDEO DETECTIONS [--repeats 5]

Detections in the authors' text format. Both are timed alternately in one process, decoding with
OpenCV's reader, and the best of the repeats is kept: a loaded machine spoils single runs. Then the
same with evidence collection, and the cost of 100 settings answered from it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from hem.mining.collect import collect_evidence
from hem.mining.paper import PaperThresholds, query_paper
from hem.mining.sources import read_detections
from hem.mining.stream import stream_paper
from hem.mining.temporal import query_temporal
from hem.mining.thresholds import TemporalThresholds
from hem.structures import FrameBatch, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings


def reader(path: Path) -> Callable[[np.ndarray], Iterator[tuple[int, np.ndarray]]]:
    def read(wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        capture = cv2.VideoCapture(str(path))
        for index in range(len(wanted)):
            if not capture.grab():
                return
            if wanted[index]:
                yield index, capture.retrieve()[1]

    return read


def batches(path: Path, video: VideoInfo, count: int) -> Iterator[FrameBatch]:
    pictures = reader(path)(np.ones(count, dtype=bool))
    for index, picture in pictures:
        frame = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1])).permute(2, 0, 1)
        at = torch.tensor([index])
        yield FrameBatch(video, frame[None], at, at.double() / video.fps)


def best_of(repeats: int, action: Callable[[], object]) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def queries(path: Path, found: VideoDetections) -> None:
    start = time.perf_counter()
    evidence = collect_evidence(batches(path, found.video, found.n_frames), found, settings=CollectSettings())
    collecting = time.perf_counter() - start
    generator = np.random.default_rng(0)
    settings = [
        replace(
            TemporalThresholds(0.5, 0.2, max_gap=5),
            score_threshold=float(generator.uniform(0.3, 0.8)),
            steadiness_threshold=float(generator.uniform(0.02, 0.3)),
            ncc_threshold=float(generator.uniform(0.2, 0.8)),
        )
        for _ in range(100)
    ]
    start = time.perf_counter()
    for item in settings:
        query_temporal(evidence, item)
    temporal = time.perf_counter() - start
    start = time.perf_counter()
    for item in settings:
        query_paper(evidence, PaperThresholds(score_threshold=max(0.7, item.score_threshold)))
    paper = time.perf_counter() - start
    print(f"| collecting, no detector | {found.n_frames / collecting:.0f} frames/s | {collecting:.2f} s |")
    print(f"| 100 settings, temporal | {temporal:.2f} s | {temporal / collecting:.1%} of that |")
    print(f"| 100 settings, paper | {paper:.2f} s | {paper / collecting:.1%} of that |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("detections", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(arguments.video))
    width, height = int(capture.get(3)), int(capture.get(4))
    video = VideoInfo(arguments.video.name, width=width, height=height, fps=capture.get(5) or 25.0)
    found = read_detections(arguments.detections, video)
    read, everything = reader(arguments.video), np.ones(found.n_frames, dtype=bool)
    decode = best_of(arguments.repeats, lambda: sum(1 for _ in read(everything)))
    mine = best_of(
        arguments.repeats,
        lambda: stream_paper(
            read_detections(arguments.detections, video), read, PaperThresholds(), channel_order="bgr"
        ),
    )
    print("| what | rate | |\n|---|---|---|")
    print(f"| decoding alone | {found.n_frames / decode:.0f} frames/s | |")
    print(f"| paper, from detections | {found.n_frames / mine:.0f} frames/s | {decode / mine:.2f}x |")
    queries(arguments.video, found)


if __name__ == "__main__":
    main()
