"""Pairs of detections that may be the ends of a gap, and what matching says between them.

No threshold changes any of it. The first setting asked about has only those between its own track ends worked
out; when a second one asks, all of the video are, unless there are too many.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hem.mining.index import Groups, index_of
from hem.ops.box_columns import BoxColumns
from hem.ops.boxes import Boxes, paired_iou
from hem.ops.isolation import any_of, expand_ranges, largest_of, parts_of
from hem.structures.evidence import Evidence

_MOST = 2_000_000  # pairs compared to know all of a video; with more, a setting's own are cheaper to find
_MOST_KEPT = 50_000  # pairs kept of a video
_TOGETHER = 50_000  # pairs compared at once: their temporaries must not grow with the video
_ROWS = 4_096  # detections of which the overlaps are looked at together, for the same reason


def _surest_over(evidence: Evidence, rows: NDArray[np.int64], iou_threshold: float) -> NDArray[np.float64]:
    """Return float64 (R, 2 reach + 1): at reach + d the surest score over a row in any frame up to d on.

    Over it lies what overlaps its box by more than the threshold; -inf where nothing does.
    """
    index, scores = index_of(evidence), evidence.detections.scores
    reach = index.reach
    best = np.full((len(rows), 2 * reach + 1), -np.inf)
    for low in range(0, len(rows), _ROWS):
        some = rows[low : low + _ROWS]
        pairs = index.pairs_of(some)
        over = np.where(pairs.iou > iou_threshold, scores[pairs.second], -np.inf)
        # by row and offset: rising, as the pairs are sorted
        surest, at = Groups(pairs.first * (2 * reach + 1) + pairs.offset).largest(over)
        best[low + np.searchsorted(some, pairs.first[at]), reach + pairs.offset[at]] = surest
    for side in (best[:, reach:], best[:, reach::-1]):
        np.maximum.accumulate(side, axis=1, out=side)
    return best


def explained(
    evidence: Evidence,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    iou_threshold: float,
    complete: bool,
) -> NDArray[np.float64]:
    """Return float64 (Q,): the surest score between two detections over one of them, -inf if there is none.

    From that score down the object was seen there, by a detection that overlaps an end by more than the
    threshold, and the pair is no gap.

    Args:
        evidence: with the overlaps.
        before, after: int64 (Q,), rows, at most ``reach`` frames apart.
        iou_threshold: overlap.
        complete: these are all pairs of the video, or a part of them: what lies over any detection is then
            worked out once.
    """
    index, found = index_of(evidence), evidence.detections
    inside = found.frame_index[after] - found.frame_index[before] - 1
    if complete:
        rows = np.arange(len(found))
        over = index.remembered(
            "over", iou_threshold, lambda: _surest_over(evidence, rows, iou_threshold), room=3
        )
    else:
        rows = np.flatnonzero(any_of(np.concatenate([before, after]), len(found)))
        over = _surest_over(evidence, rows, iou_threshold)
        before, after = np.searchsorted(rows, before), np.searchsorted(rows, after)
    return np.maximum(over[before, index.reach + inside], over[after, index.reach - inside])


@dataclass(frozen=True, eq=False)
class GapPairs:
    """Detections before and after a possible gap.

    Attributes:
        before, after: int64 (Q,), rows, of one class, no lost frame between them. Over a cut matching says
            nothing: what such a gap hides nobody can tell.
        span: int64 (Q,), frames from one to the other, >= 2.
        sizes: float64 (Q,), > 0, IoU of the two boxes moved onto one centre.
        worth: float64 (Q,), > 0, what the assignment gains by joining them.
        seen: what matching says between them.
        complete: these are all pairs of the video.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    span: NDArray[np.int64]
    sizes: NDArray[np.float64]
    worth: NDArray[np.float64]
    seen: "Between"
    complete: bool


def gap_pairs(
    evidence: Evidence, befores: NDArray[np.int64], afters: NDArray[np.int64], max_gap: int
) -> GapPairs:
    """Return the pairs that may be gaps: all of the video, or those of these detections.

    Args:
        evidence: with detections down to every threshold that is asked.
        befores, afters: int64, rows, in order of their frames.
        max_gap: frames between them at most.
    """
    index, found, collected = index_of(evidence), evidence.detections, evidence.collected

    def of_all() -> GapPairs | None:
        if not index.keeps_pairs:
            return None
        rows = np.flatnonzero(index.fresh & (found.scores >= collected.score_threshold[0]))
        # counted by frames first: a long video has far more detections, and too many pairs anyway
        of_frame = np.bincount(found.frame_index[rows], minlength=found.n_frames)
        if _within(of_frame, 2, collected.max_gap + 1) > _MOST:
            return None
        pairs = _candidates(evidence, rows, rows, collected.max_gap, complete=True)
        return _pairs(evidence, *pairs, complete=True) if len(pairs[0]) <= _MOST_KEPT else None

    if index.asked_before("gap pairs"):
        known = index.remembered("gap pairs", (), of_all, room=1)
        if known is not None:
            return known
    pairs = _candidates(evidence, befores, afters, max_gap, complete=False)
    return _pairs(evidence, *pairs, complete=False)


