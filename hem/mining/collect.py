"""One forward pass over a video: detect, flag frames, match templates, disturb; all kept as evidence."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.mining.frame_flags import FrameFlagger
from hem.mining.held import NO_BOXES, FrameBoxes, HeldFrame, boxes_above, holds, stretch_of
from hem.mining.matching import (
    BoxTemplate,
    NeighbourRow,
    NeighbourRows,
    PixelTemplate,
)
from hem.mining.needs import Stretch, box_reach, is_open, pixel_reach
from hem.mining.packed_grey import greys_of
from hem.mining.stillness import StillnessMeter
from hem.ops.ahead import asked_ahead
from hem.ops.isolation import expand_ranges
from hem.structures import Detections, FrameBatch, GreyBatch, GreyPicture, VideoDetections, VideoInfo
from hem.structures.evidence import (
    BOX_REGION,
    PIXEL_REGION,
    CollectSettings,
    Evidence,
    ResponseTable,
)
from hem.structures.video import FrameGap, length_of

Detect = Callable[[Tensor], list[Detections]]
_CUT, _DUPLICATE = 1, 2
BLOCK = 32  # frames decided at once; no result depends on it except which frames are disturbed


class Elicit(Protocol):
    """Asks the detector again: scores, IoUs (N, V) and boxes (N, V, 4) for N boxes of one frame.

    NaN = not visible, or no box; see hem.mining.elicited.elicit.
    """

    def __call__(
        self,
        frame: Tensor,
        boxes_xyxy: NDArray[np.float64],
        labels: NDArray[np.int64],
        detect: Detect,
        variants: Sequence[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the answers."""


def collect_evidence(
    frames: Iterable[FrameBatch] | Iterable[GreyBatch],
    detections: VideoDetections | None = None,
    detect: Detect | None = None,
    settings: CollectSettings | None = None,
    *,
    elicit: Elicit | None = None,
    detector_digest: str = "",
    class_names: Sequence[str] = (),
    score_range: tuple[float, float] | None = None,
    gaps: Callable[[], Sequence[FrameGap]] | None = None,
    video: VideoInfo | None = None,
    threads: int = 2,
) -> Evidence:
    """Collect the evidence of one video in one forward pass, in memory that its length doesn't change.

    Args:
        frames: decoded frames of one video, in order; grey ones will do where ``detections`` are given, and
            cost least as GreyBatch, of which only the parts needed are made.
        detections: made elsewhere, down to any floor; their number of frames is the video's.
        detect: the detector, asked where ``detections`` is None: uint8 (B, 3, H, W) to one Detections
            a frame, in pixels of the frame. With a method ``begin`` it is asked ahead: see asked_ahead.
        settings: how to collect; None = the defaults.
        elicit: asks about disturbed frames; used with ``settings.variants`` and ``detect``.
        detector_digest: of what made the detections.
        class_names, score_range: of the detector.
        gaps: called at the end, gives the stretches that could not be decoded.
        video: what ``frames`` are of, for the evidence of a video of which not one frame decoded.
        threads: that match templates; the result does not depend on it.

    Raises:
        HemError: if neither or both of ``detections`` and ``detect`` are given, or no frame decoded and
            ``video`` is not given.
    """
    settings = settings or CollectSettings()
    if (detections is None) == (detect is None):
        raise HemError("collecting evidence needs either detections or a detector, not both")
    if settings.variants and score_range is not None and score_range[0] < 0:
        raise HemError(
            "collect.variants: an answer of 0 means that nothing was found, and this detector scores from "
            f"{score_range[0]:g} on: map them into [0, 1] (logits: by a sigmoid), or leave variants empty"
        )
    if settings.variants and (detect is None or elicit is None):
        raise HemError("collect.variants needs a detector to ask: leave it empty for detections from a file")
    collector = _Collector(settings, detect, elicit, threads)
    try:
        for batch, known in _answered(frames, detections, detect):
            collector.push(batch, known)
            if detections is not None and collector.next_index >= detections.n_frames:
                break
        collector.finish()
    finally:
        collector.close()
    if collector.video is None:
        collector.video = video
    return collector.evidence(
        detections, detector_digest, tuple(class_names), score_range, tuple(gaps()) if gaps else ()
    )


def _answered(
    frames: Iterable[FrameBatch] | Iterable[GreyBatch],
    detections: VideoDetections | None,
    detect: Detect | None,
) -> Iterator[tuple[FrameBatch | GreyBatch, VideoDetections | list[Detections]]]:
    if detect is not None:
        yield from asked_ahead(cast(Iterable[FrameBatch], frames), detect)
    elif detections is not None:
        yield from ((batch, detections) for batch in frames)


