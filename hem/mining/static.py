"""Detections that never move: the same place is found again far away in time.

A camera that does not move sees its background unchanged, so a false alarm on it comes back at the same
place for as long as the video lasts. It neither flickers nor gives way under disturbance, since nothing
around it changes. What a moving class of objects does not do is to fill one place for that long.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.mining.index import index_of
from hem.mining.thresholds import ElicitedThresholds
from hem.ops.boxes import paired_iou
from hem.ops.isolation import any_of, expand_ranges
from hem.structures.evidence import Evidence

SAME_PLACE_IOU = 0.6
_SLACK_S = 5e-4  # times are rounded: a frame that is exactly so far away is
STILL_THERE = 4  # frames in which a place was found unchanged, at least
SAMPLED_FRAMES = 64  # of a video, evenly spread; bounds the work whatever the length


def background(
    evidence: Evidence, thresholds: ElicitedThresholds
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool (N,) twice: taken for background that never moves, and no label for that reason.

    The second holds the first, and what is ``unchanged`` or ``at_unchanged`` besides.

    Raises:
        HemError: as ``unchanged``.
    """
    below = thresholds.still_change
    taken = stays(evidence, thresholds.static_share, thresholds.static_s) | keeps_still(evidence, below)
    return taken, taken | unchanged(evidence, below) | at_unchanged(evidence, below)


def stays(evidence: Evidence, share: float, away_s: float) -> NDArray[np.bool_]:
    """Return bool (N,): occupancy of at least ``share``; above 1 nothing, and nothing is worked out."""
    if share > 1:
        return np.zeros(len(evidence.detections), dtype=np.bool_)
    return np.asarray(occupancy(evidence, away_s) >= share)


def unchanged(evidence: Evidence, below: float) -> NDArray[np.bool_]:
    """Return bool (N,): of the picture at its place a smaller share than ``below`` changes.

    Raises:
        HemError: if ``below`` is above 0 and the pass did not measure it.
    """
    if below <= 0:
        return np.zeros(len(evidence.detections), dtype=np.bool_)
    if evidence.change is None:
        raise HemError(
            f"mining.still_change={below:g} asks how much the picture changes at a detection's place, which "
            f"was not collected of {evidence.video_id}: collect again with collect.still_s=1"
        )
    return np.asarray(evidence.change < below)  # NaN, unknown, is not below


def keeps_still(evidence: Evidence, below: float) -> NDArray[np.bool_]:
    """Return bool (N,): ``unchanged``, and so is its place in the other frames, as far as is known.

    Who stands for a while may be unchanged in a few frames and sways in the rest. So of the detections of
    its class that lie at its place in other frames of the shot, among the frames that ``occupancy`` looks
    at, no more change than do not; those of which it is unknown do not count.

    Raises:
        HemError: as ``unchanged``.
    """
    place = _place(evidence, below)
    return np.asarray(place.still & (place.changed <= place.unchanged))


def at_unchanged(evidence: Evidence, below: float) -> NDArray[np.bool_]:
    """Return bool (N,): the place of one that is ``unchanged`` in other frames, whatever changes here.

    While someone passes before a still place, what the detector finds there changes and is still no
    label. Of the detections of its class that lie at its place in other frames of the shot, among the
    frames that ``occupancy`` looks at, half at least are unchanged, and STILL_THERE of them.

    Raises:
        HemError: as ``unchanged``.
    """
    place = _place(evidence, below)
    return np.asarray((place.unchanged >= STILL_THERE) & (2 * place.unchanged >= place.found))


@dataclass(frozen=True, eq=False)
class _Place:
    """What lies at each detection's place in other frames: bool (N,), it is itself ``unchanged``; and int64
    (N,), in how many frames something of its class does, in how many of them that is unchanged, and in how
    many it is known to change. The counts are 0 in a video that holds nothing unchanged."""

    still: NDArray[np.bool_]
    found: NDArray[np.int64]
    unchanged: NDArray[np.int64]
    changed: NDArray[np.int64]


