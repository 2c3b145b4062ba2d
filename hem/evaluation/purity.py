"""How much of what was mined is what it claims to be, beside what chance would give.

Source: hem's own protocol. False means IoU < 0.5 with every true box of the class.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.evaluation.frames import pair_videos, seen_frames, video_frames
from hem.ops.boxes import ioa_matrix, iou_matrix
from hem.ops.intervals import Z_95, wilson
from hem.structures import HardExample, Kind, VideoDetections, VideoTruth

_IOU, _IGNORE_IOA = 0.5, 0.5
_MEASURED_KINDS = (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL)


@dataclass(frozen=True)
class Share:
    """A share ``hits`` / ``count`` with its 95 % Wilson interval; all None where count is 0."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        """The share in [0, 1], or None."""
        return self.hits / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high end of the 95 % Wilson interval, or None."""
        return wilson_interval(self.hits, self.count)

    def as_dict(self) -> dict[str, Any]:
        """Return value, low, high, hits and count as JSON-like values."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high, "hits": self.hits, "count": self.count}


def wilson_interval(hits: int, count: int, z: float = Z_95) -> tuple[float, float] | None:
    """Return Wilson's score interval of ``hits`` in ``count`` (Wilson 1927); None if count is 0."""
    if count == 0:
        return None
    return wilson(hits / count, count, z)


