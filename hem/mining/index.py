"""Look-ups over one video's evidence that every query needs and no threshold changes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.mining.table import frame_times
from hem.ops.box_columns import BoxColumns
from hem.ops.boxes import area, paired_iou
from hem.ops.isolation import (
    Pairs,
    expand_ranges,
    largest_of,
    overlapping_pairs,
    overlaps_in_frame,
    overlaps_of,
)
from hem.structures.evidence import BOX_REGION, PIXEL_REGION, Evidence

Made = TypeVar("Made")
MOST_KEPT = 50_000
"""Detections of which the pairs are kept for the next setting; of more they'd take most of the memory."""
_TOGETHER = 4_096  # neighbour rows compared at once: temporaries must not grow with the video


@dataclass(frozen=True, eq=False)
class Appearance:
    """Neighbour rows of one region, and the detections that overlap each tracked box.

    Attributes:
        row: int64 (P,), row of the neighbour table.
        detection: int64 (P,), row of a detection of the candidate's class in that frame.
        iou: float64 (P,), > 0, its IoU with the tracked box; counted inclusively at full resolution.
        keys: int64 (K,), sorted keys of the region's rows; rows: their rows in the neighbour table.
        at: int64 (P,), position in ``rows`` of ``row``.
        span: multiplier of the candidate in a key.
    """

    row: NDArray[np.int64]
    detection: NDArray[np.int64]
    iou: NDArray[np.float64]
    keys: NDArray[np.int64]
    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    span: int

    def find(self, candidate: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the neighbour rows of (candidate, offset), shapes broadcast; -1 where there is none."""
        if not len(self.rows):
            return np.full(np.broadcast(candidate, offset).shape, -1, dtype=np.int64)
        at = self.positions(candidate, offset)
        return np.where(at >= 0, self.rows[at], -1)

    def positions(self, candidate: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the same as positions in ``rows``."""
        key = candidate * self.span + offset + self.span // 2
        if not len(self.keys):
            return np.full(key.shape, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        reachable = np.abs(offset) <= self.span // 2
        return np.where((self.keys[at] == key) & reachable, at, -1)


@dataclass(frozen=True, eq=False)
class Matched:
    """Neighbour rows of hem's own matching, K of them, sorted by candidate and offset.

    Attributes:
        candidate, offset: int64 (K,).
        side: int64 (K,), 2 · candidate, plus 1 for frames after it.
        ncc: float64 (K + 1,); the entry at the end, which position -1 reads, is -1: no such row.
    """

    candidate: NDArray[np.int64]
    offset: NDArray[np.int64]
    side: NDArray[np.int64]
    ncc: NDArray[np.float64]


class Groups:
    """Runs of equal keys.

    Attributes:
        start: int64 (R,), the position where each run begins.
    """

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self.start = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))

    def largest(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return each run's largest value, and the position where the run begins."""
        if not len(self.start):
            return np.zeros(0), self.start
        return np.maximum.reduceat(values, self.start), self.start

    def count(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return int32 (R,): of how many of each run's positions ``mask`` holds."""
        if not len(self.start):
            return np.zeros(0, dtype=np.int32)
        return np.add.reduceat(mask.view(np.int8), self.start, dtype=np.int32)


class EvidenceIndex:
    """Everything about one Evidence that is the same for all thresholds, made when first asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self._detections = evidence.detections
        self._neighbours = evidence.neighbours
        self.reach = evidence.collected.reach
        """Frames on each side that anything was collected for."""
        self._window = evidence.collected.window
        unreadable = ~evidence.detections.decoded
        after_gap = np.concatenate([[False], unreadable[:-1]]) if len(unreadable) else unreadable
        self.times_s = frame_times(evidence.detections)
        """float64 (F,): time of each frame."""
        self.readable = ~unreadable
        """bool (F,): the frame was decoded."""
        self.shot = np.cumsum(evidence.cut_before | unreadable | after_gap)
        """int64 (F,): frames with the same number have no cut and no gap between them."""
        self.distinct = self.readable & ~evidence.duplicate
        """bool (F,): the frame shows something new."""
        self.order: NDArray[np.int64] = np.cumsum(self.distinct, dtype=np.int64)
        """int64 (F,): distinct frames up to and including this one."""
        self._kept: dict[str, OrderedDict[Hashable, object]] = {}
        self._asked: set[str] = set()
        self.n_labels = int(evidence.detections.labels.max(initial=0))

    def remembered(self, what: str, key: Hashable, make: Callable[[], Made], *, room: int) -> Made:
        """Return what ``make`` gave for this key, made again only if ``room`` newer keys came between.

        Settings of a sweep have most thresholds in common, so most of their parts are here already.
        """
        kept = self._kept.setdefault(what, OrderedDict())
        if key not in kept:
            kept[key] = make()
            if len(kept) > room:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]  # type: ignore[return-value]

    def asked_before(self, what: str) -> bool:
        """Return whether this was asked before: for a sweep more can be worked out at once than for one."""
        before = what in self._asked
        self._asked.add(what)
        return before

    def count_at_least(self, score: float) -> int:
        """Return how many detections reach a score: equal for thresholds that admit the same ones."""
        return len(self.scores_sorted) - int(self.scores_sorted.searchsorted(score, side="left"))

    @cached_property
    def fresh(self) -> NDArray[np.bool_]:
        """bool (N,): the detection's frame shows something new."""
        return self.distinct[self._detections.frame_index]

    @cached_property
    def frame_starts(self) -> NDArray[np.int64]:
        """int64 (F + 1,): row of each frame's first detection; its last is the one before the next's."""
        frames = np.arange(self._detections.n_frames + 1)
        return np.searchsorted(self._detections.frame_index, frames).astype(np.int64, copy=False)

    @cached_property
    def scores_sorted(self) -> NDArray[np.float64]:
        """float64 (N,), rising."""
        return np.sort(self._detections.scores)

    @cached_property
    def inclusive_pairs(self) -> Pairs:
        """Overlaps as the paper counts them, within ``window`` frames."""
        found = self._detections
        return overlapping_pairs(
            found.frame_index, found.boxes_xyxy, found.labels, self._window, inclusive=True
        )

    def pairs_of(self, rows: NDArray[np.int64]) -> Pairs:
        """Plain overlaps of ``rows``, rising, within reach, between distinct frames of one shot.

        Of a short video all are kept, of a longer one those asked for are worked out anew: a video has
        more pairs than anything else.
        """
        if not self.keeps_pairs:
            return self._overlaps(rows)
        kept, starts = self._pairs
        _, at = expand_ranges(starts[rows], starts[rows + 1])
        return Pairs(kept.first[at], kept.second[at], kept.offset[at], kept.iou[at])

    def _overlaps(self, rows: NDArray[np.int64]) -> Pairs:
        found = self._detections
        return overlaps_of(
            rows, found.frame_index, self.frame_starts, found.boxes_xyxy, self._kin, self.reach
        )

    @property
    def keeps_pairs(self) -> bool:
        """Whether the video is short enough for all its overlaps to be kept for the next setting."""
        return len(self._detections) <= MOST_KEPT

    @cached_property
    def _pairs(self) -> tuple[Pairs, NDArray[np.int64]]:
        """All overlaps, and int64 (N + 1,), where those of each detection begin."""
        count = len(self._detections)
        pairs = self._overlaps(np.arange(count))
        return pairs, np.searchsorted(pairs.first, np.arange(count + 1, dtype=pairs.first.dtype))

    def kinds(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 (N,): one number for class and part of the video, int64 (F,), such as ``shot``."""
        found = self._detections
        return found.labels + part[found.frame_index] * (self.n_labels + 1)

    @cached_property
    def _kin(self) -> NDArray[np.int64]:
        """int64 (N,): one number for class and shot, and one of its own for what a repeated frame holds."""
        kin = self.kinds(self.shot)
        repeated = np.flatnonzero(~self.fresh)
        kin[repeated] = -1 - repeated
        return kin

    @cached_property
    def box_groups(self) -> Groups:
        """Entries of ``box`` with one neighbour row in common."""
        return Groups(self.box.row)

    @cached_property
    def adjacent(self) -> Pairs:
        """Plain overlaps of distinct frames with the next distinct one of their shot; offsets are positive.

        However long the frozen stretch between them is: ``reach`` does not matter here.
        """
        found = self._detections
        rows = np.flatnonzero(self.fresh)
        frame = found.frame_index[rows]
        pairs = overlapping_pairs(self.order[frame], found.boxes_xyxy[rows], found.labels[rows], 1)
        good = (pairs.offset > 0) & (self.shot[frame[pairs.first]] == self.shot[frame[pairs.second]])
        rows = rows.astype(pairs.first.dtype)  # as small as the pairs are
        first, second = rows[pairs.first[good]], rows[pairs.second[good]]
        offset = (found.frame_index[second] - found.frame_index[first]).astype(rows.dtype)
        return Pairs(first, second, offset, pairs.iou[good])

    @cached_property
    def rank(self) -> NDArray[np.float64]:
        """float64 (N,): share of the video's detections with a score up to this one's, in [0, 1].

        Those in frames that were not decoded do not count: nobody can look at them.
        """
        scores, seen = self._detections.scores, self.readable[self._detections.frame_index]
        counted = self.scores_sorted if seen.all() else np.sort(scores[seen])
        return np.searchsorted(counted, scores, side="right") / max(len(counted), 1)

    def strength(self) -> NDArray[np.float64]:
        """float64 (N,): square root of ``rank``, what a neighbour's overlap counts for."""
        return np.sqrt(self.rank)

    @cached_property
    def inside(self) -> NDArray[np.float64]:
        """float64 (N,): largest part that lies inside a surer detection of its class and frame."""
        found = self._detections
        own, other, common = self.in_frame
        same = found.labels[other] == found.labels[own]
        own, common = own[same], common[same]
        part = common / area(found.boxes_xyxy.take(own, axis=0))
        return largest_of(own, part, len(found), 0.0)

    @cached_property
    def in_frame(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(own, surer, common area) of detections that share pixels with a surer one of their frame."""
        found = self._detections
        return overlaps_in_frame(found.frame_index, found.boxes_xyxy, found.scores)

    @cached_property
    def in_frame_iou(self) -> NDArray[np.float64]:
        """float64 (P,), IoU of the pairs of ``in_frame``."""
        own, other, _ = self.in_frame
        boxes = self._detections.boxes_xyxy
        return paired_iou(boxes.take(own, axis=0), boxes.take(other, axis=0))

    def sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """float64 (N,) twice: longer and shorter side, px."""
        left, top, right, bottom = self._detections.boxes_xyxy.T
        width, height = right - left, bottom - top
        return np.maximum(width, height), np.minimum(width, height)

    def clearance(self) -> NDArray[np.float64]:
        """float64 (N,): least distance to the frame's border, px."""
        video = self._detections.video
        left, top, right, bottom = self._detections.boxes_xyxy.T
        nearest = np.minimum(left, top)
        for distance in (video.width - right, video.height - bottom):
            np.minimum(nearest, distance, out=nearest)
        return nearest

    @cached_property
    def matched(self) -> "Matched":
        """The rows of hem's own matching in columns, in the order of ``box.rows``."""
        rows, near = self.box.rows, self._neighbours
        offset = near.offset[rows].astype(np.int64)
        side = near.candidate[rows] * 2 + (offset > 0)
        return Matched(near.candidate[rows], offset, side, np.append(near.ncc[rows], -1.0))

    def places(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 (M, 4): tracked boxes of rows of ``matched``; zeros for position -1, no such row."""
        found = np.zeros((len(positions), 4))
        there = positions >= 0
        found[there] = self._neighbours.tracked_xyxy[self.box.rows[positions[there]]]
        return found

    @cached_property
    def pixel(self) -> Appearance:
        """Full-resolution rows."""
        return self._appearance(PIXEL_REGION, inclusive=True)

    @cached_property
    def box(self) -> Appearance:
        """Rows of hem's own matching."""
        return self._appearance(BOX_REGION, inclusive=False)

    def _appearance(self, region: int, inclusive: bool) -> Appearance:
        near = self._neighbours
        rows = np.flatnonzero(near.region == region)
        boxes = BoxColumns(self._detections.boxes_xyxy, inclusive=inclusive)
        parts = [
            self._tracked(part, boxes, inclusive)
            for part in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER))
        ]
        row, detection, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
        del parts
        span = 2 * self.reach + 1
        keys = near.candidate[rows] * span + near.offset[rows] + span // 2
        order = np.argsort(keys)
        position = np.empty(len(near.region), dtype=np.int64)
        position[rows[order]] = np.arange(len(rows))
        return Appearance(row, detection, iou, keys[order], rows[order], position[row], span)

    def _tracked(
        self, rows: NDArray[np.int64], boxes: BoxColumns, inclusive: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return (row, detection, iou) of Appearance for some neighbour rows."""
        near, found = self._neighbours, self._detections
        frame = found.frame_index[near.candidate[rows]] + near.offset[rows]
        owner, detection = expand_ranges(self.frame_starts[frame], self.frame_starts[frame + 1])
        same = np.flatnonzero(found.labels[detection] == found.labels[near.candidate[rows]][owner])
        owner, detection = owner[same], detection[same]
        tracked = BoxColumns(near.tracked_xyxy[rows], inclusive=inclusive)
        hit, iou = tracked.overlaps(owner, boxes, detection)
        return rows[owner[hit]], detection[hit], iou


_INDICES: WeakKeyDictionary[Evidence, EvidenceIndex] = WeakKeyDictionary()


def index_of(evidence: Evidence) -> EvidenceIndex:
    """Return the index of ``evidence``, made once for as long as the evidence lives."""
    index = _INDICES.get(evidence)
    if index is None:
        index = _INDICES[evidence] = EvidenceIndex(evidence)
    return index


def within(name: str, value: float, limits: tuple[float, float], by: str) -> None:
    """Raise HemError unless limits[0] <= value <= limits[1].

    Args:
        name, value: of the mining setting; a score setting as a raw score, whatever scale it is read on.
        limits: what was collected.
        by: the collect setting that decides it.
    """
    if not limits[0] <= value <= limits[1]:
        raise HemError(
            f"mining.{name} is {value:g}, but the evidence was collected for {limits[0]:g}..{limits[1]:g}: "
            f"choose a value inside, or collect again with another collect.{by}"
        )
