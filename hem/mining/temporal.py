"""hem's own rule on what a video shows: which detections last, and which come from nothing.

The steadiness of a candidate is

    mean over the neighbour frames of max over detections there of (IoU · sqrt(rank))
    + score_weight · rank - inside_weight · inside

where the IoU is with the candidate's own box or, in a frame that shows its picture for sure
(NCC >= track_ncc), with the place it was tracked to; rank is a score's rank among the video's
detections in (0, 1]; and inside is the part of the candidate that lies in a surer box of its class in
the same frame. True objects last, so they are steady; false alarms flicker.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.gaps import gap_table
from hem.mining.index import EvidenceIndex, index_of
from hem.mining.table import IGNORE, NEGATIVE, PSEUDO, MinedTable, detection_table, joined, without_twice
from hem.mining.thresholds import TemporalThresholds, check_range
from hem.ops.isolation import any_of
from hem.structures import HardExample
from hem.structures.evidence import Evidence


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
    """

    support: NDArray[np.float64]
    value: NDArray[np.float64]
    visible: NDArray[np.float64]
    steady: NDArray[np.bool_]


def neighbour_frames(index: EvidenceIndex, thresholds: TemporalThresholds) -> NDArray[np.bool_]:
    """Return bool (F, 2 w + 1): whether the frame at offset column - w counts as a neighbour.

    It must be decoded, distinct, of the same shot, and within ``window_s`` seconds or among the
    ``min_window`` nearest distinct frames.
    """
    count, width = len(index.times_s), thresholds.window
    offsets = np.arange(-width, width + 1)
    target = np.arange(count)[:, None] + offsets
    inside = (target >= 0) & (target < count) & (offsets != 0)
    target = np.clip(target, 0, count - 1)
    here = np.arange(count)[:, None]
    good = inside & index.distinct[target] & (index.shot[target] == index.shot[here])
    # half a millisecond: timestamps are rounded to the container's time base
    near = np.abs(index.times_s[target] - index.times_s[here]) <= thresholds.window_s + 5e-4
    near |= np.abs(index.order[target] - index.order[here]) <= thresholds.min_window
    return np.asarray(good & near)


def steadiness(evidence: Evidence, thresholds: TemporalThresholds) -> Steadiness:
    """Work out every detection's temporal evidence under one setting (raw score thresholds)."""
    index, found = index_of(evidence), evidence.detections
    count, width = len(found), thresholds.window
    valid = neighbour_frames(index, thresholds)[found.frame_index]
    counts = found.scores >= thresholds.neighbour_threshold
    strength = np.sqrt(index.rank)

    pairs = index.pairs
    support = np.zeros((count, 2 * width + 1))
    best, at = index.pair_groups.largest(np.where(counts, strength, 0.0)[pairs.second] * pairs.iou)
    reached = np.abs(pairs.offset[at]) <= width
    at = at[reached]
    support[pairs.first[at], pairs.offset[at] + width] = best[reached]

    near, box = evidence.neighbours, index.box
    seen = (near.ncc >= thresholds.ncc_threshold) & (np.abs(near.offset) <= width)
    steady = _steady(index, counts, thresholds, count)
    # appearance is asked of candidates only: evidence collected for a narrower range has no other rows
    asked = ~steady & (found.scores >= thresholds.score_threshold)
    seen &= asked[near.candidate]
    best, at = index.box_groups.largest(np.where(counts, strength, 0.0)[box.detection] * box.iou)
    followed = (seen & (near.ncc >= thresholds.track_ncc))[box.row[at]]
    row, best = box.row[at[followed]], best[followed]
    place = near.candidate[row], near.offset[row].astype(np.int64) + width
    support[place] = np.maximum(support[place], best)  # a place occurs once: one row per offset

    shown = np.zeros((count, 2 * width + 1), dtype=np.bool_)
    rows = box_rows(evidence, seen)
    shown[near.candidate[rows], near.offset[rows].astype(np.int64) + width] = True
    shown &= valid
    total = valid.sum(axis=1)
    mean = np.where(valid, support, 0.0).sum(axis=1) / np.maximum(total, 1)
    inside = index.inside
    value = mean + thresholds.score_weight * index.rank - thresholds.inside_weight * inside
    sides = (slice(0, width), slice(width + 1, None))
    visible = np.minimum(
        *(shown[:, side].sum(axis=1) / np.maximum(valid[:, side].sum(axis=1), 1) for side in sides)
    )
    return Steadiness(mean, value, np.where(asked, visible, np.nan), steady)


