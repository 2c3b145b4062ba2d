"""The published rule for hard negatives, box for box.

Source: Jin et al., "Unsupervised Hard Example Mining from Videos for Improved Object Detection",
ECCV 2018 (arXiv 1808.04285), and the mining program published for its COCO experiments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.mining.index import index_of, within
from hem.mining.table import NEGATIVE, PSEUDO, MinedTable, detection_table
from hem.mining.thresholds import require_numbers
from hem.ops.boxes import area_inclusive, overlapping_places, paired_iou_inclusive
from hem.ops.isolation import Pairs, any_of, overlapping_pairs
from hem.structures import HardExample, VideoDetections
from hem.structures.evidence import Evidence
from hem.structures.video import VideoInfo

Match = Callable[[int, int], tuple[float, NDArray[np.float64]] | None]
"""(row of the candidate, offset) -> (best NCC, tracked box), or None if the frame is unreadable."""
Tracked = tuple[int, NDArray[np.float64]]
"""(offset, box tracked there)."""
Shows = Callable[[int, int, Tracked | None, NDArray[np.int64]], NDArray[np.float64] | None]
"""(row, offset, where it was tracked to nearer by, places int64 (M, 4)) -> a box (4,) where it is seen. Given
only if the best NCC at ``offset`` surely passes and surely none of ``places``, (x0, y0, x1, y1) with ends
inclusive, has it; None says nothing."""


@dataclass(frozen=True)
class PaperThresholds:
    """Thresholds of the published rule; the defaults are the published ones.

    Infinite limits are legal, NaN is not.

    Attributes:
        score_threshold: detections below it do not exist. Higher: fewer candidates, but also fewer
            neighbours, so more true objects look isolated. Range: any number.
        max_score: a candidate at or above it is exempt. Higher: more sure false alarms, and more true
            objects among the negatives. Range: any number.
        window: frames on each side. Larger: fewer, purer negatives. Range: >= 1 frame.
        search_margin: pixels searched on every side of the candidate. Range: >= 0 px.
        ncc_threshold: a side whose best NCC, between -1 and 1, is below it is not isolated. Higher:
            fewer, purer. Range: any number.
        iou_threshold: a neighbour with IoU above it explains the candidate. Lower: fewer, purer.
            Range: >= 0.
        min_area: (w + 1)(h + 1) below it is exempt. Range: >= 0 px².
        border_margin: a candidate nearer to the border is exempt. Range: >= 0 px.
        max_frames: only so many frames from the start are read, as in the published program.
            Range: >= 0 frames.
    """

    score_threshold: float = 0.8
    max_score: float = 0.98
    window: int = 5
    search_margin: float = 100.0
    ncc_threshold: float = 0.5
    iou_threshold: float = 0.2
    min_area: float = 1600.0
    border_margin: float = 50.0
    max_frames: int = 70_000

    def __post_init__(self) -> None:
        if self.window < 1:
            raise HemError(f"mining.window must be >= 1 frame, got {self.window}")
        require_numbers(self)
        for name in ("search_margin", "border_margin", "min_area", "iou_threshold", "max_frames"):
            if not getattr(self, name) >= 0:
                raise HemError(f"mining.{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class PaperWork:
    """What plain overlap leaves open.

    Attributes:
        kept: int64 (K,), rows of the detections that exist for this mode.
        undecided: int64 (C,), rows of the candidates that only their appearance can decide.
        n_frames: frames that count.
    """

    kept: NDArray[np.int64]
    undecided: NDArray[np.int64]
    n_frames: int


def eligible(
    boxes_xyxy: NDArray[np.float64], video: VideoInfo, min_area: float, border_margin: float
) -> NDArray[np.bool_]:
    """Return bool (N,): large enough and away from the border."""
    left, top, right, bottom = boxes_xyxy.T
    border = border_margin
    inside = (left >= border) & (top >= border)
    inside &= (right < video.width - border) & (bottom < video.height - border)
    return np.asarray(inside & (area_inclusive(boxes_xyxy) >= min_area))


def has_template(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return bool (N,): at least one pixel to be looked for.

    A thinner box is isolated where no frame around it holds a detection, since nothing is looked for
    there, and nowhere else.
    """
    whole = boxes_xyxy.astype(np.int64)
    return np.asarray((whole[:, 2] > whole[:, 0]) & (whole[:, 3] > whole[:, 1]))


