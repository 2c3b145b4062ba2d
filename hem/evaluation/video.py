"""False alarms and recall on video, at one operating point that is the same for every arm.

Source: hem's own protocol. The reference is the baseline's best F1 on held-out stills; its recall on
held-out video there is R0, and every arm is read where it reaches R0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.evaluation.frames import minutes_of, pair_videos, seen_frames
from hem.evaluation.isolation import isolated_by_overlap
from hem.evaluation.matching import Matched, match_stills, match_videos
from hem.structures import Detections, Target, VideoDetections, VideoTruth

Isolated = Callable[[VideoDetections, float], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Curve:
    """What each score threshold admits; row k admits every score >= ``thresholds[k]``.

    Attributes:
        thresholds: float64 (K,), the distinct scores, falling.
        hits, false_alarms: int64 (K,), admitted true detections and false alarms.
        n_true: objects; n_frames: labelled frames; minutes: their length (NaN for stills).
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    n_true: int
    n_frames: int
    minutes: float

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of objects found, (K,); NaN where there is no object."""
        return self._share(self.hits, self.n_true)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of admitted detections that are true, (K,)."""
        return np.asarray(self.hits / (self.hits + self.false_alarms))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall, (K,)."""
        return np.asarray(2 * self.hits / (self.hits + self.false_alarms + self.n_true))

    @property
    def false_alarms_per_frame(self) -> NDArray[np.float64]:
        """False alarms a labelled frame, (K,); NaN where there is no frame."""
        return self._share(self.false_alarms, self.n_frames)

    @property
    def false_alarms_per_minute(self) -> NDArray[np.float64]:
        """False alarms a minute of labelled video, (K,); NaN for stills."""
        return self._share(self.false_alarms, self.minutes)

    def _share(self, counts: NDArray[np.int64], of: float) -> NDArray[np.float64]:
        return np.asarray(counts / of) if of > 0 else np.full(len(counts), np.nan)


def curve_of(matched: Matched) -> Curve:
    """Return the curve of matched detections; equal scores are admitted together."""
    order = np.argsort(-matched.scores, kind="stable")
    scores = matched.scores[order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, np.int64)
    true = matched.true[order]
    return Curve(
        thresholds=scores[ends],
        hits=np.cumsum(true, dtype=np.int64)[ends],
        false_alarms=np.cumsum(~true, dtype=np.int64)[ends],
        n_true=int(matched.n_true.sum()),
        n_frames=int(matched.n_frames.sum()),
        minutes=float(matched.minutes.sum()),
    )


def curve(
    detections: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    label: int | None = None,
    iou_threshold: float = 0.5,
) -> Curve:
    """Return recall against false alarms on videos, pooled over classes or of one ``label``."""
    matched = match_videos(detections, truths, iou_threshold)
    return curve_of(matched if label is None else matched.of_class(label))


@dataclass(frozen=True)
class OperatingPoint:
    """The reference that every arm is read at, made from the baseline alone.

    Attributes:
        threshold: the baseline's score threshold with the greatest F1 on held-out stills (the highest
            such, if several), or None if no threshold has F1 > 0.
        recall: R0, its recall on held-out video there; None without a threshold or without objects.
        false_alarms: false alarms on that video at the baseline's own threshold where its recall first
            reaches R0; None as ``recall``, or if R0 is 0.
        false_alarms_per_minute: the same a minute.
        per_class: the same for each class alone, by label (its own stills threshold and R0).
    """

    threshold: float | None
    recall: float | None
    false_alarms: int | None
    false_alarms_per_minute: float | None
    per_class: Mapping[int, "OperatingPoint"] = field(default_factory=dict)


def best_f1_threshold(stills: Curve) -> float | None:
    """Return the highest threshold with the greatest F1, or None where no F1 is above 0."""
    f1 = stills.f1
    if not len(f1) or f1.max() <= 0:
        return None
    return float(stills.thresholds[int(np.argmax(f1))])


def _row_at(curve_: Curve, threshold: float) -> int:
    """Return the last row with thresholds >= ``threshold``, -1 if nothing scores that much."""
    return int(np.searchsorted(-curve_.thresholds, -threshold, side="right")) - 1


def _row_reaching(curve_: Curve, recall: float | None) -> int | None:
    """Return the first row with that recall; None if it is never reached or asks for nothing."""
    if recall is None or recall <= 0 or curve_.n_true == 0:
        return None
    reached = np.flatnonzero(curve_.recall >= recall - 1e-12)  # 1e-12: below one object in any set
    return int(reached[0]) if len(reached) else None


def _point(stills: Curve, video: Curve) -> OperatingPoint:
    threshold = best_f1_threshold(stills)
    if threshold is None or video.n_true == 0:
        return OperatingPoint(threshold, None, None, None)
    row = _row_at(video, threshold)
    recall = float(video.recall[row]) if row >= 0 else 0.0
    reached = _row_reaching(video, recall)
    if reached is None:
        return OperatingPoint(threshold, recall, None, None)
    per_minute = _number(video.false_alarms_per_minute[reached])
    return OperatingPoint(threshold, recall, int(video.false_alarms[reached]), per_minute)


def operating_point(baseline_stills: Matched, baseline_video: Matched, n_classes: int = 0) -> OperatingPoint:
    """Return the operating point of a comparison, pooled and (labels 1..``n_classes``) per class."""
    per_class = {
        label: _point(curve_of(baseline_stills.of_class(label)), curve_of(baseline_video.of_class(label)))
        for label in range(1, n_classes + 1)
    }
    pooled = _point(curve_of(baseline_stills), curve_of(baseline_video))
    return OperatingPoint(
        pooled.threshold, pooled.recall, pooled.false_alarms, pooled.false_alarms_per_minute, per_class
    )


def baseline_point(
    still_detections: Sequence[Detections],
    still_targets: Sequence[Target],
    video_detections: Sequence[VideoDetections],
    video_truths: Sequence[VideoTruth],
    n_classes: int = 0,
) -> OperatingPoint:
    """Return operating_point from the baseline's detections on held-out stills and video."""
    return operating_point(
        match_stills(still_detections, still_targets),
        match_videos(video_detections, video_truths),
        n_classes,
    )


