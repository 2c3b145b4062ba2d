"""Which detections overlap which in the frames around them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hem.ops.box_columns import BoxColumns
from hem.ops.boxes import Boxes, paired_intersection


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections of one class in different frames whose boxes overlap, in both directions.

    Attributes:
        first, second: whole numbers (P,), rows of the detections.
        offset: whole numbers (P,), frame of ``second`` minus frame of ``first``, never 0.
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
    *,
    inclusive: bool = False,
) -> Pairs:
    """Return all pairs of one class, at most ``reach`` frames apart, whose IoU is above 0.

    Sorted by ``first``, ``offset``, ``second``. A long video has more pairs than anything else, so they
    are int32 wherever row · (2 reach + 1) + offset, the key of a row and an offset, fits.

    Args:
        frame_index: int64 (N,), non-decreasing.
        boxes_xyxy: float64 (N, 4).
        labels: int64 (N,).
        reach: frames, >= 1.
        inclusive: pixels are counted as the paper's program does, see hem.ops.boxes.paired_iou_inclusive.
    """
    most = np.searchsorted(frame_index, frame_index + reach, side="right") - np.arange(len(frame_index))
    small = (len(frame_index) + 1) * (2 * reach + 1) < 2**31
    kinds = (*(np.int32 if small else np.int64,) * 3, np.float64)
    columns: tuple[list[NDArray], ...] = ([], [], [], [])
    boxes = BoxColumns(boxes_xyxy, inclusive=inclusive)
    waiting = _NOTHING  # pairs found from their earlier end, whose later end begins a part to come
    for low, high in pairwise(parts_of(most, _MOST_STORED)):
        found = _pairs_from(low, high, frame_index, boxes, labels, reach)
        pairs = [np.concatenate(column) for column in zip(waiting, *found, strict=True)]
        here = pairs[0] < high
        waiting = tuple(column[~here] for column in pairs)
        first, second, offset, overlap = (column[here] for column in pairs)
        order = np.lexsort((second, offset, first))
        for kept, column, kind in zip(columns, (first, second, offset, overlap), kinds, strict=True):
            kept.append(column[order].astype(kind, copy=False))
    return _whole(columns, kinds)


def _whole(columns: tuple[list[NDArray], ...], kinds: tuple[type, ...]) -> Pairs:
    """Join the parts of each column and let go of them: at no time does everything lie there twice."""
    whole = []
    for kept, kind in zip(columns, kinds, strict=True):
        whole.append(np.concatenate([*kept, np.zeros(0, dtype=kind)]))
        kept.clear()
    return Pairs(*whole)


_MOST_STORED = 20_000  # pairs compared at once: their temporaries must not grow with the video
_NOTHING: tuple[NDArray, ...] = (*(np.zeros(0, dtype=np.int64) for _ in range(3)), np.zeros(0))


def parts_of(counts: NDArray[np.int64], most: int) -> list[int]:
    """Return the borders of runs of rows whose counts add up to about ``most`` or less each."""
    part = np.cumsum(counts) // most
    return [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(counts)]


def _pairs_from(
    low: int,
    high: int,
    frame_index: NDArray[np.int64],
    boxes: BoxColumns,
    labels: NDArray[np.int64],
    reach: int,
) -> list[tuple[NDArray, NDArray, NDArray, NDArray]]:
    """Return (first, second, offset, iou) of the pairs whose earlier end is one of rows low..high-1."""
    own = frame_index[low:high]
    start, end = (np.searchsorted(frame_index, own + step, side="right") for step in (0, reach))
    early, late = expand_ranges(start, end)
    early += low
    same = np.flatnonzero(labels[early] == labels[late])
    early, late = early[same], late[same]
    hit, overlap = boxes.overlaps(early, boxes, late)
    early, late = early[hit], late[hit]
    forward = frame_index[late] - frame_index[early]
    return [(early, late, forward, overlap), (late, early, -forward, overlap)]


def overlaps_of(
    rows: NDArray[np.int64],
    frame_index: NDArray[np.int64],
    frame_starts: NDArray[np.int64],
    boxes_xyxy: Boxes,
    labels: NDArray[np.int64],
    reach: int,
) -> Pairs:
    """Return the pairs of overlapping_pairs whose ``first`` is one of ``rows``, by plain IoU.

    Args:
        rows: int64 (R,), rising.
        frame_index, boxes_xyxy, labels, reach: as in overlapping_pairs.
        frame_starts: int64 (F + 1,), row of each frame's first detection.
    """
    kinds = (*(np.int32,) * 3, np.float64)
    last, boxes = len(frame_starts) - 1, BoxColumns(boxes_xyxy)
    low = frame_starts[np.maximum(frame_index[rows] - reach, 0)]
    high = frame_starts[np.minimum(frame_index[rows] + reach + 1, last)]
    columns: tuple[list[NDArray], ...] = ([], [], [], [])
    for begin, end in pairwise(parts_of(high - low, _MOST_STORED)):
        owner, second = expand_ranges(low[begin:end], high[begin:end])
        first = rows[begin:end][owner]
        kin = np.flatnonzero(labels[first] == labels[second])
        first, second = first[kin], second[kin]
        hit, overlap = boxes.overlaps(first, boxes, second)
        first, second = first[hit], second[hit]
        offset = frame_index[second] - frame_index[first]
        apart = np.flatnonzero(offset)
        for kept, column, kind in zip(columns, (first, second, offset, overlap), kinds, strict=True):
            kept.append(column[apart].astype(kind, copy=False))
    return _whole(columns, kinds)


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


def overlaps_in_frame(
    frame_index: NDArray[np.int64], boxes_xyxy: Boxes, scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (own, surer, common): detections that share pixels with a surer one of their frame.

    Args:
        frame_index: int64 (N,), non-decreasing.
        boxes_xyxy: float64 (N, 4).
        scores: float64 (N,).

    Returns:
        int64 (P,) twice, rows, ``own`` rising; float64 (P,), px² in common, > 0. Labels do not matter.
    """
    start = np.searchsorted(frame_index, frame_index, side="left")
    end = np.searchsorted(frame_index, frame_index, side="right")
    found = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for low, high in pairwise(parts_of(end - start, _MOST_STORED)):
        own, other = expand_ranges(start[low:high], end[low:high])
        own += low
        surer = scores[other] > scores[own]
        own, other = own[surer], other[surer]
        common = paired_intersection(boxes_xyxy.take(own, axis=0), boxes_xyxy.take(other, axis=0))
        hit = common > 0
        found.append((own[hit], other[hit], common[hit]))
    own, other, common = (np.concatenate(column) for column in zip(*found, strict=True))
    return own, other, common
