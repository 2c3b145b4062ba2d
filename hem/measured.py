"""What a run keeps for its report beside the summary: curves, verdicts by truth, frames worth showing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hem.evaluation.purity import covers_object, purity_yield
from hem.evaluation.video import curve
from hem.structures import HardExample, Kind, VideoDetections, VideoInfo, VideoTruth

MOST_POINTS = 300  # of a curve; more cannot be seen
MOST_PAIRS = 8


def measured(
    videos: Sequence[VideoInfo],
    evidence: str | None,
    heldout: Mapping[str, Sequence[VideoDetections]],
    heldout_videos: Sequence[VideoInfo],
    truths: Sequence[VideoTruth],
    examples: Sequence[HardExample],
    mined_truths: Sequence[VideoTruth],
    thresholds: Mapping[str, float | None],
    arm: str | None,
) -> dict[str, Any]:
    """Return the content of ``measured.json``."""
    covers = covers_object(examples, mined_truths)
    right = {
        example.example_id: found is (example.kind is not Kind.HARD_NEGATIVE)
        for example, found in zip(examples, covers, strict=True)
        if found is not None and example.kind is not Kind.IGNORE
    }
    return {
        "videos": [asdict(video) for video in videos],
        "evidence": evidence,
        "curves": {name: _curve(found, truths) for name, found in heldout.items()} if truths else {},
        "purity_yield": _purity(examples, mined_truths),
        "right": right,
        "video_rows": _rows(videos, examples),
        "pairs": _pairs(heldout, heldout_videos, thresholds, arm) if arm else [],
    }


def _thin(values: np.ndarray, rows: np.ndarray) -> list[float]:
    return [float(value) for value in values[rows]]


def _curve(found: Sequence[VideoDetections], truths: Sequence[VideoTruth]) -> dict[str, list[float]]:
    line = curve(found, truths)
    rows = np.unique(np.linspace(0, max(len(line.thresholds) - 1, 0), MOST_POINTS).astype(int))
    rows = rows[rows < len(line.thresholds)]
    if line.n_true == 0 or not line.minutes > 0:
        return {"recall": [], "precision": [], "false_alarms_per_minute": [], "thresholds": []}
    return {
        "recall": _thin(line.recall, rows),
        "precision": _thin(line.precision, rows),
        "false_alarms_per_minute": _thin(line.false_alarms_per_minute, rows),
        "thresholds": _thin(line.thresholds, rows),
    }


def _purity(
    examples: Sequence[HardExample], truths: Sequence[VideoTruth]
) -> dict[str, dict[str, list[float]]]:
    lines = {}
    for kind in (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE):
        count, purity = purity_yield(examples, truths, kind)
        if len(count):
            rows = np.unique(np.linspace(0, len(count) - 1, MOST_POINTS).astype(int))
            lines[kind.value.replace("_", " ")] = {
                "count": _thin(count, rows),
                "purity": _thin(purity, rows),
            }
    return lines


def _rows(videos: Sequence[VideoInfo], examples: Sequence[HardExample]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for video in videos:
        mine = [example for example in examples if example.video_id == video.video_id]
        counts = {kind.value: sum(e.kind is kind for e in mine) for kind in Kind}
        rows.append({"video": video.video_id, "frames": video.n_frames, **counts})
    return rows


def _pairs(
    heldout: Mapping[str, Sequence[VideoDetections]],
    videos: Sequence[VideoInfo],
    thresholds: Mapping[str, float | None],
    arm: str,
) -> list[dict[str, Any]]:
    low, high = thresholds.get("baseline"), thresholds.get(arm)
    if low is None or high is None or arm not in heldout:
        return []
    changes: list[tuple[int, int, int]] = []
    for number, (before, after) in enumerate(zip(heldout["baseline"], heldout[arm], strict=True)):
        counts = [
            np.bincount(found.frame_index[found.scores >= threshold], minlength=before.n_frames)
            for found, threshold in ((before, low), (after, high))
        ]
        difference = np.abs(counts[0] - counts[1][: len(counts[0])])
        if len(difference):
            frame = int(difference.argmax())
            changes.append((int(difference[frame]), number, frame))
    chosen = sorted(changes, key=lambda one: (-one[0], one[1]))[:MOST_PAIRS]
    by_id = {video.video_id: video for video in videos}
    return [
        {
            "video": asdict(by_id[heldout["baseline"][number].video.video_id]),
            "frame_index": frame,
            "arm": arm,
            "before": heldout["baseline"][number].frame(frame).above(low).boxes_xyxy.tolist(),
            "after": heldout[arm][number].frame(frame).above(high).boxes_xyxy.tolist(),
        }
        for change, number, frame in chosen
        if change > 0
    ]
