"""Hard positives: frames in which a steady track has no detection, filled from both sides."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hem.mining.gap_pairs import Between, GapPairs, Inside, explained, gap_pairs
from hem.mining.index import index_of
from hem.mining.table import IGNORE, POSITIVE, MinedTable, as_ignored, some_of
from hem.mining.thresholds import TemporalThresholds
from hem.mining.tracks import track_ids, tracks_of
from hem.ops.boxes import Boxes
from hem.ops.isolation import any_of, smallest_of
from hem.ops.linking import assign_links
from hem.structures.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Gaps:
    """Gaps between tracks, and what matching says in them; G gaps of M distinct frames together.

    Attributes:
        before, after: int64 (G,), detections before and after each gap.
        seen: of every frame in them.
        teacher: int64 (2, M), row of the surest detection over the straight box of a frame, and over the
            matched one; -1 where there is none.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    seen: Between
    teacher: NDArray[np.int64]

    def of(self, gaps: NDArray[np.int64]) -> "Gaps":
        """Return some of the gaps, int64, numbered anew in the order given."""
        gap, at = self.seen.frames_of(gaps)
        return Gaps(self.before[gaps], self.after[gaps], self.seen.at(gap, at), self.teacher[:, at])


def find_gaps(evidence: Evidence, thresholds: TemporalThresholds) -> Gaps:
    """Join the ends of tracks over gaps of 1..max_gap frames that no detection explains.

    ncc_threshold plays no part in it.
    """
    index, t = index_of(evidence), thresholds
    tracks = tracks_of(evidence, t.label_score, t.link_iou)
    long_enough = tracks.length >= t.min_track
    lasts, firsts = tracks.last[long_enough], tracks.first[long_enough]
    pairs = gap_pairs(evidence, lasts, firsts, t.max_gap)
    count = len(evidence.detections)
    good = any_of(lasts, count)[pairs.before] & any_of(firsts, count)[pairs.after]
    good &= (pairs.sizes >= t.agree_iou) & (pairs.span <= t.max_gap + 1)
    # a detection over the threshold that overlaps an end before the gap is over explains it
    asked = partial(explained, evidence, pairs.before, pairs.after, t.iou_threshold, pairs.complete)
    over = index.remembered("explained", t.iou_threshold, asked, room=4) if pairs.complete else asked()
    free = (over < t.label_score) | np.isneginf(over)  # where every score counts, too
    use = np.flatnonzero(good & free)
    use = use[np.argsort(tracks.of[pairs.before[use]], kind="stable")]  # ties fall to the earlier track

    # neighbouring settings often leave the same pairs
    assigned = partial(_assigned, evidence, pairs, use, t.link_iou)
    if pairs.complete:
        gaps, surest = index.remembered("gaps", (use.tobytes(), t.link_iou), assigned, room=32)
    else:
        gaps, surest = assigned()
    # what links would join was found, and its box is off: what moves may overlap neither end by then
    found = (surest >= t.label_score) & ~np.isneginf(surest)
    return gaps.of(np.flatnonzero(~found)) if found.any() else gaps


def _assigned(
    evidence: Evidence, pairs: GapPairs, use: NDArray[np.int64], link_iou: float
) -> tuple[Gaps, NDArray[np.float64]]:
    """Return the gaps chosen among the pairs ``use``, and the surest score that links would join in each."""
    chosen = use[assign_links(pairs.before[use], pairs.after[use], pairs.worth[use])]
    gap, at = pairs.seen.frames_of(chosen)
    before, seen = pairs.before[chosen], pairs.seen.at(gap, at)
    inside = Inside(evidence, before, seen)
    return Gaps(before, pairs.after[chosen], seen, inside.teacher), inside.surest(link_iou)


def prepare_gaps(evidence: Evidence, thresholds: TemporalThresholds, rule: str) -> None:
    """Work out what ``gap_table`` gives: first of all, since that takes room for a while, and the columns
    of an answer take it to the end."""
    if thresholds.max_gap:
        _every_gap(evidence, thresholds, rule)