def box_rows(evidence: Evidence, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows of hem's own matching among those of a mask."""
    rows = index_of(evidence).box.rows
    return rows[mask[rows]]


def _steady(
    index: EvidenceIndex, counts: NDArray[np.bool_], thresholds: TemporalThresholds, count: int
) -> NDArray[np.bool_]:
    near = index.adjacent
    good = counts[near.second] & (near.iou > thresholds.iou_threshold)
    good &= np.abs(near.offset) <= thresholds.window
    before, after = good & (near.offset < 0), good & (near.offset > 0)
    return any_of(near.first[before], count) & any_of(near.first[after], count)


def decide(
    evidence: Evidence, thresholds: TemporalThresholds, found: Steadiness
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool (N,) three times: hard negative, pseudo-label, ignore region.

    A candidate whose sides are not shown by enough neighbour frames is an ignore region, as is
    everything between the thresholds and every confident detection that is neither steady nor false.
    Repeated frames give nothing: their picture was judged already.
    """
    index, detections = index_of(evidence), evidence.detections
    scores = detections.scores
    fresh = index.distinct[detections.frame_index]
    confident = fresh & (scores >= thresholds.score_threshold)
    limit = np.where(scores >= thresholds.max_score, thresholds.strong_factor, 1.0)
    share = np.where(scores >= thresholds.max_score, 1.0, thresholds.visible_share)
    negative = confident & ~found.steady & (found.value < limit * thresholds.steadiness_threshold)
    negative &= np.nan_to_num(found.visible) >= share
    negative &= roomy(evidence, thresholds)
    sure = confident & (scores >= thresholds.label_score)
    pseudo = sure & ~negative & found.steady & (found.support >= thresholds.steady_share)
    ignore = fresh & (scores >= thresholds.neighbour_threshold) & ~negative & ~pseudo
    return negative, pseudo, ignore


def roomy(evidence: Evidence, thresholds: TemporalThresholds) -> NDArray[np.bool_]:
    """Return bool (N,): large enough and far enough from the border, in box-relative units."""
    found = evidence.detections
    sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    room = thresholds.border * sides.max(axis=1, initial=0.0)
    left, top, right, bottom = found.boxes_xyxy.T
    size = found.video.width, found.video.height
    clear = np.minimum(np.minimum(left, top), np.minimum(size[0] - right, size[1] - bottom))
    far = (clear >= room) if thresholds.border > 0 else np.ones(len(found), dtype=np.bool_)
    return np.asarray(far & (sides.min(axis=1, initial=np.inf) >= thresholds.min_side))


def query_temporal(evidence: Evidence, thresholds: TemporalThresholds) -> MinedTable:
    """Answer hem's temporal rule from evidence.

    Weights: a hard negative's is visible · (1 - steadiness / threshold) scaled to [0.5, 1] - it rises
    with every neighbour frame that shows the picture and falls with whatever supports it; a
    pseudo-label's is its support; a hard positive's the lowest agreement in its gap.

    Raises:
        HemError: if a threshold lies outside the ranges that the evidence was collected for.
    """
    check_range(evidence.collected, thresholds)
    found = steadiness(evidence, thresholds)
    negative, pseudo, ignore = decide(evidence, thresholds, found)
    weights = np.where(negative, negative_weight(found, thresholds), np.clip(found.support, 0.0, 1.0))
    table = verdict_table(evidence, "temporal", (negative, pseudo, ignore), weights, found)
    if thresholds.max_gap == 0:
        return table
    return joined(without_twice(table, gap_table(evidence, thresholds, "temporal")))


def negative_weight(found: Steadiness, thresholds: TemporalThresholds) -> NDArray[np.float64]:
    """Return float64 (N,) in [0.5, 1]: how sure the temporal evidence is that the detection is false."""
    distance = np.clip(1.0 - found.value / max(thresholds.steadiness_threshold, 1e-9), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * distance * np.nan_to_num(found.visible))


def verdict_table(
    evidence: Evidence,
    rule: str,
    verdict: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    weights: NDArray[np.float64],
    found: Steadiness,
    more: dict[str, NDArray[np.float64]] | None = None,
) -> MinedTable:
    """Return the detections with a verdict (hard negative, pseudo-label, ignore) as a table."""
    kind = np.select(verdict, [NEGATIVE, PSEUDO, IGNORE], -1).astype(np.int8)
    rows = np.flatnonzero(kind >= 0)
    seen = {"support": found.support[rows], "steadiness": found.value[rows]}
    seen["visible"] = found.visible[rows]
    seen |= {name: column[rows] for name, column in (more or {}).items()}
    given = np.where(kind[rows] == IGNORE, 0.0, weights[rows])
    return detection_table(evidence.detections, rule, rows, kind[rows], given, seen)


def mine_temporal(evidence: Evidence, thresholds: TemporalThresholds) -> list[HardExample]:
    """Return hard negatives, hard positives, pseudo-labels and ignore regions; see query_temporal."""
    return query_temporal(evidence, thresholds).examples()
