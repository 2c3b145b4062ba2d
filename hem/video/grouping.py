"""Decoded frames put together in batches, in colour or in grey."""

from typing import Any

import numpy as np
import torch

from hem.ops.grey import grey_of_rgb
from hem.ops.grey_there import grey_there
from hem.structures import FrameBatch, GreyPicture, VideoInfo
from hem.video.reader import RawFrame


class FrameGroup:
    """Collects frames into one array until a batch is full."""

    def __init__(self, video: VideoInfo, size: int, device: torch.device, grey: bool) -> None:
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
        if self._grey:
            self._add_grey(frame.pixels)
        else:
            self._add_colour(frame.pixels)
        self._indices.append(frame.frame_index)
        self._times.append(float(frame.time_s or 0.0))
        return len(self._indices) == self._size

    def _add_grey(self, pixels: Any) -> None:  # noqa: ANN401
        picture = grey_picture(pixels)
        if self._buffer is None:
            self._buffer = np.empty((self._size, *picture.shape, 1), dtype=np.uint8)
        self._buffer[len(self._indices), :, :, 0] = picture[:, :]

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


def grey_picture(pixels: Any) -> GreyPicture:  # noqa: ANN401
    """Return what a reader gave for one frame in grey, by OpenCV's conversion, to be kept."""
    if isinstance(pixels, torch.Tensor):
        return np.asarray(grey_there(pixels).cpu().numpy())
    if isinstance(pixels, np.ndarray):
        return grey_of_rgb(np.ascontiguousarray(pixels))
    return pixels