def _within(of_frame: NDArray[np.int64], nearest: int, furthest: int) -> int:
    """Return how many pairs lie ``nearest``..``furthest`` frames apart, given how many each frame has."""
    before = np.concatenate([[0], np.cumsum(of_frame)])
    frame, last = np.arange(len(of_frame)), len(of_frame)
    there = before[np.minimum(frame + furthest + 1, last)] - before[np.minimum(frame + nearest, last)]
    return int((of_frame * there).sum())


_Candidates = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _candidates(
    evidence: Evidence, befores: NDArray[np.int64], afters: NDArray[np.int64], max_gap: int, complete: bool
) -> _Candidates:
    """Return int64 (Q,) twice, rows of ``befores`` and ``afters`` that may be one object; and their sizes."""
    index, found = index_of(evidence), evidence.detections
    frame = found.frame_index
    kind = index.kinds(np.cumsum(~index.readable))  # over lost frames nothing is concluded
    start = np.searchsorted(frame[afters], frame[befores] + 2, side="left")
    end = np.searchsorted(frame[afters], frame[befores] + max_gap + 1, side="right")
    kept = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for low, high in pairwise(parts_of(end - start, _TOGETHER)):
        owner, value = expand_ranges(start[low:high], end[low:high])
        a, b = befores[low:high][owner], afters[value]
        kin = np.flatnonzero(kind[a] == kind[b])
        a, b = a[kin], b[kin]
        near = _within_reach(found.boxes_xyxy, a, b, evidence.collected.box_margin)  # first: few pairs are
        a, b = a[near], b[near]
        # both ends reach whatever score is asked about: what is explained from there up, at the strictest
        # overlap, is so at every threshold
        strictest = explained(evidence, a, b, evidence.collected.iou_threshold[1], complete)
        early, late = (found.boxes_xyxy.take(rows, axis=0) for rows in (a, b))  # quicker than indexing
        sizes = paired_iou(_centred(early, late), late)
        use = (strictest < np.minimum(found.scores[a], found.scores[b])) & (sizes > 0)
        kept.append((a[use], b[use], sizes[use]))
    a, b, sizes = (np.concatenate(column) for column in zip(*kept, strict=True))
    return a, b, sizes


def _pairs(
    evidence: Evidence,
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    sizes: NDArray[np.float64],
    complete: bool,
) -> GapPairs:
    frame = evidence.detections.frame_index
    span = frame[b] - frame[a]
    seen = between(evidence, a, b)
    total = np.bincount(seen.gap, weights=seen.agreement, minlength=len(a))
    mean = total / np.maximum(np.bincount(seen.gap, minlength=len(a)), 1)
    # short gaps that agree come first, and so those within a shot before those over a cut
    worth = 0.01 + mean + 0.1 / span
    return GapPairs(a, b, span, sizes, worth, seen, complete)


def _within_reach(
    boxes: Boxes, a: NDArray[np.int64], b: NDArray[np.int64], box_margin: float | None
) -> NDArray[np.int64]:
    """Return int64, which pairs of rows are no further apart than matching looks from both together.

    Further away, nothing that was seen makes them one object.
    """
    longer = _sizes(boxes).max(axis=1, initial=0.0)
    at = np.arange(len(a))
    for centre in _centres(boxes).T.copy():
        limit = (box_margin or 0.0) * (longer[a] + longer[b])
        near = np.flatnonzero(np.abs(centre[a] - centre[b]) <= limit)
        at, a, b = at[near], a[near], b[near]
    return at


