"""hem's own rule on what a video shows: which detections last, and which come from nothing.

The steadiness of a candidate is

    mean over the neighbour frames of max over detections there of (IoU · sqrt(rank))
    + score_weight · rank - inside_weight · inside

where the IoU is with the candidate's own box or, in a frame that shows its picture for sure
(NCC >= track_ncc), with the place it was tracked to; rank is a score's rank among the video's
detections in (0, 1]; and inside is the part of the candidate that lies in a surer box of its class in
the same frame. True objects last, so they are steady; false alarms flicker.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.gaps import gap_table, prepare_gaps
from hem.mining.index import EvidenceIndex, Groups, index_of
from hem.mining.table import (
    IGNORE,
    NEGATIVE,
    PSEUDO,
    MinedTable,
    detection_table,
    first_kind,
    off_labels,
    picks,
    with_gaps,
)
from hem.mining.thresholds import TemporalThresholds, check_range
from hem.mining.tracks import track_ids
from hem.ops.isolation import any_of
from hem.structures import HardExample
from hem.structures.evidence import Evidence

_ROWS = 4_096  # looked at together: what every frame around gives must not lie there for a whole long video


@dataclass(frozen=True, eq=False)
class Steadiness:
    """Temporal evidence on every detection under one setting, all (N,).

    Attributes:
        support: float64 (N,), mean over neighbour frames, 0..1.
        value: float64 (N,), the steadiness.
        visible: float64 (N,), smaller share over both sides of neighbour frames that show it; 0 where
            a side has no neighbour frame (start, end, cut, damaged stretch), NaN where nobody asked
            (steady, or below score_threshold).
        steady: bool (N,), overlapped by more than iou_threshold in both nearest frames.
        neighbours: int32 (N,), neighbour frames that support rests on.
    """

    support: NDArray[np.float64]
    value: NDArray[np.float64]
    visible: NDArray[np.float64]
    steady: NDArray[np.bool_]
    neighbours: NDArray[np.int32]


def neighbour_frames(index: EvidenceIndex, thresholds: TemporalThresholds) -> NDArray[np.bool_]:
    """Return bool (F, 2 w + 1): whether the frame at offset column - w counts as a neighbour.

    It must be decoded, distinct, of the same shot, and within ``window_s`` seconds or among the
    ``min_window`` nearest distinct frames.
    """
    count, width = len(index.times_s), thresholds.window
    offsets = np.arange(-width, width + 1)
    good = np.zeros((count, len(offsets)), dtype=np.bool_)
    for low in range(0, count, _ROWS):
        here = np.arange(low, min(low + _ROWS, count))[:, None]
        target = here + offsets
        inside = (target >= 0) & (target < count) & (offsets != 0)
        target = np.clip(target, 0, count - 1)
        # half a millisecond: timestamps are rounded to the container's time base
        near = np.abs(index.times_s[target] - index.times_s[here]) <= thresholds.window_s + 5e-4
        near |= np.abs(index.order[target] - index.order[here]) <= thresholds.min_window
        near &= inside & index.distinct[target] & (index.shot[target] == index.shot[here])
        good[low : low + _ROWS] = near
    return good


@dataclass(frozen=True, eq=False)
class _Around:
    """What one window makes of the frames around: bool (F, 2 w + 1) valid, by frame; int64 (N,) each
    detection's frame, int32 (N,) how many are valid around it, and the same but 1 for none, int32 (2 N,) how
    many before and after it, 1 for none; bool (K,) whether a matched row's frame is one."""

    valid: NDArray[np.bool_]
    frame: NDArray[np.int64]
    total: NDArray[np.int32]
    at_least_one: NDArray[np.int32]
    sides: NDArray[np.int32]
    of_row: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Support:
    """What overlap alone gives: float64 (N,) its sum over the neighbour frames; and of the tracked boxes,
    int64 (G,) matched rows, float64 (G,) the best overlap there, and the box's own in that frame."""

    total: NDArray[np.float64]
    row: NDArray[np.int64]
    best: NDArray[np.float64]
    own: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Looks:
    """Matched rows in neighbour frames of detections that are not steady: float64 (R,) NCC, the runs of rows
    on one side of a detection, and int64 (S,), Matched.side of each run."""

    ncc: NDArray[np.float64]
    of_side: Groups
    side: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Followed:
    """Where the tracked place of a candidate overlaps more than its own box does: int64 (P,) candidate,
    float64 (P,) NCC there, float64 (P,) what that adds to its support."""

    candidate: NDArray[np.int64]
    ncc: NDArray[np.float64]
    gain: NDArray[np.float64]


def _around(index: EvidenceIndex, frame: NDArray[np.int64], thresholds: TemporalThresholds) -> _Around:
    width, matched = thresholds.window, index.matched
    valid = neighbour_frames(index, thresholds)
    halves = valid[:, :width], valid[:, width + 1 :]
    sides = np.stack([half.sum(axis=1, dtype=np.int32) for half in halves], axis=1)
    near = np.abs(matched.offset) <= width
    of_row = near & valid[frame[matched.candidate], np.where(near, matched.offset, 0) + width]
    total = sides.sum(axis=1, dtype=np.int32)[frame]
    return _Around(valid, frame, total, np.maximum(total, 1), np.maximum(sides, 1)[frame].ravel(), of_row)


