"""Unlabelled video as a LightningDataModule: frames of many videos, in order, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from hem.config import VideoConfig
from hem.structures import FrameBatch, VideoInfo
from hem.video.source import FrameSource, open_source
from hem.video.stream import VideoStream, reread_frames


class VideoData(pl.LightningDataModule):
    """Streams videos one after another; memory does not grow with their length.

    Args:
        videos: what to read, in this order.
        settings: decoder, device of the frames, batch size, how hangs are ended.
    """

    def __init__(self, videos: Sequence[VideoInfo], settings: VideoConfig) -> None:
        super().__init__()
        self.videos = tuple(videos)
        self.settings = settings

    def predict_dataloader(self) -> VideoStream:
        """Return every frame of every video as FrameBatch, in order."""
        return VideoStream(self.videos, **self._options())

    def source(self, video: VideoInfo, grey: bool = False) -> FrameSource:
        """Open one video, in colour or in grey; the caller closes it."""
        return open_source(video, **self._options(), grey=grey)

    def _options(self) -> dict[str, Any]:
        names = ("decoder", "device", "batch_size", "guard", "stall_s")
        return {name: getattr(self.settings, name) for name in names}

    def reread(self, video: VideoInfo, frame_indices: Sequence[int]) -> Mapping[int, Tensor]:
        """Return chosen frames again, uint8 (3, H, W), the same pixels as they were mined from."""
        return reread_frames(video, frame_indices, decoder=self.settings.decoder)

    def __iter__(self) -> Iterator[FrameBatch]:
        return iter(self.predict_dataloader())
