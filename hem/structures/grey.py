"""Grey pictures that may be made only where somebody looks, and how they travel to the miner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hem.structures.video import VideoInfo


class LazyGrey(Protocol):
    """Stands for a uint8 array (H, W) without being one; parts of it are made when asked for."""

    shape: tuple[int, int]

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Return uint8 (h, w) of the slices, not to be written to."""

    def thinned(self, step: int) -> NDArray[np.uint8]:
        """Return what hem.ops.thinning.thinned gives for the whole."""


GreyPicture = NDArray[np.uint8] | LazyGrey


@dataclass(frozen=True, eq=False)
class GreyBatch:
    """Consecutive decoded frames of one video in grey, in order, as FrameBatch has them in colour.

    Attributes:
        video: the video they come from.
        pictures: B of them, of one size.
        frame_indices: B numbers, 0-based, strictly increasing; a jump means a gap.
        times_s: B presentation times in seconds, strictly increasing.
    """

    video: VideoInfo
    pictures: Sequence[GreyPicture]
    frame_indices: Sequence[int]
    times_s: Sequence[float]

    def __len__(self) -> int:
        return len(self.pictures)