def paper_work(
    detections: VideoDetections, thresholds: PaperThresholds, pairs: Pairs | None = None
) -> PaperWork:
    """Settle by plain overlap what it can settle.

    Args:
        detections: of one video; its number of frames is the published rule's n.
        thresholds: of the rule.
        pairs: inclusive-IoU pairs with a reach of ``window`` or more, if they are at hand already.
    """
    n_frames = min(detections.n_frames, thresholds.max_frames)
    exists = (detections.scores >= thresholds.score_threshold) & (detections.frame_index < n_frames)
    frame = detections.frame_index
    candidate = exists & (detections.scores < thresholds.max_score)
    candidate &= (frame - thresholds.window + 1 >= 0) & (frame + thresholds.window < n_frames)
    candidate &= eligible(
        detections.boxes_xyxy, detections.video, thresholds.min_area, thresholds.border_margin
    )
    if pairs is None:
        kept = np.flatnonzero(exists)
        pairs = overlapping_pairs(
            frame[kept],
            detections.boxes_xyxy[kept],
            detections.labels[kept],
            thresholds.window,
            inclusive=True,
        )
        pairs = Pairs(kept[pairs.first], kept[pairs.second], pairs.offset, pairs.iou)
    settles = (pairs.iou > thresholds.iou_threshold) & (np.abs(pairs.offset) <= thresholds.window)
    settles &= exists[pairs.second]
    candidate &= ~any_of(pairs.first[settles], len(detections))
    return PaperWork(np.flatnonzero(exists), np.flatnonzero(candidate), n_frames)


class PaperJudge:
    """Decides undecided candidates one at a time, nearest neighbour first, asking for few matches.

    Attributes:
        detections, thresholds: of what it decides, and by what.
        work: what plain overlap left open.
    """

    def __init__(self, detections: VideoDetections, thresholds: PaperThresholds) -> None:
        self.detections, self.thresholds = detections, thresholds
        self.work = work = paper_work(detections, thresholds)
        self._frame = detections.frame_index[work.kept]
        self._labels = detections.labels[work.kept]
        self._boxes = detections.boxes_xyxy[work.kept]
        self._n_frames = work.n_frames
        self._matchable = has_template(detections.boxes_xyxy)
        self._start = np.searchsorted(self._frame, np.arange(detections.n_frames + 1)).tolist()

    @cached_property
    def frames_needed(self) -> NDArray[np.bool_]:
        """bool (F,): frames that may be looked at.

        They are those of the candidates that plain overlap leaves open, and of their neighbours that hold
        detections; every other frame need not even be converted to grey.
        """
        needed = np.zeros(self.detections.n_frames, dtype=np.bool_)
        for row in self.work.undecided[self._matchable[self.work.undecided]].tolist():
            earlier, later = self._around(row).offsets()
            if earlier or later:
                needed[int(self.detections.frame_index[row]) + np.array([0, *earlier, *later])] = True
        return needed

    def isolated(self, row: int, match: Match, shows: Shows = lambda *_: None) -> bool:
        """Return whether both sides are isolated.

        The best place itself does not matter, only that its NCC passes and that it is none of those where
        a neighbour would explain the candidate. Where ``shows`` knows both, all places need not be searched.
        """
        around = self._around(row)
        if not self._matchable[row]:
            return not any(around.offsets())
        whole = self.detections.boxes_xyxy[row].astype(np.int64)
        places = overlapping_places(around.boxes_xyxy, whole[2:] - whole[:2], self.thresholds.iou_threshold)
        return all(self._side_isolated(row, side, around, places, match, shows) for side in around.offsets())

    def _side_isolated(
        self,
        row: int,
        side: list[int],
        around: "_Around",
        places: NDArray[np.int64],
        match: Match,
        shows: Shows,
    ) -> bool:
        tracked: Tracked | None = None
        for offset in side:
            there = around.at(offset)
            seen = shows(row, offset, tracked, places[there])
            if seen is not None:
                tracked = (offset, seen)
                continue
            found = match(row, offset)
            if found is None or found[0] < self.thresholds.ncc_threshold:
                return False
            ious = paired_iou_inclusive(around.boxes_xyxy[there], found[1][None, :])
            if (ious > self.thresholds.iou_threshold).any():
                return False
            tracked = (offset, found[1])
        return True

    def _around(self, row: int) -> "_Around":
        frame, reach = int(self.detections.frame_index[row]), self.thresholds.window
        first = self._start[max(frame - reach, 0)]
        end = self._start[min(frame + reach + 1, self._n_frames)]
        rows = first + np.flatnonzero(self._labels[first:end] == self.detections.labels[row])
        starts = np.searchsorted(self._frame[rows] - frame, np.arange(-reach, reach + 2))
        return _Around(self._boxes[rows], starts.tolist())