def _centred(boxes: Boxes, others: Boxes) -> Boxes:
    """Return ``boxes`` moved onto the centres of ``others``: their overlap compares sizes only."""
    shift = (others[:, :2] + others[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    return boxes + np.concatenate([shift, shift], axis=1)


@dataclass(frozen=True, eq=False)
class Between:
    """What matching from both ends of some gaps says in each distinct frame between them.

    Attributes:
        gap: int64 (M,), which gap a frame belongs to, rising; frame_index: int64 (M,).
        lowest: float64 (M,), lower NCC of the two matches, -1 where one is missing.
        overlap: float64 (M,), IoU of the two places, 0 where one is missing.
        agreement: float64 (M,), the lower of both, in [0, 1].
        straight, agreed: float64 (M, 4), boxes between the ends, and between the places matched.
    """

    gap: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    lowest: NDArray[np.float64]
    overlap: NDArray[np.float64]
    agreement: NDArray[np.float64]
    straight: Boxes
    agreed: Boxes

    def frames_of(self, gaps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (which of ``gaps``, position here) of every frame of some gaps, int64 (G,)."""
        start, end = (np.searchsorted(self.gap, gaps, side=side) for side in ("left", "right"))
        return expand_ranges(start, end)

    def at(self, gap: NDArray[np.int64], positions: NDArray[np.int64]) -> "Between":
        """Return what is said at some positions, under other numbers of their gaps; both int64 (M,)."""
        rest = [getattr(self, item.name).take(positions, axis=0) for item in fields(self)[1:]]
        return Between(gap, *rest)


class Inside:
    """What was detected in gaps where the object must have been: over the straight and the matched boxes.

    Attributes:
        teacher: int64 (2, M), row of the surest detection with IoU > 0.5 over the straight box of each
            frame, and over the matched one (the straight one where matching says nothing); -1 if none.
    """

    def __init__(self, evidence: Evidence, before: NDArray[np.int64], seen: Between) -> None:
        scores, labels = evidence.detections.scores, evidence.detections.labels[before[seen.gap]]
        matched = np.where(seen.overlap[:, None] > 0, seen.agreed, seen.straight)
        self.teacher = np.full((2, len(seen.gap)), -1, dtype=np.int64)
        self._count = len(before)
        entries = []
        for teacher, boxes in zip(self.teacher, (seen.straight, matched), strict=True):
            owner, row, iou = _over(evidence, seen.frame_index, labels, boxes)
            sure = np.flatnonzero(iou > 0.5)
            order = sure[np.lexsort((row[sure], -scores[row[sure]], owner[sure]))[::-1]]
            teacher[owner[order]] = row[order]  # what is written last stays
            entries.append((seen.gap[owner], iou, scores[row]))
        self._gap, self._iou, self._score = (np.concatenate(column) for column in zip(*entries, strict=True))

    def surest(self, link_iou: float) -> NDArray[np.float64]:
        """Return float64 (G,): the surest score that links would join to the object, -inf if none."""
        joins = self._iou >= link_iou
        return largest_of(self._gap[joins], self._score[joins], self._count, -np.inf)


def _over(
    evidence: Evidence, frame_index: NDArray[np.int64], labels: NDArray[np.int64], boxes: Boxes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (which box, row, IoU) of the detections of its class that each box overlaps in its frame."""
    found, starts = evidence.detections, index_of(evidence).frame_starts
    owner, row = expand_ranges(starts[frame_index], starts[frame_index + 1])
    same = np.flatnonzero(found.labels[row] == labels[owner])
    owner, row = owner[same], row[same]
    hit, iou = BoxColumns(boxes).overlaps(owner, BoxColumns(found.boxes_xyxy), row)
    return owner[hit], row[hit], iou


def between(evidence: Evidence, before: NDArray[np.int64], after: NDArray[np.int64]) -> Between:
    """Match every frame between detections ``before`` and ``after``, int64 (Q,) each, from both sides."""
    index, found = index_of(evidence), evidence.detections
    frame, ncc = found.frame_index, index.matched.ncc
    gap, at = expand_ranges(frame[before] + 1, frame[after])
    fresh = index.distinct[at]
    gap, at = gap[fresh], at[fresh]
    early, late = before[gap], after[gap]
    forward = index.box.positions(early, at - frame[early])
    backward = index.box.positions(late, at - frame[late])
    known = (forward >= 0) & (backward >= 0) & (index.shot[frame[early]] == index.shot[frame[late]])
    share = ((at - frame[early]) / (frame[late] - frame[early]))[:, None]
    first, last = (found.boxes_xyxy.take(rows, axis=0) for rows in (early, late))
    size = (1 - share) * _sizes(first) + share * _sizes(last)
    ahead, behind = (_box(_centres(index.places(at)), size) for at in (forward, backward))
    overlap = np.where(known, paired_iou(ahead, behind), 0.0)
    lowest = np.minimum(ncc[forward], ncc[backward])
    return Between(
        gap,
        at,
        lowest,
        overlap,
        np.where(known, np.clip(np.minimum(lowest, overlap), 0.0, 1.0), 0.0),
        _box((1 - share) * _centres(first) + share * _centres(last), size),
        _box((1 - share) * _centres(ahead) + share * _centres(behind), size),
    )


def _sizes(boxes: Boxes) -> NDArray[np.float64]:
    return boxes[:, 2:] - boxes[:, :2]


def _centres(boxes: Boxes) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _box(centres: NDArray[np.float64], sizes: NDArray[np.float64]) -> Boxes:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
