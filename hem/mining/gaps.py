"""Hard positives: frames in which a steady track has no detection, filled from both sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.index import index_of
from hem.mining.table import IGNORE, POSITIVE, MinedTable
from hem.mining.thresholds import TemporalThresholds
from hem.mining.tracks import tracks_of
from hem.ops.boxes import Boxes, paired_iou
from hem.ops.isolation import any_of, expand_ranges, smallest_of
from hem.ops.linking import assign_links
from hem.structures.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Gaps:
    """Pairs of track ends, and what matching says in each frame between them.

    Attributes:
        last, first: int64 (G,), detections before and after each gap.
        gap: int64 (M,), which gap a frame belongs to; frame_index: int64 (M,).
        boxes_xyxy: float64 (M, 4), the agreed box (between the ends where nothing agrees).
        agreement: float64 (M,), min of both NCCs and the IoU of both places; 0 where unknown.
        agrees: bool (M,), NCCs and IoU reach their thresholds.
    """

    last: NDArray[np.int64]
    first: NDArray[np.int64]
    gap: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    boxes_xyxy: Boxes
    agreement: NDArray[np.float64]
    agrees: NDArray[np.bool_]


def _ends(
    evidence: Evidence, thresholds: TemporalThresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return last and first rows of long tracks, and frames to the nearest one that explains each.

    A last detection is explained by a frame after it, a first one by a frame before it.
    """
    tracks = tracks_of(evidence, thresholds.label_score, thresholds.link_iou)
    long_enough = tracks.length >= thresholds.min_track
    lasts, firsts = tracks.last[long_enough], tracks.first[long_enough]
    after, before = (
        _explained(evidence, thresholds, rows, sign) for rows, sign in ((lasts, 1), (firsts, -1))
    )
    return lasts, firsts, after, before


def _explained(
    evidence: Evidence, thresholds: TemporalThresholds, rows: NDArray[np.int64], sign: int
) -> NDArray[np.int64]:
    """Return int64 like ``rows``: frames to the nearest on that side with a label over each box."""
    index = index_of(evidence)
    pairs = index.pairs
    start, end = np.searchsorted(pairs.first, rows), np.searchsorted(pairs.first, rows, side="right")
    owner, at = expand_ranges(start, end)
    use = (pairs.offset[at] * sign > 0) & (pairs.iou[at] > thresholds.iou_threshold)
    use &= evidence.detections.scores[pairs.second[at]] >= thresholds.label_score
    far = thresholds.max_gap + 2
    return smallest_of(owner[use], np.abs(pairs.offset[at[use]]), len(rows), far).astype(np.int64)


def find_gaps(evidence: Evidence, thresholds: TemporalThresholds) -> Gaps:
    """Join track ends over gaps of 1..max_gap frames and match every frame between from both sides."""
    t = thresholds
    labels = index_of(evidence).count_at_least(t.label_score)
    key = (labels, t.link_iou, t.min_track, t.max_gap, t.iou_threshold, t.agree_iou)
    a, b = index_of(evidence).remembered("gap ends", key, lambda: _joined_ends(evidence, t), room=8)
    return _match(evidence, thresholds, a, b)


