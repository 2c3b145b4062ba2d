"""What is known of a video, and the frames that travel from a decoder to a detector."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hem.errors import HemError


@dataclass(frozen=True)
class VideoInfo:
    """One video file (or folder of frames taken as a video).

    Attributes:
        video_id: POSIX path relative to the scanned root; the file name for a single file.
        digest: sha256 of the content, 64 hex digits (empty only for frames made in memory).
        path: where to open it; never part of an identity.
        width, height: pixels of the first frame as displayed (rotation applied).
        fps: nominal frames per second, > 0; times come from timestamps, this is only for display
            and for sources that have none.
        n_frames: frames that decode, or None before the video was read to its end. The number a
            header claims is never put here.
    """

    video_id: str
    digest: str = ""
    path: str = ""
    width: int = 0
    height: int = 0
    fps: float = 25.0
    n_frames: int | None = None

    def __post_init__(self) -> None:
        if not self.video_id or self.video_id.startswith("/") or ".." in self.video_id.split("/"):
            raise HemError(f"video id {self.video_id!r} must be a relative POSIX path without '..'")
        if not self.fps > 0:
            raise HemError(f"{self.video_id}: fps must be > 0, got {self.fps}")


@dataclass(frozen=True)
class FrameGap:
    """A stretch of a video that could not be decoded: frames [first_frame, end_frame), and why.

    ``end_frame`` is None when the decoder gave up and nothing after ``first_frame`` is known.
    A gap is never the same as frames without detections.
    """

    first_frame: int
    end_frame: int | None
    reason: str

    def __str__(self) -> str:
        """Return it as people are told: the last number is that of the last frame lost."""
        last = "end" if self.end_frame is None else self.end_frame - 1
        return f"frames {self.first_frame}..{last}: {self.reason}"


def length_of(next_index: int, gaps: Sequence[FrameGap]) -> int:
    """Return how many frames a video has: those up to the last decoded one, and gaps behind it."""
    return max([next_index, *(gap.end_frame or 0 for gap in gaps)])


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Consecutive decoded frames of one video, in order.

    Attributes:
        video: the video they come from.
        frames: uint8 (B, 3, H, W), RGB, or (B, 1, H, W), grey, on the device asked for.
        frame_indices: int64 (B,), 0-based, strictly increasing; a jump means a gap.
        times_s: float64 (B,), presentation time in seconds, strictly increasing.
    """

    video: VideoInfo
    frames: Tensor
    frame_indices: Tensor
    times_s: Tensor

    def __post_init__(self) -> None:
        count = self.frames.shape[0]
        if self.frames.dtype != torch.uint8 or self.frames.ndim != 4 or self.frames.shape[1] not in (1, 3):
            raise HemError(
                f"{self.video.video_id}: frames must be uint8 (B, 3, H, W) or (B, 1, H, W), "
                f"got {self.frames.dtype} {tuple(self.frames.shape)}"
            )
        if tuple(self.frame_indices.shape) != (count,) or tuple(self.times_s.shape) != (count,):
            raise HemError(f"{self.video.video_id}: {count} frames need as many indices and times")

    def __len__(self) -> int:
        return int(self.frames.shape[0])


@dataclass(frozen=True)
class VideoReport:
    """How reading a video ended: the video with its true frame count, and what could not be read.

    ``error`` is None when the video was read to its end; otherwise one sentence that names the file.
    """

    video: VideoInfo
    gaps: Sequence[FrameGap] = field(default_factory=tuple)
    error: str | None = None
