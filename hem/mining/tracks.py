"""Confident detections joined into tracks, afresh for every setting."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.index import index_of
from hem.mining.links import LinksByScore
from hem.ops.linking import heads_of
from hem.structures.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks of one setting, numbered in the order of their first detections.

    Attributes:
        of: whole numbers (N,), track of each detection, -1 for those below the score threshold.
        first, last: int64 (T,), rows of each track's first and last detection.
        length: int64 (T,), detections in it.
    """

    of: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    length: NDArray[np.int64]


def tracks_of(evidence: Evidence, score_threshold: float, link_iou: float) -> Tracks:
    """Join the detections at or above ``score_threshold`` into tracks.

    Links join distinct frames next to each other in one shot, by the assignment with the greatest
    summed IoU among pairs with IoU >= ``link_iou``. Nothing is linked across a cut or a damaged stretch.
    """
    index, found = index_of(evidence), evidence.detections

    def linked() -> LinksByScore:
        pairs = index.adjacent
        use = np.flatnonzero(pairs.iou >= link_iou)
        first, second = pairs.first[use], pairs.second[use]
        strength = np.minimum(found.scores[first], found.scores[second])
        return LinksByScore(first, second, pairs.iou[use], strength)

    def joined() -> Tracks:
        links = index.remembered("links", float(link_iou), linked, room=4)
        at = links.at_least(score_threshold)
        head = heads_of(links.first[at], links.second[at], len(found))
        kept = (found.scores >= score_threshold) & index.fresh
        begins = kept & (head == np.arange(len(found)))
        firsts = np.flatnonzero(begins)
        track = (np.cumsum(begins, dtype=head.dtype) - 1)[head]
        track[~kept] = -1
        rows = np.flatnonzero(kept)
        lasts = np.zeros(len(firsts), dtype=np.int64)
        lasts[track[rows]] = rows  # rows rise, so the last one written is the last of its track
        return Tracks(track, firsts, lasts, np.bincount(track[rows], minlength=len(firsts)))

    key = (index.count_at_least(score_threshold), float(link_iou))
    return index.remembered("tracks", key, joined, room=8)


def track_ids(evidence: Evidence, score_threshold: float, link_iou: float) -> NDArray[np.float64]:
    """Return float64 (N,): the number of each detection's track, NaN for those in none.

    Examples keep it, so that a replay round can cap what one object gives (see hem.replay.select.Caps).
    """
    index = index_of(evidence)

    def numbered() -> NDArray[np.float64]:
        own = tracks_of(evidence, score_threshold, link_iou).of
        return np.where(own >= 0, own, np.nan)

    key = (index.count_at_least(score_threshold), float(link_iou))
    return index.remembered("track ids", key, numbered, room=8)