def _joined_ends(
    evidence: Evidence, thresholds: TemporalThresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 (G,) twice: detections before and after each gap. ncc_threshold plays no part."""
    index, found = index_of(evidence), evidence.detections
    lasts, firsts, after, before = _ends(evidence, thresholds)  # both in the order of their tracks,
    frame = found.frame_index  # so the frames of the first ones rise
    start = np.searchsorted(frame[firsts], frame[lasts] + 2, side="left")
    end = np.searchsorted(frame[firsts], frame[lasts] + thresholds.max_gap + 1, side="right")
    owner, value = expand_ranges(start, end)
    a, b = lasts[owner], firsts[value]
    span = frame[b] - frame[a]
    good = (found.labels[a] == found.labels[b]) & (index.shot[frame[a]] == index.shot[frame[b]])
    # a detection over the threshold that overlaps an end before the gap is over explains it
    good &= (after[owner] >= span) & (before[value] >= span)
    a, b, span = a[good], b[good], span[good]
    overlap = paired_iou(_centred(found.boxes_xyxy[a], found.boxes_xyxy[b]), found.boxes_xyxy[b])
    plausible = overlap >= thresholds.agree_iou
    a, b, span = a[plausible], b[plausible], span[plausible]
    gaps = _match(evidence, thresholds, a, b)
    # the assignment must not depend on the order of rows, and prefers short gaps that agree
    mean = np.bincount(gaps.gap, weights=gaps.agreement, minlength=len(a)) / np.maximum(
        np.bincount(gaps.gap, minlength=len(a)), 1
    )
    chosen = assign_links(a, b, 0.01 + mean + 0.1 / span)
    return a[chosen], b[chosen]


def _centred(boxes: Boxes, others: Boxes) -> Boxes:
    """Return ``boxes`` moved onto the centres of ``others``: their overlap compares sizes only."""
    shift = (others[:, :2] + others[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    return boxes + np.concatenate([shift, shift], axis=1)


def _match(
    evidence: Evidence, thresholds: TemporalThresholds, a: NDArray[np.int64], b: NDArray[np.int64]
) -> Gaps:
    index, found = index_of(evidence), evidence.detections
    frame = found.frame_index
    gap, at = expand_ranges(frame[a] + 1, frame[b])
    fresh = index.distinct[at]
    gap, at = gap[fresh], at[fresh]
    early, late = a[gap], b[gap]
    forward = index.box.positions(early, at - frame[early])
    backward = index.box.positions(late, at - frame[late])
    known = (forward >= 0) & (backward >= 0)
    ncc, places = index.matched.ncc, index.matched.places
    share = ((at - frame[early]) / (frame[late] - frame[early]))[:, None]
    size_a, size_b = _sizes(found.boxes_xyxy[early]), _sizes(found.boxes_xyxy[late])
    size = (1 - share) * size_a + share * size_b
    ahead = _box(_centres(places[forward]), size)
    behind = _box(_centres(places[backward]), size)
    overlap = np.where(known, paired_iou(ahead, behind), 0.0)
    lowest = np.minimum(ncc[forward], ncc[backward])
    agrees = known & (overlap >= thresholds.agree_iou) & (lowest >= thresholds.ncc_threshold)
    straight = (1 - share) * _centres(found.boxes_xyxy[early]) + share * _centres(found.boxes_xyxy[late])
    agreed = (1 - share) * _centres(ahead) + share * _centres(behind)
    boxes = _box(np.where(agrees[:, None], agreed, straight), size)
    agreement = np.where(known, np.clip(np.minimum(lowest, overlap), 0.0, 1.0), 0.0)
    return Gaps(a, b, gap, at, boxes, agreement, agrees)


def _sizes(boxes: Boxes) -> NDArray[np.float64]:
    return boxes[:, 2:] - boxes[:, :2]


def _centres(boxes: Boxes) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _box(centres: NDArray[np.float64], sizes: NDArray[np.float64]) -> Boxes:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def gap_table(evidence: Evidence, thresholds: TemporalThresholds, rule: str) -> MinedTable:
    """Return hard positives, and ignore regions where a gap cannot be filled with certainty.

    One frame without agreement (occlusion, change of appearance) makes its whole gap ignore, and so
    does a box that leaves the frame. Weight: the lowest agreement in the gap.
    """
    index = index_of(evidence)
    t = thresholds
    labels = index.count_at_least(t.label_score)
    key = (labels, t.link_iou, t.min_track, t.max_gap, t.iou_threshold, t.agree_iou, t.ncc_threshold)
    return index.remembered(f"gaps {rule}", key, lambda: _gap_table(evidence, thresholds, rule), room=8)


def _gap_table(evidence: Evidence, thresholds: TemporalThresholds, rule: str) -> MinedTable:
    found = evidence.detections
    gaps = find_gaps(evidence, thresholds)
    inside = _within(gaps.boxes_xyxy, found.video.width, found.video.height)
    count = len(gaps.last)
    broken = any_of(gaps.gap[~(gaps.agrees & inside)], count)
    lowest = smallest_of(gaps.gap, gaps.agreement, count, 1.0)
    score, row = _teacher(evidence, gaps)
    index = index_of(evidence)
    length = found.frame_index[gaps.first] - found.frame_index[gaps.last] - 1
    kind = np.where(broken[gaps.gap], IGNORE, POSITIVE).astype(np.int8)
    return MinedTable(
        video=found.video,
        rule=rule,
        row=row,
        frame_index=gaps.frame_index,
        time_s=index.times_s[gaps.frame_index],
        boxes_xyxy=gaps.boxes_xyxy,
        labels=found.labels[gaps.last[gaps.gap]],
        kind=kind,
        scores=score,
        weights=np.where(kind == IGNORE, 0.0, lowest[gaps.gap]),
        evidence={
            "agreement": gaps.agreement,
            "gap_frames": length[gaps.gap].astype(np.float64),
        },
    )


def _within(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray(
        (boxes[:, 0] >= 0) & (boxes[:, 1] >= 0) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    )


def _teacher(evidence: Evidence, gaps: Gaps) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the detector's own (low) score at each gap box, NaN if none, and that detection's row."""
    found = evidence.detections
    start = np.searchsorted(found.frame_index, gaps.frame_index, side="left")
    end = np.searchsorted(found.frame_index, gaps.frame_index, side="right")
    owner, row = expand_ranges(start, end)
    label = found.labels[gaps.last[gaps.gap]]
    fits = (found.labels[row] == label[owner]) & (
        paired_iou(gaps.boxes_xyxy[owner], found.boxes_xyxy[row]) > 0.5
    )
    owner, row = owner[fits], row[fits]
    order = np.lexsort((row, -found.scores[row], owner))
    owner, row = owner[order], row[order]
    unique, at = np.unique(owner, return_index=True)
    score = np.full(len(gaps.gap), np.nan)
    best = np.full(len(gaps.gap), -1, dtype=np.int64)
    score[unique], best[unique] = found.scores[row[at]], row[at]
    return score, best
