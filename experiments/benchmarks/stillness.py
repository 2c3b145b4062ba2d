"""What measuring stillness (collect.still_s) costs in a pass, by detections a frame.

    python experiments/benchmarks/stillness.py [--frames 250] [--rounds 3]

A 720p file made here, detections given; the same pass with and without the measurement, in turns, and
reading the file alone. The best round of each counts, since a loaded machine spoils single runs.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from decode_rate import moving_texture

from hem.mining.collect import collect_evidence
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings
from hem.video.manifest import scan_videos
from hem.video.source import open_source
from hem.video.writer import write_video

COUNTS = (0, 1, 5, 10, 30)
# no templates: both passes decode, flag frames, and that is all
PLAIN = CollectSettings(floor_score=0.1, search_margin=None, box_margin=None)


def boxes_of(video: VideoInfo, n_frames: int, per_frame: int) -> VideoDetections:
    """Return ``per_frame`` boxes of 40 to 160 pixels a side at random places in every frame."""
    rng = np.random.default_rng(1)
    total = n_frames * per_frame
    corner = rng.uniform(0, (1100, 500), (total, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(40, 160, (total, 2))], axis=1)
    frame_index = np.repeat(np.arange(n_frames), per_frame)
    times_s = np.arange(n_frames) / video.fps
    return VideoDetections(video, frame_index, boxes, np.full(total, 0.9), np.ones(total, int), times_s)


def seconds(video: VideoInfo, found: VideoDetections | None, settings: CollectSettings) -> float:
    """Return how long one pass takes; without detections, reading alone."""
    start = time.perf_counter()
    with open_source(video, batch_size=16, grey=found is not None) as source:
        if found is None:
            for _ in source:
                pass
        else:
            collect_evidence(source, found, settings=settings)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "made.mp4"
        write_video(path, moving_texture(720, 1280, args.frames), fps=25)
        video = replace(scan_videos(path).videos[0], n_frames=args.frames)
        print("| detections a frame | reading, ms a frame | pass | with still_s=1 | measuring |")
        print("|---|---|---|---|---|")
        for count in COUNTS:
            found = boxes_of(video, args.frames, count)
            ways = ((None, PLAIN), (found, PLAIN), (found, replace(PLAIN, still_s=1.0)))
            rounds = [[seconds(video, *way) for way in ways] for _ in range(args.rounds)]
            read, plain, still = (1000 * value / args.frames for value in np.min(rounds, axis=0))
            print(f"| {count} | {read:.2f} | {plain:.2f} | {still:.2f} | {still - plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
