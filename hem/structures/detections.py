"""Detections of one frame, and of a whole video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.structures._check import as_tensor, same_length, valid_boxes, valid_labels
from hem.structures.video import FrameGap, VideoInfo


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector says of one frame.

    Attributes:
        boxes_xyxy: float64 (N, 4), left, top, right, bottom in pixels of the original frame.
        scores: float64 (N,), any finite number; compared in float64, so a stored 0.7 is 0.7.
        labels: int64 (N,), classes counted from 1.
        frame_index: 0-based, or -1 for an image that belongs to no video.
        time_s: presentation time in seconds.
        video_id: see VideoInfo.

    Raises:
        HemError: on a wrong shape, a value that is not finite, right < left, bottom < top, or a
            label below 1.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    frame_index: int = -1
    time_s: float = 0.0
    video_id: str = ""

    def __post_init__(self) -> None:
        where = f"detections of {self.video_id or 'an image'} frame {self.frame_index}"
        put = object.__setattr__
        put(self, "boxes_xyxy", as_tensor("boxes_xyxy", self.boxes_xyxy, torch.float64, (4,), where))
        put(self, "scores", as_tensor("scores", self.scores, torch.float64, (), where))
        put(self, "labels", as_tensor("labels", self.labels, torch.int64, (), where))
        same_length(where, boxes_xyxy=len(self.boxes_xyxy), scores=len(self.scores), labels=len(self.labels))
        valid_boxes("boxes_xyxy", self.boxes_xyxy, where)
        valid_labels(self.labels, where)

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    @classmethod
    def empty(cls, frame_index: int = -1, time_s: float = 0.0, video_id: str = "") -> "Detections":
        """Return a frame in which nothing was detected."""
        return cls(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), frame_index, time_s, video_id)

    def __getitem__(self, rows: Tensor | slice) -> "Detections":
        """Return the rows chosen by a mask, an index tensor or a slice, of the same frame."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
        )

    def above(self, score_threshold: float) -> "Detections":
        """Return those with score >= ``score_threshold`` (a score exactly at it is in)."""
        return self[self.scores >= score_threshold]

    def of_class(self, label: int) -> "Detections":
        """Return those of one class."""
        return self[self.labels == label]


@dataclass(frozen=True, eq=False)
class VideoDetections:
    """Every detection of one video in columns, sorted by frame (stable within a frame).

    Attributes:
        video: its identity, size and true frame count.
        frame_index: int64 (N,), 0-based frame of each detection, non-decreasing.
        boxes_xyxy, scores, labels: as in Detections, numpy (N, 4), (N,), (N,).
        frame_times_s: float64 (F,): time of every frame 0..F-1; NaN where the frame lies in a gap.
        gaps: stretches that could not be decoded.
        score_range: lowest and highest score the source can give, or None if it never said.
        floor_score: detections below it were not kept (-inf if nothing was dropped).
        class_names: names of labels 1, 2, …; may be empty.
    """

    video: VideoInfo
    frame_index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    frame_times_s: NDArray[np.float64]
    gaps: Sequence[FrameGap] = field(default_factory=tuple)
    score_range: tuple[float, float] | None = None
    floor_score: float = float("-inf")
    class_names: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        where = f"detections of {self.video.video_id}"
        put = object.__setattr__
        put(self, "frame_index", np.asarray(self.frame_index, dtype=np.int64).reshape(-1))
        put(self, "boxes_xyxy", np.asarray(self.boxes_xyxy, dtype=np.float64).reshape(-1, 4))
        put(self, "scores", np.asarray(self.scores, dtype=np.float64).reshape(-1))
        put(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        put(self, "frame_times_s", np.asarray(self.frame_times_s, dtype=np.float64).reshape(-1))
        same_length(
            where,
            frame_index=len(self.frame_index),
            boxes_xyxy=len(self.boxes_xyxy),
            scores=len(self.scores),
            labels=len(self.labels),
        )
        as_tensor("scores", torch.from_numpy(self.scores.copy()), torch.float64, (), where)
        boxes = as_tensor("boxes_xyxy", torch.from_numpy(self.boxes_xyxy.copy()), torch.float64, (4,), where)
        valid_boxes("boxes_xyxy", boxes, where)
        valid_labels(torch.from_numpy(self.labels.copy()), where)
        if len(self.frame_index) and (np.diff(self.frame_index) < 0).any():
            raise HemError(f"{where}: rows must be sorted by frame_index")
        if len(self.frame_index) and not (
            self.frame_index[0] >= 0 and self.frame_index[-1] < len(self.frame_times_s)
        ):
            raise HemError(
                f"{where}: frame_index runs to {int(self.frame_index[-1])}, "
                f"but the video has {len(self.frame_times_s)} frames"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def n_frames(self) -> int:
        """Frames of the video, those in gaps included."""
        return len(self.frame_times_s)

    @property
    def decoded(self) -> NDArray[np.bool_]:
        """bool (F,): the frame was decoded, so that it has a time and can be looked at."""
        return ~np.isnan(self.frame_times_s)

    def rows_of(self, frame_index: int) -> slice:
        """Return the rows of one frame as a slice (empty where it has none)."""
        first, end = (self.frame_index.searchsorted(index) for index in (frame_index, frame_index + 1))
        return slice(int(first), int(end))

    def frame(self, frame_index: int) -> Detections:
        """Return one frame's detections."""
        rows = self.rows_of(frame_index)
        return Detections(
            torch.from_numpy(self.boxes_xyxy[rows].copy()),
            torch.from_numpy(self.scores[rows].copy()),
            torch.from_numpy(self.labels[rows].copy()),
            frame_index,
            float(self.frame_times_s[frame_index]),
            self.video.video_id,
        )

    def __iter__(self) -> Iterator[Detections]:
        return (self.frame(index) for index in range(self.n_frames))

    @classmethod
    def from_frames(
        cls,
        video: VideoInfo,
        frames: Sequence[Detections],
        frame_times_s: Sequence[float] | NDArray[np.float64],
        **more: object,
    ) -> "VideoDetections":
        """Join per-frame detections (any order, each with its frame_index); frames not given are empty."""
        ordered = sorted(frames, key=lambda d: d.frame_index)
        counts = [len(d) for d in ordered]
        return cls(
            video=video,
            frame_index=np.repeat(np.array([d.frame_index for d in ordered], dtype=np.int64), counts),
            boxes_xyxy=np.concatenate([d.boxes_xyxy.numpy() for d in ordered] or [np.zeros((0, 4))]),
            scores=np.concatenate([d.scores.numpy() for d in ordered] or [np.zeros(0)]),
            labels=np.concatenate([d.labels.numpy() for d in ordered] or [np.zeros(0, dtype=np.int64)]),
            frame_times_s=np.asarray(frame_times_s, dtype=np.float64),
            **more,  # type: ignore[arg-type]
        )