def _overlaps(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], truth: VideoTruth, frame: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool (N,) each: covers a true object of its class; lies in an ignore region."""
    rows = truth.rows_of(frame)
    true_boxes = np.asarray(truth.boxes_xyxy[rows], dtype=np.float64)
    true_labels, ignore = truth.labels[rows], truth.ignore[rows].astype(bool)
    same = labels[:, None] == true_labels[None, :]
    covers = (same & (iou_matrix(boxes, true_boxes) >= _IOU))[:, ~ignore].any(axis=1)
    hides = (same | (true_labels[None, :] == 0)) & (ioa_matrix(boxes, true_boxes) >= _IGNORE_IOA)
    return covers, hides[:, ignore].any(axis=1)


def covers_object(examples: Iterable[HardExample], truths: Sequence[VideoTruth]) -> list[bool | None]:
    """Say of each example whether it covers a true object of its class with IoU >= 0.5.

    None where that is not known: no truth for the video, frame not labelled, or a box that covers no
    object and lies with half its area or more in an ignore region.

    Raises:
        HemError: if two truths have one video id.
    """
    by_id = {truth.video_id: truth for truth in truths}
    if len(by_id) < len(truths):
        raise HemError("two truths have the same video id; keep one")
    answers: list[bool | None] = []
    for example in examples:
        truth = by_id.get(example.video_id)
        frame = example.frame_index
        if truth is None or frame >= len(truth.labelled_frames) or not truth.labelled_frames[frame]:
            answers.append(None)
            continue
        box, label = np.array([example.box_xyxy]), np.array([example.label], dtype=np.int64)
        covers, hidden = _overlaps(box, label, truth, frame)
        answers.append(True if covers[0] else None if hidden[0] else False)
    return answers


def _share(examples: Sequence[HardExample], covers: Sequence[bool | None]) -> Share:
    known = [
        found is (example.kind is not Kind.HARD_NEGATIVE)
        for example, found in zip(examples, covers, strict=True)
        if found is not None
    ]
    return Share(sum(known), len(known))


def purity(examples: Sequence[HardExample], truths: Sequence[VideoTruth]) -> dict[str, Any]:
    """Return how pure the mined examples are, by kind and by kind and rule.

    A hard negative is pure when it covers no true object, a hard positive or pseudo-label when it
    covers one. Ignore examples are not judged.

    Returns:
        ``hard_negative``, ``hard_positive``, ``pseudo_label``: Share.as_dict plus ``mined`` (all of the
        kind) and ``unmeasured`` (those not counted); ``per_rule``: rule -> kind -> the same.
    """
    covers = covers_object(examples, truths)

    def chosen(kind: Kind, rule: str | None) -> dict[str, Any]:
        rows = [
            k for k, one in enumerate(examples) if one.kind is kind and (rule is None or one.rule == rule)
        ]
        share = _share([examples[k] for k in rows], [covers[k] for k in rows])
        return {**share.as_dict(), "mined": len(rows), "unmeasured": len(rows) - share.count}

    rules = sorted({example.rule for example in examples})
    return {
        **{kind.value: chosen(kind, None) for kind in _MEASURED_KINDS},
        "per_rule": {
            rule: {
                kind.value: chosen(kind, rule)
                for kind in _MEASURED_KINDS
                if any(one.kind is kind and one.rule == rule for one in examples)
            }
            for rule in rules
        },
    }


def false_share_of_detections(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth], threshold: float
) -> Share:
    """Return the share of all detections with score >= ``threshold`` that cover no object of their class.

    This is the base rate of hard negatives, judged as purity is; one minus it is that of positives.
    Detections that lie in ignore regions, and frames not labelled or not decoded, are left out.
    """
    false = count = 0
    for found, truth in pair_videos(detections, truths):
        for index in np.flatnonzero(seen_frames(found, truth)).tolist():
            rows = found.rows_of(index)
            keep = found.scores[rows] >= threshold
            covers, hidden = _overlaps(found.boxes_xyxy[rows][keep], found.labels[rows][keep], truth, index)
            false += int((~covers & ~hidden).sum())
            count += int((covers | ~hidden).sum())
    return Share(false, count)


def missed_share_of_objects(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth], threshold: float
) -> Share:
    """Return the share of true boxes that no detection >= ``threshold`` covers: what gaps could win back."""
    missed = count = 0
    for found, truth in pair_videos(detections, truths):
        for frame in video_frames(found, truth):
            keep = frame.scores >= threshold
            same = frame.labels[keep, None] == frame.true_labels[None, :]
            covered = (same & (iou_matrix(frame.boxes[keep], frame.true_boxes) >= _IOU)).any(axis=0)
            missed += int((~covered).sum())
            count += len(covered)
    return Share(missed, count)


def mining_summary(
    examples: Sequence[HardExample],
    truths: Sequence[VideoTruth],
    detections: Sequence[VideoDetections] = (),
    threshold: float | None = None,
) -> dict[str, Any]:
    """Return the purity part of ``summary.json``: counts, purities and the base rate, None if unknown."""
    measured = purity(examples, truths)
    base: Mapping[str, Any] = {}
    if threshold is not None and detections:
        ids = {one.video.video_id for one in detections}
        known = [truth for truth in truths if truth.video_id in ids]
        base = false_share_of_detections(detections, known, threshold).as_dict()
    negatives, positives = measured["hard_negative"], measured["hard_positive"]
    return {
        "hard_negatives": negatives["mined"],
        "hard_positives": positives["mined"],
        "pseudo_labels": measured["pseudo_label"]["mined"],
        "purity_hard_negatives": negatives["value"],
        "purity_hard_positives": positives["value"],
        "purity_pseudo_labels": measured["pseudo_label"]["value"],
        "false_share_of_detections": base.get("value"),
        "purity": measured,
        "base_rate": dict(base) or None,
    }


def purity_yield(
    examples: Sequence[HardExample],
    truths: Sequence[VideoTruth],
    kind: Kind = Kind.HARD_NEGATIVE,
    sureness: Callable[[HardExample], float] = lambda example: example.weight,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return purity as more and more examples of one kind are taken, the surest first.

    Args:
        sureness: what they are sorted by, falling; equal values are taken together.

    Returns:
        How many measured examples were taken, int64 (K,), and their purity, float64 (K,).
    """
    of_kind = [example for example in examples if example.kind is kind]
    judged = [
        (sureness(example), found is (kind is not Kind.HARD_NEGATIVE))
        for example, found in zip(of_kind, covers_object(of_kind, truths), strict=True)
        if found is not None
    ]
    judged.sort(key=lambda pair: -pair[0])
    values = np.array([value for value, _ in judged], dtype=np.float64)
    pure = np.cumsum([good for _, good in judged], dtype=np.int64)
    ends = np.flatnonzero(np.append(np.diff(values) != 0, True)) if len(values) else np.zeros(0, np.int64)
    return ends + 1, pure[ends] / (ends + 1)
