"""A detector for tests whose errors are planted, so that what mining must find is known exactly.

``SimulatedDetector.run`` takes any VideoTruth whose objects move little between frames (simulated_video
makes one, and frames that fit) and returns detections with the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures import VideoDetections, VideoInfo, VideoTruth

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PlantedBox:
    """One planted box: where and when; ``object_id`` is -1 where there is no true object."""

    frame_index: int
    box_xyxy: Box
    label: int
    object_id: int = -1


@dataclass(frozen=True)
class PlantedGap:
    """Frames [first_frame, end_frame) in which a true, plainly visible object is not detected."""

    object_id: int
    label: int
    first_frame: int
    end_frame: int


@dataclass(frozen=True)
class PlantedAnswer:
    """What was planted, each list sorted by frame.

    Attributes:
        flickers: false boxes in a single frame: the hard negatives of any rule.
        spikes: single frames in which a true object, else seen below the seed threshold, rises above
            it. A rule that deletes all below the threshold takes them for flickers; one with a lower
            neighbour threshold must not.
        persistent: every box of the false alarms that stay for many frames; isolated for no rule.
        gaps: the missed stretches; gap_boxes: the true boxes in them: the hard positives.
    """

    flickers: tuple[PlantedBox, ...]
    spikes: tuple[PlantedBox, ...]
    persistent: tuple[PlantedBox, ...]
    gaps: tuple[PlantedGap, ...]
    gap_boxes: tuple[PlantedBox, ...]


@dataclass(frozen=True)
class SimulatedDetector:
    """Answers from the truth, with errors planted by seed.

    Attributes:
        seed: of all that is drawn.
        n_flickers, n_persistent, n_gaps, n_spikes: how many of each to plant, >= 0.
        longest_gap: gaps last 1..longest_gap frames, drawn evenly, >= 1.
        window: frames that rules look at on each side; every planted event keeps further away from
            other events on its object or place, and from both ends of the video.
        min_track: confident detections on both sides of a gap, at least.
        persistent_frames: life of a persistent false alarm in frames, > window.
        seed_threshold: planted scores lie clearly on one side of it: confident ones in
            [threshold + 0.02, 0.97], low ones in [0.3, threshold - 0.05].
        faint_in_gaps: whether a gap's frames hold a low-score detection (a miss at the threshold
            only) instead of none.
        jitter_px: standard deviation of the noise on detected box edges, cut off at twice that.
        border_px: planted false boxes keep this far from the border.
        box_px: sides of planted false boxes are drawn from this range.
    """

    seed: int
    n_flickers: int = 6
    n_persistent: int = 1
    n_gaps: int = 3
    n_spikes: int = 0
    longest_gap: int = 3
    window: int = 5
    min_track: int = 3
    persistent_frames: int = 20
    seed_threshold: float = 0.8
    faint_in_gaps: bool = False
    jitter_px: float = 0.4
    border_px: float = 52.0
    box_px: tuple[float, float] = (42.0, 56.0)

    def run(self, truth: VideoTruth, video: VideoInfo) -> tuple[VideoDetections, PlantedAnswer]:
        """Return the detections of ``video`` and what was planted in them.

        Objects that are ignored, or seen for fewer than 2 (window + min_track) frames in a row, are
        not detected at all.

        Args:
            truth: every object's boxes in following frames must overlap with IoU >= 0.5, or no rule
                could tell a moving object from two flickers.
            video: width, height and fps are read from it.

        Raises:
            HemError: if an object jumps, or there is no room for what is to be planted.
        """
        return _Planting(self, truth, video).result()


@dataclass(frozen=True, eq=False)
class _Run:
    """One object in consecutive frames from ``first``; boxes (L, 4)."""

    object_id: int
    label: int
    first: int
    boxes_xyxy: NDArray[np.float64]

    @property
    def end(self) -> int:
        return self.first + len(self.boxes_xyxy)


class _Planting:
    """One call of SimulatedDetector.run."""

    def __init__(self, settings: SimulatedDetector, truth: VideoTruth, video: VideoInfo) -> None:
        self.settings, self.truth, self.video = settings, truth, video
        self.n_frames = len(truth.labelled_frames)
        self.rng = np.random.default_rng([settings.seed, 2])
        self.rows: list[tuple[int, Box, float, int]] = []
        self.taken: list[tuple[int, int, Box]] = []  # first frame, end frame, place of false alarms

    def result(self) -> tuple[VideoDetections, PlantedAnswer]:
        runs = self._runs()
        gaps = self._choose_gaps(runs)
        spikes = self._choose_spikes(runs, {gap.object_id for gap in gaps})
        gap_boxes = self._detect_objects(runs, gaps, spikes)
        persistent = self._plant_false(self.settings.n_persistent, self.settings.persistent_frames)
        flickers = self._plant_false(self.settings.n_flickers, 1)
        answer = PlantedAnswer(
            flickers=_sorted(flickers),
            spikes=_sorted([box for boxes in spikes.values() for box in boxes]),
            persistent=_sorted(persistent),
            gaps=tuple(sorted(gaps, key=lambda gap: (gap.first_frame, gap.object_id))),
            gap_boxes=_sorted(gap_boxes),
        )
        return self._detections(), answer

    def _runs(self) -> list[_Run]:
        """Return stretches of consecutive frames of each object that are long enough to be tracks."""
        truth, shortest = self.truth, 2 * (self.settings.window + self.settings.min_track)
        runs = []
        for object_id in np.unique(truth.object_id[~truth.ignore]).tolist():
            rows = np.flatnonzero((truth.object_id == object_id) & ~truth.ignore)
            for part in np.split(rows, np.flatnonzero(np.diff(truth.frame_index[rows]) != 1) + 1):
                boxes = truth.boxes_xyxy[part]
                if len(part) > 1 and _row_iou(boxes[1:], boxes[:-1]).min() < 0.5:
                    raise HemError(
                        f"simulated detector: object {object_id} of {truth.video_id} jumps between frames; "
                        "its boxes must overlap with IoU >= 0.5"
                    )
                if len(part) >= shortest:
                    runs.append(
                        _Run(object_id, int(truth.labels[part[0]]), int(truth.frame_index[part[0]]), boxes)
                    )
        return runs

    def _choose_gaps(self, runs: Sequence[_Run]) -> list[PlantedGap]:
        gaps: list[PlantedGap] = []
        keep = self.settings.window + self.settings.min_track
        for _ in range(self.settings.n_gaps):
            length = int(self.rng.integers(1, self.settings.longest_gap + 1))
            places = [
                (run, start)
                for run in runs
                for start in range(run.first + keep, run.end - keep - length + 1)
                if all(
                    gap.object_id != run.object_id
                    or start >= gap.end_frame + keep
                    or start + length + keep <= gap.first_frame
                    for gap in gaps
                )
            ]
            run, start = self._pick(places, "gap")
            gaps.append(PlantedGap(run.object_id, run.label, start, start + length))
        return gaps

    def _choose_spikes(self, runs: Sequence[_Run], busy: set[int]) -> dict[int, list[PlantedBox]]:
        """Choose objects without gaps that are seen faintly but for single frames."""
        spikes: dict[int, list[PlantedBox]] = {}
        apart = self.settings.window + 1
        for _ in range(self.settings.n_spikes):
            places = [
                (run, frame)
                for run in runs
                if run.object_id not in busy
                for frame in range(max(run.first, apart), min(run.end, self.n_frames - apart))
                if all(abs(frame - spike.frame_index) >= apart for spike in spikes.get(run.object_id, []))
            ]
            run, frame = self._pick(places, "spike")
            box = _box(run.boxes_xyxy[frame - run.first])
            spikes.setdefault(run.object_id, []).append(PlantedBox(frame, box, run.label, run.object_id))
        return spikes

    def _detect_objects(
        self, runs: Sequence[_Run], gaps: Sequence[PlantedGap], spikes: dict[int, list[PlantedBox]]
    ) -> list[PlantedBox]:
        missed = {(gap.object_id, frame) for gap in gaps for frame in range(gap.first_frame, gap.end_frame)}
        raised = {(spike.object_id, spike.frame_index) for group in spikes.values() for spike in group}
        gap_boxes = []
        for run in runs:
            for offset, true_box in enumerate(run.boxes_xyxy):
                frame = run.first + offset
                noise = self.settings.jitter_px * np.clip(self.rng.standard_normal(4), -2, 2)
                if (run.object_id, frame) in missed:
                    gap_boxes.append(PlantedBox(frame, _box(true_box), run.label, run.object_id))
                    if not self.settings.faint_in_gaps:
                        continue
                faint = (run.object_id, frame) in missed or (
                    run.object_id in spikes and (run.object_id, frame) not in raised
                )
                self.rows.append((frame, _box(true_box + noise), self._score(not faint), run.label))
        return gap_boxes

    def _score(self, confident: bool) -> float:
        low, high = (
            (self.settings.seed_threshold + 0.02, 0.97)
            if confident
            else (0.3, self.settings.seed_threshold - 0.05)
        )
        return float(self.rng.uniform(low, high))

    def _plant_false(self, count: int, length: int) -> list[PlantedBox]:
        """Plant false boxes that stay ``length`` frames at a place where nothing else comes near."""
        planted = []
        classes = max(1, len(self.truth.class_names), int(self.truth.labels.max(initial=1)))
        for _ in range(count):
            first, box = self._free_place(length)
            label = int(self.rng.integers(1, classes + 1))
            for frame in range(first, first + length):
                planted.append(PlantedBox(frame, box, label))
                self.rows.append((frame, box, self._score(True), label))
            self.taken.append((first, first + length, box))
        return planted

    def _free_place(self, length: int) -> tuple[int, Box]:
        margin, border = self.settings.window + 1, self.settings.border_px
        if self.n_frames - 2 * margin < length:
            raise HemError(
                f"simulated detector: {self.n_frames} frames leave no room for {length} within the window"
            )
        for _ in range(2000):
            size = self.rng.uniform(*self.settings.box_px, 2)
            room = np.array([self.video.width, self.video.height]) - 2 * border - size
            if (room <= 0).any():
                break
            corner = border + self.rng.random(2) * room
            box = _box(np.concatenate([corner, corner + size]))
            first = int(self.rng.integers(margin, self.n_frames - margin - length + 1))
            if self._is_free(first - margin, first + length + margin, box):
                return first, box
        raise HemError("simulated detector: no room for another false alarm; fewer objects or a larger frame")

    def _is_free(self, first: int, end: int, box: Box) -> bool:
        near = (self.truth.frame_index >= first) & (self.truth.frame_index < end)
        others = [self.truth.boxes_xyxy[near]]
        others += [np.array([place]) for start, stop, place in self.taken if start < end and stop > first]
        boxes = np.concatenate(others)
        apart = 4.0  # keeps jitter and rounding from making neighbours touch
        return not bool(
            (
                (boxes[:, 0] < box[2] + apart)
                & (boxes[:, 2] > box[0] - apart)
                & (boxes[:, 1] < box[3] + apart)
                & (boxes[:, 3] > box[1] - apart)
            ).any()
        )

    def _pick(self, places: Sequence[tuple[_Run, int]], what: str) -> tuple[_Run, int]:
        if not places:
            raise HemError(
                f"simulated detector: no room for another {what}; more frames or more objects are needed"
            )
        return places[int(self.rng.integers(len(places)))]

    def _detections(self) -> VideoDetections:
        rows = sorted(self.rows, key=lambda row: (row[0], -row[2]))
        return VideoDetections(
            video=self.video,
            frame_index=np.array([row[0] for row in rows], dtype=np.int64),
            boxes_xyxy=np.array([row[1] for row in rows], dtype=np.float64),
            scores=np.array([row[2] for row in rows], dtype=np.float64),
            labels=np.array([row[3] for row in rows], dtype=np.int64),
            frame_times_s=np.arange(self.n_frames) / self.video.fps,
            score_range=(0.0, 1.0),
            floor_score=0.05,
            class_names=self.truth.class_names,
        )


def _box(values: NDArray[np.float64]) -> Box:
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom


def _sorted(boxes: Sequence[PlantedBox]) -> tuple[PlantedBox, ...]:
    return tuple(sorted(boxes, key=lambda box: (box.frame_index, box.box_xyxy)))


def _row_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return inter / np.maximum(areas[0] + areas[1] - inter, 1e-12)
