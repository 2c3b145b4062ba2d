"""How much of the picture at a detection's place changes in the seconds around it, measured in the pass.

A false alarm on a background that a fixed camera shows does not flicker and survives disturbance, but
its pixels stay what they were. People and animals never do that for long: who stands still still sways.
So this tells a potted tree from a man before a shop window, which their boxes alone do not.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hem.mining.matching import shrink
from hem.structures import GreyPicture

LONG_SIDE = 256  # pixels of the reduced picture; 192 to 384 tell the two apart equally well
LEVELS = 16  # grey levels that noise and compression stay below
REACH = 5.0  # farthest frames looked at, in multiples of the nearest
SAMPLES = 4  # frames looked at, in that time; and the fewest that tell anything


@dataclass(eq=False)
class _Waiting:
    time_s: float
    shot: int
    picture: NDArray[np.int16]
    first_row: int
    boxes_xyxy: NDArray[np.float64]


class _Samples(NamedTuple):
    times_s: NDArray[np.float64]
    shots: NDArray[np.int64]
    pictures: NDArray[np.int16]


class StillnessMeter:
    """Takes the frames of one video in order and says how much of each detection's picture changes.

    A detection's picture is held against the same place in frames of its shot that are ``still_s`` to
    REACH times ``still_s`` seconds away, before and after, SAMPLES of them for every ``still_s``, counted
    from the shot's first frame. Its
    change is the median, over those frames, of the share of pixels that differ by more than LEVELS: a
    passer-by hides the place in some of them only. At fewer than SAMPLES frames it is NaN: unknown.

    What is held does not grow with the video: the reduced pictures of 2 * REACH * ``still_s`` seconds.

    Args:
        still_s: seconds, >= 0. Shorter takes slow objects for still ones; longer leaves short videos
            without an answer. 0 measures nothing.
    """

    def __init__(self, still_s: float) -> None:
        self._near_s, self._far_s = still_s, REACH * still_s
        self._step_s = still_s / SAMPLES
        self._samples: deque[tuple[float, int, NDArray[np.int16]]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._slot = (-1, -1)
        self._shot_began = (-1, 0.0)  # a shot, and the time of its first frame
        self._done: list[tuple[int, NDArray[np.float64]]] = []
        self._stacked: _Samples | None = None  # of the samples; None where one came or went since

    def push(
        self,
        time_s: float,
        shot: int,
        duplicate: bool,
        grey: GreyPicture,
        first_row: int,
        boxes_xyxy: NDArray[np.float64],
    ) -> None:
        """Take the next frame.

        Args:
            time_s: presentation time, above the last one's.
            shot: number of its shot; only frames of one shot are compared.
            duplicate: it repeats the frame before, so it says nothing and nothing is said of it.
            grey: uint8 (H, W), not kept.
            first_row: row of its first detection; boxes_xyxy: (N, 4), in pixels of the frame.
        """
        if not self._near_s:
            return
        self._settle(before_s=time_s - self._far_s)
        if duplicate:
            return
        if shot != self._shot_began[0]:
            self._shot_began = shot, time_s
        slot = (shot, math.floor((time_s - self._shot_began[1]) / self._step_s + 1e-6))
        sampled = slot != self._slot
        if not sampled and not len(boxes_xyxy):
            return
        scale = min(1.0, LONG_SIDE / max(grey.shape))
        picture = shrink(grey[:, :], scale, scale).astype(np.int16)
        if sampled:
            self._slot = slot
            self._samples.append((time_s, shot, picture))
            self._stacked = None
        if len(boxes_xyxy):
            self._waiting.append(_Waiting(time_s, shot, picture, first_row, boxes_xyxy * scale))

    def finish(self) -> None:
        """Judge what still waits for later frames, of which there are none."""
        self._settle(before_s=math.inf)

    def change(self, rows: NDArray[np.int64], n_rows: int) -> NDArray[np.float64] | None:
        """Return float64 (n_rows,): share of the picture that changes, in [0, 1], or NaN; None at 0 s.

        Args:
            rows: int64 (M,), where row k of those counted while pushing stands; n_rows: length wanted.
        """
        if not self._near_s:
            return None
        found = np.full(n_rows, np.nan)
        for first_row, values in self._done:
            found[rows[first_row : first_row + len(values)]] = values
        return found

    def _settle(self, before_s: float) -> None:
        """Judge frames that no later frame can add to, and let go of what nobody needs any more."""
        while self._waiting and self._waiting[0].time_s < before_s - 1e-6:
            frame = self._waiting.popleft()
            self._done.append((frame.first_row, self._judge(frame)))
        oldest = self._waiting[0].time_s if self._waiting else before_s + self._far_s
        while self._samples and self._samples[0][0] < oldest - self._far_s - 1e-6:
            self._samples.popleft()
            self._stacked = None

    def _judge(self, frame: _Waiting) -> NDArray[np.float64]:
        samples = self._of_shape(frame.picture.shape)
        away_s = np.abs(samples.times_s - frame.time_s)
        near, far = away_s >= self._near_s - 1e-6, away_s <= self._far_s + 1e-6
        others = np.flatnonzero((samples.shots == frame.shot) & near & far)
        found = np.full(len(frame.boxes_xyxy), np.nan)
        if len(others) < SAMPLES:
            return found
        height, width = frame.picture.shape
        corners = np.round(frame.boxes_xyxy).astype(np.int64)
        left, top = (np.clip(corners[:, k], 0, end - 1) for k, end in ((0, width), (1, height)))
        right, bottom = (
            np.clip(corners[:, k], first + 1, end) for k, first, end in ((2, left, width), (3, top, height))
        )
        for at, (x0, y0, x1, y1) in enumerate(zip(left, top, right, bottom, strict=True)):
            there = samples.pictures[:, y0:y1, x0:x1][others]
            differ = np.abs(there - frame.picture[y0:y1, x0:x1]) > LEVELS
            found[at] = float(np.median(differ.mean(axis=(1, 2))))
        return found

    def _of_shape(self, shape: tuple[int, ...]) -> _Samples:
        """Return the samples of one picture size; stacked anew only where something changed."""
        if self._stacked is None or self._stacked.pictures.shape[1:] != shape:
            of_shape = [sample for sample in self._samples if sample[2].shape == shape]
            pictures = [picture for _, _, picture in of_shape]
            self._stacked = _Samples(
                np.array([time_s for time_s, _, _ in of_shape], dtype=np.float64),
                np.array([shot for _, shot, _ in of_shape], dtype=np.int64),
                np.stack(pictures) if pictures else np.zeros((0, *shape), dtype=np.int16),
            )
        return self._stacked
