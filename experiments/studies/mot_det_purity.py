"""Purity against yield of every rule on a published detector's output, on real video.

    python experiments/studies/mot_det_purity.py [--data ../shared/data/mot] [--out table.md]

Boxes are the `det.txt` of three MOTChallenge sequences. A mined box is false when its IoU with every
true box is below 0.5; boxes on rows with conf 0 neither count nor hurt. One setting serves all three
sequences. Purity of negatives is their false share, of positives and pseudo-labels their true share.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hem.mining.baselines import mine_pseudo_labels, mine_random, mine_score
from hem.mining.collect import collect_evidence
from hem.mining.paper import PaperThresholds
from hem.mining.run import MiningPreset, mine
from hem.mining.sources import read_mot_text
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.ops.boxes import iou_matrix
from hem.structures import FrameBatch, HardExample, Kind, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence

SEQUENCES = {"PETS09-S2L1": 7.0, "TUD-Stadtmitte": 25.0, "KITTI-17": 10.0}
EVERY = float("inf")
# `det.txt` scores are unbounded; every box was kept by its detector, so every box is a candidate
COLLECT = CollectSettings(
    floor_score=-EVERY,
    score_threshold=(-EVERY, EVERY),
    neighbour_threshold=(-EVERY, EVERY),
    paper_score_threshold=(-EVERY, EVERY),
    paper_min_area=0.0,
    paper_border_margin=0.0,
    still_s=1.0,
)
# as in penn_fudan_mot.py: people move and the cameras do not
STILL = ElicitedThresholds(static_share=0.4, still_change=0.12)


def batches(path: Path, video: VideoInfo, size: int = 16) -> Iterator[FrameBatch]:
    capture, start, pictures = cv2.VideoCapture(str(path)), 0, []
    while True:
        there, picture = capture.read()
        if there:
            pictures.append(torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1))
        if pictures and (not there or len(pictures) == size):
            index = torch.arange(start, start + len(pictures))
            yield FrameBatch(video, torch.stack(pictures), index, index.double() / video.fps)
            start, pictures = start + len(pictures), []
        if not there:
            return


def load(folder: Path, fps: float) -> Evidence:
    path = folder / f"{folder.name}.mp4"
    capture = cv2.VideoCapture(str(path))
    width, height, count = (int(capture.get(key)) for key in (3, 4, 7))
    video = VideoInfo(folder.name, width=width, height=height, fps=fps, n_frames=count)
    found = read_mot_text(folder / "det.txt", video, ("person",))
    return collect_evidence(batches(path, video), found, settings=COLLECT)


class Truth:
    """True boxes and ignore regions of one sequence."""

    def __init__(self, path: Path) -> None:
        rows = np.loadtxt(path, delimiter=",")
        self.frame = rows[:, 0].astype(int) - 1
        self.boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
        self.ignore = rows[:, 6] == 0

    def verdicts(self, examples: list[HardExample]) -> NDArray[np.int64]:
        """1 true, 0 false, -1 on an ignore region."""
        out = np.zeros(len(examples), dtype=np.int64)
        for at, example in enumerate(examples):
            here = self.frame == example.frame_index
            if here.any():
                hit = iou_matrix(np.array([example.box_xyxy]), self.boxes[here])[0] >= 0.5
                ignore = self.ignore[here]
                out[at] = 1 if hit[~ignore].any() else -int(hit[ignore].any())
        return out


def cell(verdicts: NDArray[np.int64], wanted: int) -> str:
    counted = verdicts[verdicts >= 0]
    right = int((counted == wanted).sum())
    return f"{right}/{len(counted)} = {right / len(counted):.3f}" if len(counted) else "0"


def presets() -> dict[str, MiningPreset]:
    temporal = TemporalThresholds(score_threshold=0.0, neighbour_threshold=0.0, max_score=1.0)
    # per_frame above what any frame holds: setting 0 admits every box
    more = {"score_scale": "quantile", "per_frame": 1000.0}
    out = {
        # the published thresholds are scores in [0, 1] and pixels of large pictures; here the lowest
        # score and no exemption, with its own window, NCC and IoU
        "paper": MiningPreset(
            "paper",
            PaperThresholds(score_threshold=-EVERY, max_score=EVERY, min_area=0.0, border_margin=0.0),
        ),
        "temporal": MiningPreset("temporal", temporal, **more),
        "hem (no disturbed frames)": MiningPreset("hem", HemThresholds(temporal=temporal), **more),
        "hem, still_change 0.12": MiningPreset("hem", HemThresholds(temporal, STILL), **more),
    }
    for limit in (0.03, 0.05, 0.065, 0.08, 0.12, 0.2):
        changed = TemporalThresholds(
            score_threshold=0.0, neighbour_threshold=0.0, max_score=1.0, steadiness_threshold=limit, max_gap=0
        )
        out[f"temporal, steadiness < {limit}"] = MiningPreset("temporal", changed, **more)
    return out


def isolated_one_frame(evidence: Evidence) -> list[HardExample]:
    """Return boxes with no overlap above 0.3 one frame before or after: what yields are held against."""
    found = evidence.detections
    kept = []
    for example in mine_score(found, low=-EVERY, high=EVERY):
        rows = [found.rows_of(example.frame_index + step) for step in (-1, 1)]
        boxes = np.concatenate([found.boxes_xyxy[row] for row in rows])
        if not (iou_matrix(np.array([example.box_xyxy]), boxes) > 0.3).any():
            kept.append(example)
    return kept


def baselines(evidence: Evidence) -> dict[str, list[HardExample]]:
    scores = evidence.detections.scores
    out = {"isolated one frame (IoU 0.3)": isolated_one_frame(evidence)}
    for share in (0.02, 0.05):
        limit = float(np.quantile(scores, share))
        out[f"score, lowest {share:.0%}"] = mine_score(evidence.detections, low=-EVERY, high=limit)
    out["random"] = mine_random(evidence.detections)
    middle = float(np.quantile(scores, 0.5))
    out["pseudo_labels, upper half"] = mine_pseudo_labels(evidence.detections, score_threshold=middle)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = os.environ.get("HEM_SHARED", str(Path(__file__).parents[3] / "shared"))
    parser.add_argument("--data", type=Path, default=Path(shared) / "data" / "mot")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    evidence = {name: load(arguments.data / name, fps) for name, fps in SEQUENCES.items()}
    truth = {name: Truth(arguments.data / name / "gt.txt") for name in SEQUENCES}
    lines = ["| rule | kind | " + " | ".join(SEQUENCES) + " |", "|---|---|" + "---|" * len(SEQUENCES)]

    def add(rule: str, kind: Kind, found: dict[str, list[HardExample]]) -> None:
        wanted = 0 if kind is Kind.HARD_NEGATIVE else 1
        cells = [
            cell(truth[name].verdicts([e for e in found[name] if e.kind is kind]), wanted)
            for name in SEQUENCES
        ]
        lines.append(f"| {rule} | {kind.value} | " + " | ".join(cells) + " |")

    for rule, preset in presets().items():
        found = {name: mine([item], preset) for name, item in evidence.items()}
        kinds = (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL)
        for kind in kinds[: 1 if "<" in rule else 3]:
            if any(example.kind is kind for examples in found.values() for example in examples):
                add(rule, kind, found)
    simple = {name: baselines(item) for name, item in evidence.items()}
    for rule in simple["KITTI-17"]:
        found = {name: simple[name][rule] for name in SEQUENCES}
        add(rule, found["KITTI-17"][0].kind, found)
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
