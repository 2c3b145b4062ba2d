"""Which detections are true: one greedy matching that serves every score threshold at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.evaluation.frames import (
    LabelledFrame,
    minutes_of,
    pair_videos,
    seen_frames,
    still_frames,
    video_frames,
)
from hem.ops.boxes import ioa_matrix, iou_matrix
from hem.structures import Detections, Target, VideoDetections, VideoTruth

FALSE, TRUE, LEFT_OUT = 0, 1, -1


@dataclass(frozen=True, eq=False)
class Matched:
    """Every detection that counts, with its verdict.

    Attributes:
        scores: float64 (N,).
        true: bool (N,): it found an object that no higher-scored detection had found.
        labels: int64 (N,).
        group: int64 (N,): index of its video (or still).
        n_true: int64 (G, C + 1): objects by group and label (column 0 unused).
        n_frames: int64 (G,): labelled frames by group.
        minutes: float64 (G,): their length; NaN for stills.
    """

    scores: NDArray[np.float64]
    true: NDArray[np.bool_]
    labels: NDArray[np.int64]
    group: NDArray[np.int64]
    n_true: NDArray[np.int64]
    n_frames: NDArray[np.int64]
    minutes: NDArray[np.float64]

    def of_class(self, label: int) -> "Matched":
        """Return the detections and objects of one class; frames and minutes stay."""
        rows = self.labels == label
        n_true = np.zeros_like(self.n_true)
        if label < n_true.shape[1]:
            n_true[:, label] = self.n_true[:, label]
        return Matched(
            self.scores[rows],
            self.true[rows],
            self.labels[rows],
            self.group[rows],
            n_true,
            self.n_frames,
            self.minutes,
        )

    def of_groups(self, groups: Sequence[int] | NDArray[np.int64]) -> "Matched":
        """Return chosen groups; one named twice counts twice (a resample of the videos)."""
        order = np.asarray(groups, dtype=np.int64)
        rows = [np.flatnonzero(self.group == group) for group in order]
        joined = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return Matched(
            self.scores[joined],
            self.true[joined],
            self.labels[joined],
            np.repeat(np.arange(len(order)), [len(row) for row in rows]),
            self.n_true[order],
            self.n_frames[order],
            self.minutes[order],
        )


def verdicts(frame: LabelledFrame, iou_threshold: float = 0.5, ignore_ioa: float = 0.5) -> NDArray[np.int64]:
    """Return TRUE, FALSE or LEFT_OUT for each detection of a frame, int64 (N,).

    Detections are taken by falling score (equal scores in their given order), each class alone. Each
    takes the free object with the greatest IoU, if that is at least ``iou_threshold``; otherwise it is
    left out when intersection / own area is at least ``ignore_ioa`` in an ignore region of its class,
    and false if not. A verdict depends on higher scores only, so it holds at every threshold.

    Raising ``iou_threshold`` asks for tighter boxes; raising ``ignore_ioa`` forgives less at the rim
    of ignore regions.
    """
    result = np.full(len(frame.scores), FALSE, dtype=np.int64)
    if not len(result):
        return result
    same_class = frame.labels[:, None] == frame.true_labels[None, :]
    overlap = np.where(same_class, iou_matrix(frame.boxes, frame.true_boxes), -1.0)
    for row in np.argsort(-frame.scores, kind="stable") if overlap.shape[1] else ():
        best = int(np.argmax(overlap[row]))
        if overlap[row, best] >= iou_threshold:
            result[row] = TRUE
            overlap[:, best] = -1.0  # one object, one detection
    if len(frame.ignore_boxes):
        hides = (frame.ignore_labels[None, :] == 0) | (frame.ignore_labels[None, :] == frame.labels[:, None])
        hidden = (hides & (ioa_matrix(frame.boxes, frame.ignore_boxes) >= ignore_ioa)).any(axis=1)
        result[hidden & (result == FALSE)] = LEFT_OUT
    return result


def _matched(
    frames: Sequence[LabelledFrame],
    n_groups: int,
    n_frames: NDArray[np.int64],
    minutes: NDArray[np.float64],
    iou_threshold: float,
) -> Matched:
    labels_seen = [int(f.true_labels.max()) for f in frames if len(f.true_labels)]
    n_true = np.zeros((n_groups, max(labels_seen, default=0) + 1), dtype=np.int64)
    scores, true, labels, group = [np.zeros(0)], [np.zeros(0, dtype=bool)], [], []
    for frame in frames:
        np.add.at(n_true[frame.group], frame.true_labels, 1)
        verdict = verdicts(frame, iou_threshold)
        counts = verdict != LEFT_OUT
        scores.append(frame.scores[counts])
        true.append(verdict[counts] == TRUE)
        labels.append(frame.labels[counts])
        group.append(np.full(int(counts.sum()), frame.group, dtype=np.int64))
    none = [np.zeros(0, dtype=np.int64)]
    return Matched(
        np.concatenate(scores),
        np.concatenate(true),
        np.concatenate(none + labels),
        np.concatenate(none + group),
        n_true,
        n_frames,
        minutes,
    )


def match_stills(
    detections: Sequence[Detections], targets: Sequence[Target], iou_threshold: float = 0.5
) -> Matched:
    """Match the detections of stills to their targets; each still is a group of its own.

    Raises:
        HemError: if the two have different lengths.
    """
    frames = still_frames(detections, targets)
    ones, unknown = np.ones(len(frames), dtype=np.int64), np.full(len(frames), np.nan)
    return _matched(frames, len(frames), ones, unknown, iou_threshold)


def match_videos(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth], iou_threshold: float = 0.5
) -> Matched:
    """Match the detections of videos to their truth on labelled, decoded frames; one group a truth.

    Raises:
        HemError: as frames.pair_videos.
    """
    pairs = pair_videos(detections, truths)
    frames = [frame for k, pair in enumerate(pairs) for frame in video_frames(*pair, k)]
    seen = [seen_frames(*pair) for pair in pairs]
    return _matched(
        frames,
        len(pairs),
        np.array([int(one.sum()) for one in seen], dtype=np.int64),
        np.array([minutes_of(pair[0], one) for pair, one in zip(pairs, seen, strict=True)]),
        iou_threshold,
    )