@dataclass(frozen=True, eq=False)
class _Around:
    """The detections of a candidate's class that exist up to ``window`` frames from it, in order of frames.

    Attributes:
        boxes_xyxy: float64 (M, 4).
        starts: where those of each frame start, from the earliest frame to the one after the last.
    """

    boxes_xyxy: NDArray[np.float64]
    starts: list[int]

    def at(self, offset: int) -> slice:
        """Return which of the boxes lie ``offset`` frames away."""
        place = offset + (len(self.starts) - 2) // 2
        return slice(self.starts[place], self.starts[place + 1])

    def offsets(self) -> tuple[list[int], list[int]]:
        """Return the offsets, earlier and later, where there are any; nearest first."""
        reach = (len(self.starts) - 2) // 2
        held = [o for o, (start, end) in enumerate(pairwise(self.starts), -reach) if end > start]
        return [o for o in reversed(held) if o < 0], [o for o in held if o > 0]


def paper_table(detections: VideoDetections, work: PaperWork, negatives: NDArray[np.int64]) -> MinedTable:
    """Return the negatives, and as pseudo-labels the other existing detections of their frames.

    No correlations are told: the rule asks whether one passes, and which one that was in which frame hangs
    on how it was found out. Evidence has all of them (hem.structures.evidence.NeighbourTable).

    Args:
        detections, work: what was mined.
        negatives: int64 (M,), rows of the hard negatives.
    """
    frame = detections.frame_index
    chosen = any_of(frame[negatives], detections.n_frames)
    others = np.setdiff1d(work.kept[chosen[frame[work.kept]]], negatives)
    rows = np.concatenate([negatives, others])
    kind = np.repeat(np.array([NEGATIVE, PSEUDO], dtype=np.int8), [len(negatives), len(others)])
    return detection_table(detections, "paper", rows, kind, np.ones(len(rows)), {})


def query_paper(evidence: Evidence, thresholds: PaperThresholds) -> MinedTable:
    """Answer the published rule from evidence alone; of frames that could not be decoded it says nothing.

    Raises:
        HemError: if a threshold lies outside the ranges that the evidence was collected for.
    """
    check_paper_range(evidence, thresholds)
    index = index_of(evidence)
    detections = evidence.detections
    work = paper_work(detections, thresholds, index.inclusive_pairs)
    rows, frame = work.undecided, detections.frame_index
    exists = np.zeros(len(detections), dtype=np.bool_)
    exists[work.kept] = True
    steps = np.arange(1, thresholds.window + 1)
    offsets = np.concatenate([-steps, steps])
    target = frame[rows, None] + offsets
    inside = (target >= 0) & (target < work.n_frames)
    _, label = np.unique(detections.labels, return_inverse=True)  # counted up, however large they are
    present = np.zeros((detections.n_frames, int(label.max(initial=0)) + 1), dtype=np.bool_)
    present[frame[work.kept], label[work.kept]] = True
    needed = inside & present[np.where(inside, target, 0), label[rows, None]]

    table = index.pixel
    explains = exists[table.detection] & (table.iou > thresholds.iou_threshold)
    # position -1 (no such row) reads the entry added at the end
    ncc = np.append(evidence.neighbours.ncc, -np.inf)
    explained = any_of(table.row[explains], len(ncc))
    found = table.find(rows[:, None], offsets[None, :])
    passes = (found >= 0) & ~explained[found] & (ncc[found] >= thresholds.ncc_threshold)
    isolated = np.asarray((passes | ~needed).all(axis=1)) & index.readable[frame[rows]]
    return paper_table(detections, work, rows[isolated])


def mine_paper(evidence: Evidence, thresholds: PaperThresholds) -> list[HardExample]:
    """Return the published rule's hard negatives, with the other detections of their frames.

    See query_paper; the kept detections of a frame with a hard negative are its pseudo-labels.
    """
    return query_paper(evidence, thresholds).examples()


def check_paper_range(evidence: Evidence, thresholds: PaperThresholds) -> None:
    """Raise HemError unless this evidence can answer a query with these thresholds."""
    collected = evidence.collected
    if collected.search_margin != thresholds.search_margin:
        raise HemError(
            f"mining.search_margin is {thresholds.search_margin}, but the evidence was collected with "
            f"{collected.search_margin}: collect again with it"
        )
    within(
        "score_threshold",
        thresholds.score_threshold,
        collected.paper_score_threshold,
        "paper_score_threshold",
    )
    within("iou_threshold", thresholds.iou_threshold, collected.paper_iou_threshold, "paper_iou_threshold")
    within("window", thresholds.window, (1, collected.window), "window")
    within("min_area", thresholds.min_area, (collected.paper_min_area, np.inf), "paper_min_area")
    within(
        "border_margin",
        thresholds.border_margin,
        (collected.paper_border_margin, np.inf),
        "paper_border_margin",
    )
    within("score_threshold", thresholds.score_threshold, (evidence.floor_score, np.inf), "floor_score")
