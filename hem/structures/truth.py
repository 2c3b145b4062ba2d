"""Exact truth of a video, kept apart from anything that training or mining sees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures._check import same_length


@dataclass(frozen=True, eq=False)
class VideoTruth:
    """True objects of one video in columns, sorted by frame.

    Attributes:
        video_id: see VideoInfo.
        frame_index: int64 (N,), 0-based.
        boxes_xyxy: float64 (N, 4), pixels of the original frame.
        labels: int64 (N,) from 1; 0 is allowed for ignore regions of every class.
        ignore: bool (N,): regions that neither count nor hurt.
        object_id: int64 (N,): the same number for one object in all frames; -1 if unknown.
        labelled_frames: bool (F,): False where nobody labelled the frame; such frames are left out
            of every figure.
        class_names: names of labels 1, 2, ….
    """

    video_id: str
    frame_index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    object_id: NDArray[np.int64]
    labelled_frames: NDArray[np.bool_]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"truth of {self.video_id}"
        same_length(
            where,
            frame_index=len(self.frame_index),
            boxes_xyxy=len(self.boxes_xyxy),
            labels=len(self.labels),
            ignore=len(self.ignore),
            object_id=len(self.object_id),
        )
        if self.boxes_xyxy.shape != (len(self.labels), 4):
            raise HemError(f"{where}: boxes_xyxy must be (N, 4), got {self.boxes_xyxy.shape}")
        if len(self.frame_index) and (np.diff(self.frame_index) < 0).any():
            raise HemError(f"{where}: rows must be sorted by frame_index")
        if len(self.frame_index) and not (
            self.frame_index[0] >= 0 and self.frame_index[-1] < len(self.labelled_frames)
        ):
            raise HemError(
                f"{where}: frame_index runs from {int(self.frame_index[0])} to {int(self.frame_index[-1])}, "
                f"but there are {len(self.labelled_frames)} frames"
            )

    def rows_of(self, frame_index: int) -> slice:
        """Return the rows of one frame as a slice."""
        first, end = np.searchsorted(self.frame_index, [frame_index, frame_index + 1])
        return slice(int(first), int(end))