def _support(
    index: EvidenceIndex, counts: NDArray[np.bool_], around: _Around, thresholds: TemporalThresholds
) -> _Support:
    width, box, matched = thresholds.window, index.box, index.matched
    strength = np.where(counts, index.strength(), 0.0)
    best, at = index.box_groups.largest(strength[box.detection] * box.iou)
    row = box.at[at]
    candidate, column = matched.candidate[row], matched.offset[row] + width
    near = (column >= 0) & (column <= 2 * width)
    total, own = np.zeros(len(counts)), np.zeros(len(row))
    for low in range(0, len(counts), _ROWS):
        high = min(low + _ROWS, len(counts))
        by_frame = _by_frame(index, strength, around.valid[around.frame[low:high]], low)
        total[low:high] = by_frame.sum(axis=1)
        here = near & (candidate >= low) & (candidate < high)
        own[here] = by_frame[candidate[here] - low, column[here]]
    return _Support(total, row, best, own)


def _by_frame(
    index: EvidenceIndex, strength: NDArray[np.float64], valid: NDArray[np.bool_], low: int
) -> NDArray[np.float64]:
    """Return float64 (n, 2 w + 1): what each neighbour frame gives n detections from row ``low`` on."""
    pairs, width = index.pairs_of(np.arange(low, low + len(valid))), valid.shape[1] // 2
    cell = (pairs.first - low) * (2 * index.reach + 1) + pairs.offset  # rising, as the pairs are sorted
    best, at = Groups(cell).largest(strength[pairs.second] * pairs.iou)
    reached = np.abs(pairs.offset[at]) <= width
    at = at[reached]
    support = np.zeros(valid.shape)
    support[pairs.first[at] - low, pairs.offset[at] + width] = best[reached]
    support[~valid] = 0.0
    return support


def steadiness(evidence: Evidence, thresholds: TemporalThresholds) -> Steadiness:
    """Work out every detection's temporal evidence under one setting (raw score thresholds)."""
    index, found, t = index_of(evidence), evidence.detections, thresholds
    count = len(found)
    window = (t.window, t.window_s, t.min_window)
    counts_key = index.count_at_least(t.neighbour_threshold)
    counts = found.scores >= t.neighbour_threshold
    around = index.remembered("around", window, lambda: _around(index, found.frame_index, t), room=2)
    plain = index.remembered(
        "support", (counts_key, window), lambda: _support(index, counts, around, t), room=2
    )
    steady = index.remembered(
        "steady", (counts_key, t.iou_threshold, t.window), lambda: _steady(index, counts, t, count), room=4
    )
    # appearance is asked of candidates only: evidence collected for a narrower range has no other rows
    asked = ~steady & (found.scores >= t.score_threshold)
    unsteady = (counts_key, t.iou_threshold, window)
    looks = index.remembered("looks", unsteady, lambda: _looks(index, around, steady), room=2)
    followed = index.remembered(
        "followed", (*unsteady, t.track_ncc), lambda: _followed(index, plain, around, steady, t), room=2
    )
    counted = np.flatnonzero((followed.ncc >= t.ncc_threshold) & asked[followed.candidate])
    more = np.bincount(followed.candidate[counted], weights=followed.gain[counted], minlength=count)
    mean = (plain.total + more) / around.at_least_one
    value = mean + t.score_weight * index.rank - t.inside_weight * index.inside
    shown = np.zeros(2 * count)
    shown[looks.side] = looks.of_side.count(looks.ncc >= t.ncc_threshold)
    shown /= around.sides
    visible = np.minimum(shown[0::2], shown[1::2])
    np.putmask(visible, ~asked, np.nan)
    return Steadiness(mean, value, visible, steady, around.total)


def _looks(index: EvidenceIndex, around: _Around, steady: NDArray[np.bool_]) -> _Looks:
    rows = np.flatnonzero(around.of_row & ~steady[index.matched.candidate])
    side = index.matched.side[rows]
    of_side = Groups(side)
    return _Looks(index.matched.ncc[rows], of_side, side[of_side.start])


def _followed(
    index: EvidenceIndex,
    plain: _Support,
    around: _Around,
    steady: NDArray[np.bool_],
    thresholds: TemporalThresholds,
) -> _Followed:
    """Return what the places of those add that are seen for sure; a place occurs once: one row per offset."""
    matched, row = index.matched, plain.row
    sure = (matched.ncc[row] >= thresholds.track_ncc) & around.of_row[row] & ~steady[matched.candidate[row]]
    row = row[sure]
    candidate = matched.candidate[row]
    gain = plain.best[sure] - plain.own[sure]
    better = gain > 0
    return _Followed(candidate[better], matched.ncc[row[better]], gain[better])


