"""Unlabelled video as a LightningDataModule: frames of many videos, in order, in batches."""

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl

from hem.config import VideoConfig
from hem.structures import FrameBatch, VideoInfo
from hem.training.videos import Videos
from hem.video.stream import VideoStream


class VideoData(Videos, pl.LightningDataModule):
    """Streams videos one after another; memory does not grow with their length.

    Args:
        videos: what to read, in this order.
        settings: decoder, device of the frames, batch size, how hangs are ended.
    """

    def __init__(self, videos: Sequence[VideoInfo], settings: VideoConfig) -> None:
        pl.LightningDataModule.__init__(self)
        Videos.__init__(self, videos, settings)

    def predict_dataloader(self) -> VideoStream:
        """Return every frame of every video as FrameBatch, in order."""
        return VideoStream(self.videos, **self.options())

    def __iter__(self) -> Iterator[FrameBatch]:
        return iter(self.predict_dataloader())
