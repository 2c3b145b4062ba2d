"""Frames of which a pass has not let go, with what was detected in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.mining.needs import Stretch
from hem.structures import Detections, GreyPicture


class FrameBoxes(NamedTuple):
    """Checked detections of one frame, (N, 4), (N,), (N,)."""

    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


NO_BOXES = FrameBoxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))


@dataclass(eq=False)
class HeldFrame:
    """One frame: its number among all, what it shows, and the row of its first detection among all.

    Attributes:
        picture: uint8 (3, H, W), where it may be disturbed.
    """

    index: int
    grey: GreyPicture
    found: FrameBoxes
    duplicate: bool
    shot: int
    first_row: int
    picture: Tensor | None


def boxes_above(answers: Sequence[Detections], floor_score: float) -> list[FrameBoxes]:
    """Return copies of those with score >= ``floor_score``; they were checked when the detector gave them.

    Copies, since what a detector gives may be a view of much more, or of what it writes to again.
    """
    if not answers:
        return []
    boxes = torch.cat([one.boxes_xyxy for one in answers]).numpy()
    scores = torch.cat([one.scores for one in answers]).numpy()
    labels = torch.cat([one.labels for one in answers]).numpy()
    kept = scores >= floor_score
    ends = np.cumsum([0, *(len(one) for one in answers)])
    ends = np.concatenate(([0], np.cumsum(kept)))[ends].tolist()
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    return [FrameBoxes(boxes[a:b], scores[a:b], labels[a:b]) for a, b in pairwise(ends)]


def holds(frame: HeldFrame, label: int, score: float) -> bool:
    """Return whether something of that label was detected with score >= ``score``."""
    return bool(((frame.found.labels == label) & (frame.found.scores >= score)).any())


def stretch_of(frames: list[HeldFrame]) -> tuple[Stretch, NDArray[np.int64]]:
    """Return the frames' detections together, and the position of each one's frame."""
    counts = [len(frame.found) for frame in frames]

    def spread(values: list, dtype: type) -> NDArray:
        return np.repeat(np.array(values, dtype=dtype), counts)

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(frame.found, name) for frame in frames])

    return Stretch(
        spread([frame.index for frame in frames], np.int64),
        joined("boxes_xyxy"),
        joined("scores"),
        joined("labels"),
        spread([frame.shot for frame in frames], np.int64),
        spread([not frame.duplicate for frame in frames], np.bool_),
    ), spread(list(range(len(frames))), np.int64)
