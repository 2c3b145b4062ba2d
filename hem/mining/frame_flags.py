"""Shot cuts and repeated frames, told frame by frame from a small grey picture."""

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.ops.template_match import best_match_opencv, ncc_of
from hem.ops.thinning import thinned
from hem.structures import GreyPicture

_THUMB = (64, 48)  # width, height: enough for structure, too little for noise and small objects
_SAMPLE_POINTS = 240 * 180  # about as many are looked at, thinned and never averaged: noise must stay
_BLOCK = 16
_REACH = 4  # a block may have moved by a quarter of its size between two frames
_MARGIN_X, _MARGIN_Y = 8, 6  # the whole picture may have moved by an eighth of the frame
_SURE_NCC = 0.75  # whole-picture correlation above this needs no look at the blocks
_BLOCK_CONTRAST = 3.0
_MIN_BLOCKS = 3


class FrameFlagger:
    """Says of each frame of one video, in order, whether a cut lies before it and whether it repeats.

    **Cut.** The frame is compared with the last frame that showed anything. If the whole picture,
    moved by up to an eighth of the frame, correlates well, there is no cut. Otherwise each of 12
    blocks looks for itself in the earlier picture near its place; a cut is where the median block
    correlates below ``cut_ncc``. Correlation ignores gain and offset, so changes of lighting are no
    cuts; blocks without contrast (dark, saturated, plain) do not vote. A frame with fewer than three
    voting blocks (black, white, the middle of a fade) is neither a cut nor compared with later, so
    that a fade through black is one cut at the first frame where the new scene can be seen, and a
    saturated flash is none. A picture that does vote and lasts one or two frames (a flash with
    structure, a glitch) gives a cut where it begins, since nothing later is known then, and none
    where the old scene comes back. Cross-fades and jumps between two moments of one fixed camera
    are not found.

    **Duplicate.** The frame repeats the one before (the same picture encoded again) when the grey
    levels differ by at most ``duplicate_level`` on the mean and by at most eight times that on the
    mean of any window of a sixteenth by a twelfth of the frame. Sensor noise of 0.5 grey levels or
    more on a still scene is above this; a compressor that repeats a still picture exactly is
    indistinguishable from a frozen one.
    A run of duplicates is also held against its first frame (at twice the limits), so that a slow
    fade is not a run.

    Args:
        cut_ncc: in (-1, 1). Raising it finds more cuts and begins to take fast motion for one. On
            seven real videos without cuts the lowest value between neighbours was 0.84, the highest
            of 1,500 pairs of pictures from different videos 0.47.
        duplicate_level: grey levels, >= 0. Raising it takes quiet scenes for frozen ones; lowering
            it misses repeats that were compressed again. Repeats through H.264 were at 0.15 (9 in
            10), real neighbours of noisy video at 0.4 or more.

    Raises:
        HemError: if an argument is out of range.
    """

    def __init__(self, *, cut_ncc: float = 0.62, duplicate_level: float = 0.35) -> None:
        if not -1 < cut_ncc < 1 or not duplicate_level >= 0:
            raise HemError(
                f"frame flags: cut_ncc={cut_ncc} must lie in (-1, 1) and duplicate_level="
                f"{duplicate_level} must be >= 0"
            )
        self._cut_ncc = cut_ncc
        self._level = duplicate_level
        self._seen: deque[NDArray[np.uint8]] = deque(maxlen=3)  # latest first
        self._sample: NDArray[np.uint8] | None = None
        self._first_of_run: NDArray[np.uint8] | None = None
        self._shape: tuple[int, ...] = ()
        self._time_s = -math.inf

    def push(self, grey: GreyPicture, time_s: float) -> tuple[bool, bool]:
        """Take the next frame and return (cut_before, duplicate).

        Args:
            grey: uint8 (H, W), never written to, not kept. Any size; a change of size within a
                video is a cut.
            time_s: presentation time in seconds, above the last one's.

        Returns:
            ``cut_before``: a cut lies between the frame before and this one; False for the first.
            ``duplicate``: this frame repeats the one before; False for the first and at a cut.

        Raises:
            HemError: if the array has another shape or dtype, or time does not go on.
        """
        if len(grey.shape) != 2 or 0 in grey.shape:
            raise HemError(f"frame flags: a frame must be uint8 (H, W), got one of shape {grey.shape}")
        if isinstance(grey, np.ndarray) and grey.dtype != np.uint8:
            raise HemError(f"frame flags: a frame must be uint8 (H, W), got {grey.dtype}")
        if not time_s > self._time_s:
            raise HemError(f"frame flags: time {time_s} s does not follow {self._time_s} s")
        self._time_s = time_s
        step = max(1, round(math.sqrt(math.prod(grey.shape) / _SAMPLE_POINTS)))
        sample = thinned(grey, step)
        resized = self._shape not in ((), grey.shape)
        self._shape = grey.shape
        if resized:
            self._sample = None
            self._seen.clear()
        duplicate = self._repeats(sample)
        if duplicate:  # what repeats cannot be a cut, and teaches nothing new about the scene
            return False, True
        return resized or self._is_cut(sample), False

    def _repeats(self, sample: NDArray[np.uint8]) -> bool:
        before, first = self._sample, self._first_of_run
        self._sample = sample
        if before is not None and first is not None and _close(before, sample, self._level):
            steady = first is before or _close(first, sample, 2 * self._level)
        else:
            steady = False
        if not steady:
            self._first_of_run = sample
        return steady

    def _is_cut(self, sample: NDArray[np.uint8]) -> bool:
        thumb = np.asarray(cv2.resize(sample, _THUMB, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if len(self._seen) and self._surely_same(self._seen[0], thumb):
            self._seen.appendleft(thumb)
            return False
        blocks = _voting_blocks(thumb)
        if len(blocks) < _MIN_BLOCKS:
            return False
        cut = bool(self._seen)
        for earlier in self._seen:  # an older one may match: a glitch is over and the scene is back
            if _block_ncc(earlier, thumb, blocks) >= self._cut_ncc:
                cut = False
                break
        self._seen.appendleft(thumb)
        return cut

    def _surely_same(self, earlier: NDArray[np.uint8], thumb: NDArray[np.uint8]) -> bool:
        inner = thumb[_MARGIN_Y:-_MARGIN_Y, _MARGIN_X:-_MARGIN_X]
        if float(cv2.meanStdDev(inner)[1][0, 0]) < _BLOCK_CONTRAST:
            return False
        enough = max(_SURE_NCC, self._cut_ncc)
        still = earlier[_MARGIN_Y:-_MARGIN_Y, _MARGIN_X:-_MARGIN_X]
        if ncc_of(still, inner) >= enough:  # settles nearly all frames, and is cheap
            return True
        return best_match_opencv(inner, earlier)[0] >= enough


def _close(one: NDArray[np.uint8], other: NDArray[np.uint8], level: float) -> bool:
    if cv2.norm(one, other, cv2.NORM_L1) > level * one.size:
        return False
    difference = cv2.absdiff(one, other)
    rows, columns = (max(1, size // count) for size, count in zip(one.shape, (12, 16), strict=True))
    means = cv2.blur(difference, (columns, rows))  # every tile position, so none is cut in two
    return float(means.max()) <= 8 * level


def _voting_blocks(thumb: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Top-left corners of the blocks that have contrast."""
    height, width = thumb.shape
    return [
        (top, left)
        for top in range(0, height, _BLOCK)
        for left in range(0, width, _BLOCK)
        if float(thumb[top : top + _BLOCK, left : left + _BLOCK].std()) >= _BLOCK_CONTRAST
    ]


def _block_ncc(earlier: NDArray[np.uint8], thumb: NDArray[np.uint8], blocks: list[tuple[int, int]]) -> float:
    """Median over blocks of the best correlation of each near its own place in ``earlier``."""
    best = []
    for top, left in blocks:
        around = earlier[
            max(0, top - _REACH) : top + _BLOCK + _REACH, max(0, left - _REACH) : left + _BLOCK + _REACH
        ]
        block = thumb[top : top + _BLOCK, left : left + _BLOCK]
        best.append(best_match_opencv(block, around)[0])
    return float(np.median(best))
