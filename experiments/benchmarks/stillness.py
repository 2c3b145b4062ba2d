"""What measuring stillness (collect.still_s) costs in a pass, by detections a frame.

    python experiments/benchmarks/stillness.py [--frames 250] [--rounds 3]

A 720p file made here, detections given; the same pass with and without the measurement, in turns, and
reading the file alone. The best round of each counts, since a loaded machine spoils single runs.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from decode_rate import moving_texture
from mine_from_detections import best, decode

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


def collecting(video: VideoInfo, found: VideoDetections, settings: CollectSettings) -> Callable[[], object]:
    """Return a call that makes one pass."""

    def run() -> object:
        with open_source(video, batch_size=16, grey=True) as source:
            return collect_evidence(source.grey_batches(), found, settings=settings)

    return run


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
            ways = {
                "read": lambda: decode(video),
                "plain": collecting(video, found, PLAIN),
                "still": collecting(video, found, replace(PLAIN, still_s=1.0)),
            }
            seconds = best(args.rounds, ways)
            read, plain, still = (1000 * seconds[name] / args.frames for name in ways)
            print(f"| {count} | {read:.2f} | {plain:.2f} | {still:.2f} | {still - plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
