"""Hard positives: frames in which a steady track has no detection, filled from both sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.index import EvidenceIndex, index_of
from hem.mining.table import IGNORE, POSITIVE, MinedTable
from hem.mining.thresholds import TemporalThresholds
from hem.mining.tracks import track_ids
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


def _ends(evidence: Evidence, thresholds: TemporalThresholds) -> tuple[NDArray, NDArray, NDArray]:
    """Return last and first rows of long tracks, and (2, N) the nearest frame that explains each side."""
    index, found = index_of(evidence), evidence.detections
    track = track_ids(evidence, thresholds.label_score, thresholds.link_iou)
    kept = np.flatnonzero(track >= 0)
    length = np.bincount(track[kept], minlength=1)
    _, at = np.unique(track[kept], return_index=True)
    firsts = kept[at]
    _, at = np.unique(track[kept][::-1], return_index=True)
    lasts = kept[::-1][at]
    long_enough = length[track[firsts]] >= thresholds.min_track
    pairs = index.pairs
    ends = any_of(np.concatenate([firsts[long_enough], lasts[long_enough]]), len(found))
    explains = (
        ends[pairs.first]
        & (pairs.iou > thresholds.iou_threshold)
        & (found.scores[pairs.second] >= thresholds.label_score)
    )
    far = float(thresholds.max_gap + 2)
    sides = []
    for sign in (-1, 1):
        use = explains & (np.sign(pairs.offset) == sign)
        sides.append(smallest_of(pairs.first[use], np.abs(pairs.offset[use]), len(found), far))
    return lasts[long_enough], firsts[long_enough], np.stack([sides[1], sides[0]])


def find_gaps(evidence: Evidence, thresholds: TemporalThresholds) -> Gaps:
    """Join track ends over gaps of 1..max_gap frames and match every frame between from both sides."""
    index, found = index_of(evidence), evidence.detections
    lasts, firsts, nearest = _ends(evidence, thresholds)
    frame = found.frame_index
    firsts = firsts[np.argsort(frame[firsts], kind="stable")]
    start = np.searchsorted(frame[firsts], frame[lasts] + 2, side="left")
    end = np.searchsorted(frame[firsts], frame[lasts] + thresholds.max_gap + 1, side="right")
    owner, value = expand_ranges(start, end)
    a, b = lasts[owner], firsts[value]
    good = (found.labels[a] == found.labels[b]) & (index.shot[frame[a]] == index.shot[frame[b]])
    # a detection over the threshold that overlaps an end before the gap is over explains it
    span = frame[b] - frame[a]
    good &= (nearest[0][a] >= span) & (nearest[1][b] >= span)
    a, b, span = a[good], b[good], span[good]
    gaps = _match(evidence, thresholds, a, b)
    # the assignment must not depend on the order of rows, and prefers short gaps that agree
    mean = np.bincount(gaps.gap, weights=gaps.agreement, minlength=len(a)) / np.maximum(
        np.bincount(gaps.gap, minlength=len(a)), 1
    )
    overlap = paired_iou(_centred(found.boxes_xyxy[a], found.boxes_xyxy[b]), found.boxes_xyxy[b])
    plausible = np.flatnonzero(overlap >= thresholds.agree_iou)
    chosen = plausible[
        assign_links(a[plausible], b[plausible], 0.01 + mean[plausible] + 0.1 / span[plausible])
    ]
    keep = any_of(chosen, len(a))
    renumber = np.cumsum(keep) - 1
    rows = keep[gaps.gap]
    return Gaps(
        a[keep],
        b[keep],
        renumber[gaps.gap[rows]],
        gaps.frame_index[rows],
        gaps.boxes_xyxy[rows],
        gaps.agreement[rows],
        gaps.agrees[rows],
    )


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
    forward = index.box.find(a[gap], at - frame[a[gap]])
    backward = index.box.find(b[gap], at - frame[b[gap]])
    known = (forward >= 0) & (backward >= 0)
    ncc = np.append(evidence.neighbours.ncc, -1.0)
    places = np.concatenate([evidence.neighbours.tracked_xyxy, np.zeros((1, 4))])
    share = ((at - frame[a[gap]]) / (frame[b[gap]] - frame[a[gap]]))[:, None]
    size_a, size_b = _sizes(found.boxes_xyxy[a[gap]]), _sizes(found.boxes_xyxy[b[gap]])
    size = (1 - share) * size_a + share * size_b
    ahead = _box(_centres(places[forward]), size)
    behind = _box(_centres(places[backward]), size)
    overlap = np.where(known, paired_iou(ahead, behind), 0.0)
    lowest = np.minimum(ncc[forward], ncc[backward])
    agrees = known & (overlap >= thresholds.agree_iou) & (lowest >= thresholds.ncc_threshold)
    straight = (1 - share) * _centres(found.boxes_xyxy[a[gap]]) + share * _centres(found.boxes_xyxy[b[gap]])
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
    found = evidence.detections
    gaps = find_gaps(evidence, thresholds)
    inside = _within(gaps.boxes_xyxy, found.video.width, found.video.height)
    count = len(gaps.last)
    broken = any_of(gaps.gap[~(gaps.agrees & inside)], count)
    lowest = smallest_of(gaps.gap, gaps.agreement, count, 1.0)
    score, row = _teacher(evidence, gaps, thresholds)
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


def _teacher(
    evidence: Evidence, gaps: Gaps, thresholds: TemporalThresholds
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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


__all__ = ["EvidenceIndex", "Gaps", "find_gaps", "gap_table"]
