"""Which template matches some setting in the collected ranges could ask for.

A match is left out only where plain overlap settles the matter under *every* setting in range, so an
answer from evidence is the answer that mining from scratch would give.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.mining.paper import eligible, has_template
from hem.ops.boxes import Boxes
from hem.ops.isolation import any_of, overlapping_pairs, smallest_of
from hem.structures.evidence import CollectSettings
from hem.structures.video import VideoInfo

_OPEN_IOU = 0.5  # part of how evidence is collected, like the disturbances: no setting moves it


@dataclass(frozen=True, eq=False)
class Stretch:
    """Detections of consecutive frames, sorted by frame.

    Attributes:
        frame_index: int64 (N,); boxes_xyxy: float64 (N, 4); scores: float64 (N,); labels: int64 (N,).
        shot: int64 (N,), equal for detections with no cut and no gap between them.
        distinct: bool (N,), the detection's frame is not a repeat of the one before.
    """

    frame_index: NDArray[np.int64]
    boxes_xyxy: Boxes
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    shot: NDArray[np.int64]
    distinct: NDArray[np.bool_]


def pixel_reach(stretch: Stretch, video: VideoInfo, settings: CollectSettings) -> NDArray[np.int64]:
    """Return int64 (N,): frames on each side to be matched for `paper`; 0 where none can be needed.

    A neighbour settles a candidate, on both sides at once, when it exists whenever the candidate does
    (its score reaches the candidate's or the highest threshold) and its plain IoU is above the highest
    threshold; a query with a window that reaches it needs no match at all.
    """
    low, high = settings.paper_score_threshold
    candidate = stretch.scores >= low
    candidate &= eligible(stretch.boxes_xyxy, video, settings.paper_min_area, settings.paper_border_margin)
    candidate &= has_template(stretch.boxes_xyxy)
    exists = np.flatnonzero(stretch.scores >= low)
    pairs = overlapping_pairs(
        stretch.frame_index[exists],
        stretch.boxes_xyxy[exists],
        stretch.labels[exists],
        settings.window,
        inclusive=True,
    )
    first, second = exists[pairs.first], exists[pairs.second]
    settles = stretch.scores[second] >= np.minimum(stretch.scores[first], high)
    settles &= pairs.iou > settings.paper_iou_threshold[1]
    nearest = smallest_of(
        first[settles], np.abs(pairs.offset[settles]), len(stretch.scores), settings.window + 1
    )
    return np.where(candidate, nearest.astype(np.int64) - 1, 0)


def box_reach(stretch: Stretch, settings: CollectSettings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64 (N,) twice: frames to be matched before and after each detection by hem's own rules.

    Two things can need them. A candidate that some setting does not find steady (overlapped in both
    nearest distinct frames) is matched throughout the window. A candidate that some setting sees at
    the end of a track is matched over the gap, on that side, up to the frame from which plain overlap
    with a detection that counts whenever the candidate does goes on.
    """
    count = len(stretch.scores)
    candidate = (stretch.scores >= settings.score_threshold[0]) & stretch.distinct
    pairs = overlapping_pairs(stretch.frame_index, stretch.boxes_xyxy, stretch.labels, settings.reach)
    first, second = pairs.first, pairs.second
    usable = (pairs.iou > settings.iou_threshold[1]) & stretch.distinct[first] & stretch.distinct[second]
    usable &= stretch.shot[first] == stretch.shot[second]
    # only the very next frame is within every window; over repeats a short window may not reach
    adjacent = np.abs(pairs.offset) == 1
    own, others = stretch.scores[first], stretch.scores[second]
    steadies = usable & adjacent & (others >= np.minimum(own, settings.neighbour_threshold[1]))
    explains = usable & (others >= np.minimum(own, settings.score_threshold[1]))
    steady = np.ones(count, dtype=np.bool_)
    ends = []
    for sign in (-1, 1):
        side = np.sign(pairs.offset) == sign
        steady &= any_of(first[steadies & side], count)
        use = explains & side
        ends.append(
            smallest_of(first[use], np.abs(pairs.offset[use]), count, settings.max_gap + 1).astype(np.int64)
        )
    throughout = np.where(candidate & ~steady, settings.window, 0)
    before, after = (
        np.maximum(throughout, np.where(candidate, np.minimum(end - 1, settings.max_gap), 0)) for end in ends
    )
    return before, after


def is_open(stretch: Stretch) -> NDArray[np.bool_]:
    """Return bool (N,): no detection as sure lies over it (IoU > 0.5) in the frame before, or after.

    Next to a repeated frame there is none: what lies behind that is not looked at.
    What the video shows is weak there, so an answer under disturbance decides more. Nothing here
    depends on the collected ranges: a budget of disturbed frames is spent alike whatever they are.
    """
    count = len(stretch.scores)
    pairs = overlapping_pairs(stretch.frame_index, stretch.boxes_xyxy, stretch.labels, 1)
    first, second = pairs.first, pairs.second
    held = (pairs.iou > _OPEN_IOU) & (stretch.scores[second] >= stretch.scores[first])
    held &= stretch.distinct[first] & stretch.distinct[second] & (stretch.shot[first] == stretch.shot[second])
    before, after = held & (pairs.offset < 0), held & (pairs.offset > 0)
    return ~(any_of(first[before], count) & any_of(first[after], count))
