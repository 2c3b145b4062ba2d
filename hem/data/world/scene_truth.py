"""Which of the drawn objects count, and where exactly they are."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

VISIBLE = 0.4
"""Share of an object that must be seen for it to count: lower asks a detector for what nobody could
find, higher lets it be punished for finding what is plainly there."""
GLIMPSED = 0.1
"""Share from which a region is at least to be ignored; under it the object is not in the truth."""
SMALLEST = 0.06
"""Shorter side of a box that counts, as a share of the frame's side; smaller ones are ignored."""


@dataclass
class FrameTruth:
    """Objects of one frame; lists run in parallel. ``ignore`` marks those that neither count nor hurt."""

    boxes_xyxy: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ignore: list[bool] = field(default_factory=list)
    object_ids: list[int] = field(default_factory=list)

    def add(
        self, outline: NDArray[np.float64], owners: NDArray[np.uint8], owner: int, label: int, object_id: int
    ) -> None:
        """Add one object from its outline in frame pixels and the map of who is seen where.

        The box bounds the whole outline, clipped to the frame (what is hidden inside the frame
        belongs to it).
        """
        height, width = owners.shape
        left, top = np.clip(outline.min(0), 0, (width, height))
        right, bottom = np.clip(outline.max(0), 0, (width, height))
        area = float(cv2.contourArea(outline.astype(np.float32)))
        if right - left < 1 or bottom - top < 1 or area <= 0:
            return
        seen = min(1.0, int(np.count_nonzero(owners == owner)) / area)
        if seen < GLIMPSED:
            return
        small = min(right - left, bottom - top) < SMALLEST * max(width, height)
        self.boxes_xyxy.append((float(left), float(top), float(right), float(bottom)))
        self.labels.append(label)
        self.ignore.append(bool(seen < VISIBLE or small))
        self.object_ids.append(object_id)
