"""Which detections overlap which in the frames around them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.ops.boxes import Boxes, paired_iou


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections of one class in different frames whose boxes overlap, in both directions.

    Attributes:
        first, second: int64 (P,), rows of the detections.
        offset: int64 (P,), frame of ``second`` minus frame of ``first``, never 0.
        iou: float64 (P,), > 0.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    offset: NDArray[np.int64]
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def expand_ranges(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Return (owner, value): every integer of every half-open range [start[i], end[i]), with its i."""
    counts = np.maximum(end - start, 0)
    owner = np.repeat(np.arange(len(start)), counts)
    value = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + start[owner]
    return owner, value


def overlapping_pairs(
    frame_index: NDArray[np.int64],
    boxes_xyxy: Boxes,
    labels: NDArray[np.int64],
    reach: int,
    iou: Callable[[Boxes, Boxes], NDArray[np.float64]] = paired_iou,
) -> Pairs:
    """Return all pairs of one class, at most ``reach`` frames apart, whose IoU is above 0.

    Args:
        frame_index: int64 (N,), non-decreasing.
        boxes_xyxy: float64 (N, 4).
        labels: int64 (N,).
        reach: frames, >= 1.
        iou: row-by-row IoU to use.
    """
    found: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
    for step in range(1, reach + 1):
        start = np.searchsorted(frame_index, frame_index + step, side="left")
        end = np.searchsorted(frame_index, frame_index + step, side="right")
        early, late = expand_ranges(start, end)
        same = labels[early] == labels[late]
        early, late = early[same], late[same]
        overlap = iou(boxes_xyxy[early], boxes_xyxy[late])
        hit = overlap > 0
        early, late, overlap = early[hit], late[hit], overlap[hit]
        forward = np.full(len(early), step)
        found += [(early, late, forward, overlap), (late, early, -forward, overlap)]
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, none, np.zeros(0))
    first, second, offset, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((second, offset, first))
    return Pairs(first[order], second[order], offset[order], overlap[order])


def any_of(rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Return bool (count,): which integers below ``count`` occur in ``rows``."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def smallest_of(
    rows: NDArray[np.int64], values: NDArray[np.float64], count: int, start: float
) -> NDArray[np.float64]:
    """Return float64 (count,): the smallest value given for each row, ``start`` where there is none."""
    out = np.full(count, start, dtype=np.float64)
    np.minimum.at(out, rows, values)
    return out


def largest_of(
    rows: NDArray[np.int64], values: NDArray[np.float64], count: int, start: float
) -> NDArray[np.float64]:
    """Return float64 (count,): the largest value given for each row, ``start`` where there is none."""
    out = np.full(count, start, dtype=np.float64)
    np.maximum.at(out, rows, values)
    return out