def _place(evidence: Evidence, below: float) -> _Place:
    still = unchanged(evidence, below)
    if not still.any():
        return _Place(still, *(np.zeros(len(still), dtype=np.int64),) * 3)
    return index_of(evidence).remembered("place", below, lambda: _looked_at(evidence, still), room=1)


def _looked_at(evidence: Evidence, still: NDArray[np.bool_]) -> _Place:
    index, found = index_of(evidence), evidence.detections
    assert evidence.change is not None
    moving = ~still & ~np.isnan(evidence.change)
    sampled, _ = _sampled(index.times_s, np.flatnonzero(index.distinct))
    count, shot = len(found), index.shot[found.frame_index]
    there, unchanged_there, changed_there = (np.zeros(count, dtype=np.int64) for _ in range(3))
    for frame in sampled.tolist():
        rows = np.flatnonzero((shot == index.shot[frame]) & (found.frame_index != frame))
        own, other = _same_place(evidence, rows, frame)
        same = any_of(own[still[other]], count)
        there += any_of(own, count)
        unchanged_there += same
        changed_there += any_of(own[moving[other]], count) & ~same
    return _Place(still, there, unchanged_there, changed_there)


def occupancy(evidence: Evidence, away_s: float) -> NDArray[np.float64]:
    """Return float64 (N,): the share of far frames in which a detection of its class lies at its place.

    Far are frames of the same shot at least ``away_s`` seconds from the detection's own, among at most
    SAMPLED_FRAMES distinct ones spread evenly over the video. 0 where the far frames cover less than
    ``away_s`` seconds: too short a video to tell.
    """
    return index_of(evidence).remembered("occupancy", away_s, lambda: _occupancy(evidence, away_s), room=1)


def _occupancy(evidence: Evidence, away_s: float) -> NDArray[np.float64]:
    index, found = index_of(evidence), evidence.detections
    sampled, each_s = _sampled(index.times_s, np.flatnonzero(index.distinct))
    far_frames = np.zeros(len(found), dtype=np.int64)
    occupied = np.zeros(len(found), dtype=np.int64)
    time_s, shot = index.times_s[found.frame_index], index.shot[found.frame_index]
    for frame in sampled.tolist():
        far = (np.abs(time_s - index.times_s[frame]) >= away_s - _SLACK_S) & (shot == index.shot[frame])
        far_frames += far
        occupied += far & _found_again(evidence, np.flatnonzero(far), frame)
    enough = far_frames * each_s >= away_s - _SLACK_S
    return np.where(enough, occupied / np.maximum(far_frames, 1), 0.0)


def _sampled(times_s: NDArray[np.float64], distinct: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """Return the frames looked at, and the seconds that each stands for."""
    if len(distinct) < 2:
        return distinct[:0], 0.0
    count = min(len(distinct), SAMPLED_FRAMES)
    chosen = distinct[np.linspace(0, len(distinct) - 1, count).round().astype(np.int64)]
    return chosen, float(times_s[distinct[-1]] - times_s[distinct[0]]) / (count - 1)


def _found_again(evidence: Evidence, rows: NDArray[np.int64], frame: int) -> NDArray[np.bool_]:
    """Return bool (N,): of ``rows``, those with a detection of their class at their place in ``frame``."""
    return any_of(_same_place(evidence, rows, frame)[0], len(evidence.detections))


def _same_place(
    evidence: Evidence, rows: NDArray[np.int64], frame: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs, int64 (P,) each: one of ``rows``, and one of its class at its place in ``frame``."""
    found = evidence.detections
    there = found.rows_of(frame)
    own, other = expand_ranges(np.full(len(rows), there.start), np.full(len(rows), there.stop))
    own = rows[own]
    same = found.labels[own] == found.labels[other]
    own, other = own[same], other[same]
    boxes = (found.boxes_xyxy.take(rows, axis=0) for rows in (own, other))
    same = paired_iou(*boxes) >= SAME_PLACE_IOU
    return own[same], other[same]