def _steady(
    index: EvidenceIndex, counts: NDArray[np.bool_], thresholds: TemporalThresholds, count: int
) -> NDArray[np.bool_]:
    near = index.adjacent
    over = (near.iou > thresholds.iou_threshold) & (near.offset <= thresholds.window)
    before = any_of(near.second[over & counts[near.first]], count)
    return before & any_of(near.first[over & counts[near.second]], count)


def decide(
    evidence: Evidence, thresholds: TemporalThresholds, found: Steadiness
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool (N,) three times: hard negative, pseudo-label, ignore region.

    A candidate whose sides are not shown by enough neighbour frames is an ignore region, as is
    everything between the thresholds and every confident detection that is neither steady nor false.
    Repeated frames give nothing: their picture was judged already.
    """
    scores, fresh = evidence.detections.scores, index_of(evidence).fresh
    confident = fresh & (scores >= thresholds.score_threshold)
    candidate = np.flatnonzero(confident & ~found.steady & roomy(evidence, thresholds))
    very, limit = scores[candidate] >= thresholds.max_score, thresholds.steadiness_threshold
    false = found.value[candidate] < np.where(very, thresholds.strong_factor * limit, limit)
    # candidates were all asked about: nothing here is NaN
    false &= found.visible[candidate] >= np.where(very, 1.0, thresholds.visible_share)
    negative = any_of(candidate[false], len(scores))
    sure = confident & (scores >= thresholds.label_score)
    pseudo = sure & ~negative & found.steady & (found.support >= thresholds.steady_share)
    ignore = fresh & (scores >= thresholds.ignore_score) & ~negative & ~pseudo
    return negative, pseudo, ignore


def roomy(evidence: Evidence, thresholds: TemporalThresholds) -> NDArray[np.bool_]:
    """Return bool (N,): large enough and far enough from the border, in box-relative units."""
    index, room = index_of(evidence), (thresholds.min_side, thresholds.border)
    return index.remembered("roomy", room, lambda: _roomy(index, *room), room=2)


def _roomy(index: EvidenceIndex, min_side: float, border: float) -> NDArray[np.bool_]:
    longer, shorter = index.sides()
    enough = shorter >= min_side
    if border > 0:
        enough &= index.clearance() >= border * longer
    return enough


def query_temporal(evidence: Evidence, thresholds: TemporalThresholds) -> MinedTable:
    """Answer hem's temporal rule from evidence.

    Weights: a hard negative's is visible · (1 - steadiness / threshold) scaled to [0.5, 1] - it rises
    with every neighbour frame that shows the picture and falls with whatever supports it; a
    pseudo-label's is its support; a hard positive's the lowest agreement in its gap. A gap of which one end
    is a hard negative is ignored, and so is a hard negative on what is taught as an object of its class.

    Raises:
        HemError: if a threshold lies outside the ranges that the evidence was collected for.
    """
    check_range(evidence, thresholds)
    prepare_gaps(evidence, thresholds, "temporal")
    found = steadiness(evidence, thresholds)
    negative, pseudo, ignore = decide(evidence, thresholds, found)
    verdict = first_kind((negative, NEGATIVE), (pseudo, PSEUDO), (ignore, IGNORE))
    weights = np.minimum(found.support, 1.0)
    false = np.flatnonzero(negative)
    weights[false] = negative_weight(found, thresholds, false)
    seen = columns_of(found) | {"track_id": track_ids(evidence, thresholds.label_score, thresholds.link_iou)}
    table = verdict_table(evidence, "temporal", verdict, weights, seen)
    if thresholds.max_gap:
        table = with_gaps(table, gap_table(evidence, thresholds, "temporal", negative))
    return off_labels(table)


def negative_weight(
    found: Steadiness, thresholds: TemporalThresholds, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return float64 (R,) in [0.5, 1]: how sure it is that hard negatives, ``rows`` int64 (R,), are false."""
    distance = np.clip(1.0 - found.value[rows] / max(thresholds.steadiness_threshold, 1e-9), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * distance * found.visible[rows])


def columns_of(found: Steadiness) -> dict[str, NDArray[np.float64]]:
    """Return what an answer tells of each detection's temporal evidence, float64 (N,) each."""
    return {"support": found.support, "steadiness": found.value, "visible": found.visible}


def verdict_table(
    evidence: Evidence,
    rule: str,
    verdict: NDArray[np.int8],
    weights: NDArray[np.float64],
    columns: Mapping[str, NDArray[np.float64]],
) -> MinedTable:
    """Return the detections with a verdict, index into KINDS or -1 for none, as a table; all (N,)."""
    rows = np.flatnonzero(verdict >= 0)
    at = picks(rows, len(verdict))
    kind = verdict[at]
    given = np.where(kind == IGNORE, 0.0, weights[at])
    seen = {name: column[at] for name, column in columns.items()}
    times_s = index_of(evidence).times_s
    return detection_table(evidence.detections, rule, rows, kind, given, seen, times_s, at)


def mine_temporal(evidence: Evidence, thresholds: TemporalThresholds) -> list[HardExample]:
    """Return hard negatives, hard positives, pseudo-labels and ignore regions; see query_temporal."""
    return query_temporal(evidence, thresholds).examples()
