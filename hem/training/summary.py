"""``summary.json``: every arm's figures, their differences to the control, and what was mined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hem.evaluation.compare import arm_differences
from hem.evaluation.purity import mining_summary
from hem.evaluation.video import OperatingPoint
from hem.structures import HardExample, VideoDetections, VideoTruth


@dataclass(frozen=True)
class MinedBy:
    """What one arm mined in round 1, and how long that took."""

    examples: Sequence[HardExample]
    detections: Sequence[VideoDetections]
    seconds: float


def mining_figures(
    mined: MinedBy | None, truths: Sequence[VideoTruth], point: OperatingPoint | None
) -> dict[str, Any]:
    """Return the ``mining`` part of the summary; purity is None where there is no truth."""
    if mined is None:
        return {}
    frames = sum(one.n_frames for one in mined.detections)
    threshold = point.threshold if point is not None else None
    return {
        "frames": frames,
        **mining_summary(mined.examples, truths, mined.detections, threshold),
        "detections": sum(len(one) for one in mined.detections),
        "seconds": mined.seconds,
        "frames_per_second": frames / mined.seconds if mined.seconds > 0 else None,
    }


def summary(
    *,
    name: str,
    seed: int,
    control: str,
    arms: Mapping[str, Mapping[str, Any]],
    mining: Mapping[str, Any],
    mining_by_arm: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
    note: str,
    point: OperatingPoint | None,
    skipped: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Return the whole summary as JSON-like values."""
    return {
        "name": name,
        "seed": seed,
        "control": control,
        "note": note,
        "arms": {arm: dict(figures) for arm, figures in arms.items()},
        "differences": arm_differences(arms, control) if control in arms else {},
        "operating_point": None if point is None else point_values(point),
        "mining": dict(mining),
        "mining_by_arm": {arm: dict(values) for arm, values in mining_by_arm.items()},
        "skipped": [dict(one) for one in skipped],
        "seconds": dict(seconds),
    }


def point_values(point: OperatingPoint) -> dict[str, Any]:
    """Return an operating point as JSON-like values."""
    return {
        "threshold": point.threshold,
        "recall": point.recall,
        "false_alarms_per_minute": point.false_alarms_per_minute,
    }
