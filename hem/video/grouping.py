"""Decoded frames put together in batches, in colour or in grey."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from hem.structures import FrameBatch, GreyPicture, VideoInfo
from hem.video.reader import RawFrame

Part = tuple[int, int, int, int]
Where = Callable[[int], Sequence[Part] | None]
"""From a frame's number to the parts of it that are wanted; None = all of it."""


def everywhere(frame_index: int) -> None:
    """Want all of every frame."""
    return None


class FrameGroup:
    """Collects frames into one array until a batch is full."""

    def __init__(self, video: VideoInfo, size: int, device: torch.device, grey: Where | None) -> None:
        self._video, self._size, self._device, self._grey = video, size, device, grey
        self._clear()

    def __len__(self) -> int:
        return len(self._indices)

    def _clear(self) -> None:
        self._indices: list[int] = []
        self._times: list[float] = []
        self._buffer: Any = None

    def add(self, frame: RawFrame) -> bool:
        """Copy a frame in; True when the batch is full."""
        if self._grey is not None:
            self._add_grey(frame.pixels, self._grey(frame.frame_index))
        else:
            self._add_colour(frame.pixels)
        self._indices.append(frame.frame_index)
        self._times.append(float(frame.time_s or 0.0))
        return len(self._indices) == self._size

    def _add_grey(self, pixels: Any, parts: Sequence[Part] | None) -> None:  # noqa: ANN401
        pixels = _on_cpu(pixels)
        height, width = pixels.shape[:2]
        if self._buffer is None:  # zeros cost nothing: pages nobody writes to are never touched
            self._buffer = np.zeros((self._size, height, width, 1), dtype=np.uint8)
        plane = self._buffer[len(self._indices), :, :, 0]
        if parts is None or sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in parts) >= width * height:
            parts = ((0, 0, width, height),)  # parts that overlap much cost more than the whole
        for x0, y0, x1, y1 in parts:
            # every pixel is converted for itself, so a part is what the whole would give there
            part = pixels[y0:y1, x0:x1]
            plane[y0:y1, x0:x1] = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) if part.ndim == 3 else part

    def _add_colour(self, pixels: Any) -> None:  # noqa: ANN401
        if self._buffer is None:
            shape = (self._size, *pixels.shape)
            on_gpu = isinstance(pixels, torch.Tensor)
            self._buffer = (
                torch.empty(shape, dtype=torch.uint8, device=pixels.device)
                if on_gpu
                else np.empty(shape, dtype=np.uint8)
            )
        elif isinstance(self._buffer, torch.Tensor) and not isinstance(pixels, torch.Tensor):
            pixels = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)  # the GPU gave up midway
        self._buffer[len(self._indices)] = pixels

    def batch(self) -> FrameBatch:
        """Return what was collected and start anew."""
        pixels = self._buffer[: len(self._indices)]
        if isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        batch = FrameBatch(
            self._video,
            pixels.to(self._device),
            torch.tensor(self._indices, dtype=torch.int64),
            torch.tensor(self._times, dtype=torch.float64),
        )
        self._clear()
        return batch


def _on_cpu(pixels: Any) -> Any:  # noqa: ANN401
    """Return what a reader gave as something that slices like an array (H, W, 3), or a LazyGrey."""
    if isinstance(pixels, torch.Tensor):
        return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def grey_picture(pixels: Any) -> GreyPicture:  # noqa: ANN401
    """Return what a reader gave for one frame in grey, by OpenCV's conversion, to be kept."""
    pixels = _on_cpu(pixels)
    if isinstance(pixels, np.ndarray):
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))
    return pixels