class _Collector:
    def __init__(
        self, settings: CollectSettings, detect: Detect | None, elicit: Elicit | None, threads: int
    ) -> None:
        self._settings = settings
        self._detect = detect
        self._elicit = elicit if settings.variants else None
        self._flagger = FrameFlagger()
        self._stillness = StillnessMeter(settings.still_s)
        self._pool = ThreadPoolExecutor(threads)
        self._matching: list[Future[list[NeighbourRow]]] = []
        self._near = NeighbourRows()
        self._answers: list[tuple[NDArray, ...]] = []  # columns of ResponseTable
        self._held: list[HeldFrame] = []
        self._decided = 0  # of the held frames, how many are past
        self._found: list[FrameBoxes] = []  # of each frame read, where a detector is asked
        self._read, self._times_s, self._flags = array("q"), array("d"), bytearray()  # of each frame read
        self.video: VideoInfo | None = None  # known from the first frame on
        self._n_rows = 0
        self._shot = 0
        self._allowance = 0.0
        self.next_index = 0
        self.calls = self.elicit_calls = 0

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def push(self, batch: FrameBatch | GreyBatch, known: VideoDetections | list[Detections]) -> None:
        """Take the next frames, with all detections of the video or the detector's answers about these."""
        if self.video is None:
            one = batch.frames[0, 0] if isinstance(batch, FrameBatch) else batch.pictures[0]
            height, width = one.shape
            self.video = replace(batch.video, width=int(width), height=int(height))
        # one by one out of a tensor, numbers take longer than what is done with them
        numbers, times_s = (np.asarray(column).tolist() for column in (batch.frame_indices, batch.times_s))
        if isinstance(known, VideoDetections):
            found = [_given(known, index) for index in numbers if index < known.n_frames]
        else:
            if len(known) != len(batch):
                raise HemError(f"the detector gave {len(known)} answers for {len(batch)} frames")
            self.calls += len(batch)
            found = boxes_above(known, self._settings.floor_score)
            self._found += found
        greys = greys_of(batch.frames) if isinstance(batch, FrameBatch) else batch.pictures
        for at, boxes in enumerate(found):
            picture = batch.frames[at] if self._elicit is not None and isinstance(batch, FrameBatch) else None
            self._take(numbers[at], times_s[at], greys[at], boxes, picture)
        while len(self._held) - self._decided >= BLOCK + self._settings.reach:
            self._decide(BLOCK)

    def _take(
        self, index: int, time_s: float, grey: GreyPicture, found: FrameBoxes, picture: Tensor | None
    ) -> None:
        cut, duplicate = self._flagger.push(grey, time_s)
        if cut or index != self.next_index:
            self._shot += 1
        self._read.append(index)
        self._times_s.append(time_s)
        self._flags.append(_CUT * cut + _DUPLICATE * duplicate)
        first_row = self._n_rows
        self._stillness.push(time_s, self._shot, duplicate, grey, first_row, found.boxes_xyxy)
        self._held.append(HeldFrame(index, grey, found, duplicate, self._shot, first_row, picture))
        self._n_rows += len(found)
        self.next_index = index + 1

    def finish(self) -> None:
        """Decide what is left."""
        while self._decided < len(self._held):
            self._decide(min(BLOCK, len(self._held) - self._decided))
        self._gather()
        self._stillness.finish()

    def _gather(self) -> None:
        rows = sorted((row for future in self._matching for row in future.result()), key=lambda row: row[:3])
        self._matching = []
        self._near.add(rows)  # of later detections than those of the block before

    def _decide(self, count: int) -> None:
        """Order the matches and disturbances of the next ``count`` frames, and let go of older ones."""
        self._gather()
        assert self.video is not None
        first = self._decided
        around = self._held[: first + count + self._settings.reach]
        stretch, owner = stretch_of(around)
        before = after = pixels = np.zeros(len(owner), dtype=np.int64)
        if self._settings.box_margin is not None:
            before, after = box_reach(stretch, self._settings)
        if self._settings.search_margin is not None:
            pixels = pixel_reach(stretch, self.video, self._settings)
        mine = (owner >= first) & (owner < first + count)
        by_index = {frame.index: frame for frame in around}
        for row in np.flatnonzero(mine & ((before > 0) | (after > 0) | (pixels > 0))).tolist():
            frame = around[owner[row]]
            at = row - int(np.searchsorted(owner, owner[row]))
            spans = (int(before[row]), int(after[row]), int(pixels[row]))
            self._matching.append(self._pool.submit(self._match, frame, at, spans, by_index))
        if self._elicit is not None:
            self._disturb(self._held[first : first + count], stretch, owner - first)
        self._decided += count
        old = max(0, self._decided - self._settings.reach)
        for frame in self._held[: self._decided]:
            frame.picture = None
        self._held = self._held[old:]
        self._decided -= old

    def _match(
        self, frame: HeldFrame, at: int, spans: tuple[int, int, int], by_index: dict[int, HeldFrame]
    ) -> list[NeighbourRow]:
        """Return the neighbour rows of detection ``at`` of a frame."""
        box = frame.found.boxes_xyxy[at]
        label = int(frame.found.labels[at])
        settings, row = self._settings, frame.first_row + at
        rows: list[NeighbourRow] = []
        if spans[0] or spans[1]:
            assert settings.box_margin is not None
            template = BoxTemplate(frame.grey, box, settings.box_margin, settings.match_side)
            for step in range(-spans[0], spans[1] + 1) if template.usable else ():
                other = by_index.get(frame.index + step)
                if step and other is not None and other.shot == frame.shot and not other.duplicate:
                    rows.append((row, step, BOX_REGION, *template.find(other.grey)))
        size = (frame.grey.shape[1], frame.grey.shape[0])
        if not spans[2]:
            return rows
        assert settings.search_margin is not None
        pixels = PixelTemplate(frame.grey, box, settings.search_margin, size)
        for step in range(-spans[2], spans[2] + 1):
            other = by_index.get(frame.index + step)
            if step and other is not None and holds(other, label, settings.paper_score_threshold[0]):
                rows.append((row, step, PIXEL_REGION, *pixels.match(other.grey)))
        return rows

    def _disturb(self, frames: list[HeldFrame], stretch: Stretch, owner: NDArray[np.int64]) -> None:
        """Spend the block's share of detector passes on the frames where they decide most.

        No query parameter plays a part in it, so evidence for any ranges holds the same answers.
        """
        from hem.mining.elicited import choose_frames

        assert self._elicit is not None and self._detect is not None
        variants = self._settings.variants
        share = self._settings.elicit_share
        self._allowance += len(frames) * share / (1 - share)
        budget = int(self._allowance + 1e-9)
        asked = (owner >= 0) & (owner < len(frames)) & stretch.distinct
        doubt = np.where(is_open(stretch), 1.0, 0.2)
        chosen = choose_frames(
            owner[asked],
            stretch.scores[asked],
            doubt[asked],
            passes_per_frame=len(variants),
            budget_passes=budget,
        )
        for position in chosen.tolist():
            frame = frames[position]
            assert frame.picture is not None
            found = frame.found
            scores, ious, places = self._elicit(
                frame.picture, found.boxes_xyxy, found.labels, self._detect, variants
            )
            answered = ~np.isnan(scores)
            spent = int(answered.any(axis=0).sum())  # no variant is run that shows no candidate
            self.elicit_calls += spent
            self._allowance -= spent
            at, variant = np.nonzero(answered)
            given = (scores[at, variant], ious[at, variant], places[at, variant])
            self._answers.append((frame.first_row + at, variant, *given))

    def evidence(
        self,
        given: VideoDetections | None,
        digest: str,
        class_names: tuple[str, ...],
        score_range: tuple[float, float] | None,
        gaps: tuple[FrameGap, ...],
    ) -> Evidence:
        """Return everything, in the order of the detections."""
        if self.video is None:
            raise HemError("no frame could be decoded, so there is no evidence to collect")
        n_frames = given.n_frames if given is not None else length_of(self.next_index, gaps)
        times, flags = np.full(n_frames, np.nan), np.zeros(n_frames, dtype=np.uint8)
        read = np.array(self._read, dtype=np.int64)
        times[read], flags[read] = self._times_s, self._flags
        detections, rows = self._detections(given, times, read, class_names, score_range, gaps)
        near = self._near.table()
        answers = [np.concatenate(column) for column in zip(*self._answers, strict=True)]
        return Evidence(
            detections=detections,
            cut_before=(flags & _CUT) > 0,
            duplicate=(flags & _DUPLICATE) > 0,
            collected=self._settings,
            neighbours=replace(near, candidate=rows[near.candidate]),
            responses=ResponseTable(rows[answers[0]], *answers[1:]) if answers else ResponseTable(),
            detector_digest=digest,
            detector_calls=self.calls,
            elicit_calls=self.elicit_calls,
            change=self._stillness.change(rows, len(detections)),
        )

    def _detections(
        self,
        given: VideoDetections | None,
        times: NDArray[np.float64],
        read: NDArray[np.int64],
        class_names: tuple[str, ...],
        score_range: tuple[float, float] | None,
        gaps: tuple[FrameGap, ...],
    ) -> tuple[VideoDetections, NDArray[np.int64]]:
        """Return the video's detections, and for each row counted while reading its row there."""
        assert self.video is not None
        if given is None:
            video = replace(self.video, n_frames=len(times))
            found = self._found or [NO_BOXES]
            boxes, scores, labels = (np.concatenate(column) for column in zip(*found, strict=True))
            every = VideoDetections(
                video,
                np.repeat(read, [len(one) for one in self._found]),
                boxes,
                scores,
                labels,
                times,
                gaps=gaps,
                score_range=score_range,
                floor_score=self._settings.floor_score,
                class_names=class_names,
            )
            return every, np.arange(len(every), dtype=np.int64)
        starts = np.searchsorted(given.frame_index, read, side="left")
        _, rows = expand_ranges(starts, np.searchsorted(given.frame_index, read, side="right"))
        video = replace(given.video, width=self.video.width, height=self.video.height)
        return replace(given, video=video, frame_times_s=times, gaps=gaps or given.gaps), rows


def _given(detections: VideoDetections, index: int) -> FrameBoxes:
    rows = detections.rows_of(index)
    return FrameBoxes(detections.boxes_xyxy[rows], detections.scores[rows], detections.labels[rows])