def figures_at(point: OperatingPoint, arm: Curve) -> dict[str, float | None]:
    """Return an arm's figures on video at the operating point; None is "not measured".

    Returns:
        ``threshold``: the arm's threshold where its recall first reaches R0; ``false_alarms_per_minute``
        and ``false_alarms_per_frame`` there (None if R0 is never reached); ``recall``: the arm's recall
        at the lowest threshold with no more false alarms a minute than the baseline's.
    """
    row = _row_reaching(arm, point.recall)
    figures: dict[str, float | None] = {
        "threshold": None if row is None else float(arm.thresholds[row]),
        "false_alarms_per_minute": None if row is None else _number(arm.false_alarms_per_minute[row]),
        "false_alarms_per_frame": None if row is None else _number(arm.false_alarms_per_frame[row]),
        "recall": None,
    }
    allowed = point.false_alarms_per_minute
    if allowed is not None and arm.n_true > 0 and arm.minutes > 0:
        # 1e-9 relative: the same count over the same minutes must compare equal.
        within = int((arm.false_alarms_per_minute <= allowed * (1 + 1e-9)).sum())
        figures["recall"] = float(arm.recall[within - 1]) if within else 0.0
    return figures


def flickers_per_minute(
    detections: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    threshold: float | None,
    isolated: Isolated = isolated_by_overlap,
    label: int | None = None,
) -> float | None:
    """Return isolated detections a minute on labelled, decoded frames; None without threshold or time."""
    if threshold is None:
        return None
    count, minutes = 0, 0.0
    for found, truth in pair_videos(detections, truths):
        seen = seen_frames(found, truth)
        mask = np.asarray(isolated(found, threshold), dtype=bool) & (found.scores >= threshold)
        if label is not None:
            mask &= found.labels == label
        count += int((mask & seen[found.frame_index]).sum())
        minutes += minutes_of(found, seen)
    return count / minutes if minutes > 0 else None


def video_figures(
    point: OperatingPoint,
    detections: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    class_names: Sequence[str] = (),
    isolated: Isolated = isolated_by_overlap,
) -> dict[str, Any]:
    """Return everything the summary says of one arm on held-out video.

    Returns:
        figures_at plus ``flickers_per_minute`` (``isolated`` at the arm's threshold) and ``per_class``:
        class name -> the same, read at that class's own operating point where ``point`` has one.
    """
    matched = match_videos(detections, truths)

    def one(at: OperatingPoint, matched_: Matched, label: int | None) -> dict[str, float | None]:
        figures = figures_at(at, curve_of(matched_))
        figures["flickers_per_minute"] = flickers_per_minute(
            detections, truths, figures["threshold"], isolated, label
        )
        return figures

    return {
        **one(point, matched, None),
        "per_class": {
            name: one(point.per_class[label], matched.of_class(label), label)
            for label, name in enumerate(class_names, start=1)
            if label in point.per_class
        },
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