def gap_table(
    evidence: Evidence,
    thresholds: TemporalThresholds,
    rule: str,
    doubted: NDArray[np.bool_] | None = None,
) -> MinedTable:
    """Return hard positives, and ignore regions where a gap cannot be filled with certainty.

    One frame without agreement (occlusion, change of appearance, a cut) makes its whole gap ignore, and so
    does a box that leaves the frame. Weight: the lowest agreement in the gap.

    Args:
        evidence, thresholds, rule: what is asked.
        doubted: bool (N,), detections that are no objects; between them gaps are ignored.
    """
    gaps, table = _every_gap(evidence, thresholds, rule)
    if not len(table):
        return table
    if doubted is not None and doubted.any():
        table = as_ignored(table, (doubted[gaps.before] | doubted[gaps.after])[gaps.seen.gap])
    return some_of(table, _surest_of_each(table))


def _every_gap(evidence: Evidence, thresholds: TemporalThresholds, rule: str) -> tuple[Gaps, MinedTable]:
    """Return the gaps of a setting, and what each says, whatever the others and the detections do."""
    index, t = index_of(evidence), thresholds
    labels = index.count_at_least(t.label_score)
    ends = (labels, t.link_iou, t.min_track, t.max_gap, t.iou_threshold, t.agree_iou)
    gaps = index.remembered("gap ends", ends, lambda: find_gaps(evidence, t), room=8)
    key = (*ends, t.ncc_threshold) if len(gaps.before) else ends
    return gaps, index.remembered(f"gaps {rule}", key, lambda: _gap_table(evidence, t, rule, gaps), room=8)


def _gap_table(evidence: Evidence, thresholds: TemporalThresholds, rule: str, gaps: Gaps) -> MinedTable:
    found, seen, count = evidence.detections, gaps.seen, len(gaps.before)
    # agree_iou is above the 0 that a missing match has
    agrees = (seen.overlap >= thresholds.agree_iou) & (seen.lowest >= thresholds.ncc_threshold)
    boxes = np.where(agrees[:, None], seen.agreed, seen.straight)
    good = agrees & _within(boxes, found.video.width, found.video.height)
    broken = any_of(seen.gap[~good], count)[seen.gap]
    lowest = smallest_of(seen.gap, seen.agreement, count, 1.0)
    labels = found.labels[gaps.before[seen.gap]]
    row = np.where(agrees, gaps.teacher[1], gaps.teacher[0])
    score = np.where(row >= 0, np.append(found.scores, np.nan)[row], np.nan)
    length = found.frame_index[gaps.after] - found.frame_index[gaps.before] - 1
    return MinedTable(
        video=found.video,
        rule=rule,
        row=row,
        frame_index=seen.frame_index,
        time_s=index_of(evidence).times_s[seen.frame_index],
        boxes_xyxy=boxes,
        labels=labels,
        kind=np.where(broken, IGNORE, POSITIVE).astype(np.int8),
        scores=score,
        weights=np.where(broken, 0.0, lowest[seen.gap]),
        evidence={
            "agreement": seen.agreement,
            "gap_frames": length[seen.gap].astype(np.float64),
            "track_id": track_ids(evidence, thresholds.label_score, thresholds.link_iou)[
                gaps.before[seen.gap]
            ],
        },
    )


def _surest_of_each(table: MinedTable) -> NDArray[np.bool_]:
    """Return bool (M,): where two gaps hold one detection, the one that is filled, and agrees better."""
    keep = table.row < 0
    if keep.all():
        return np.asarray(keep)
    order = np.lexsort((-table.weights, table.kind != POSITIVE, table.row))
    row = table.row[order]
    keep[order[0]] = True
    keep[order[1:][row[1:] != row[:-1]]] = True
    return np.asarray(keep)


def _within(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray(
        (boxes[:, 0] >= 0) & (boxes[:, 1] >= 0) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    )
