"""Overlaps among many pairs of boxes, most of which are already told apart by one side."""

import numpy as np
from numpy.typing import NDArray

from hem.ops.boxes import Boxes, area, area_inclusive


class BoxColumns:
    """Boxes by their sides, each side contiguous: a pair that does not meet in x is looked at no further.

    Args:
        boxes_xyxy: float64 (N, 4).
        inclusive: pixels are counted as paired_iou_inclusive does, or else as paired_iou.
    """

    def __init__(self, boxes_xyxy: Boxes, *, inclusive: bool = False) -> None:
        self._sides = np.ascontiguousarray(boxes_xyxy.T)  # left, top, right, bottom
        self._area = area_inclusive(boxes_xyxy) if inclusive else area(boxes_xyxy)
        self._inclusive = inclusive

    def overlaps(
        self, rows: NDArray[np.int64], others: "BoxColumns", other_rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return which pairs overlap, int64 (Q,), rising, and their IoU, float64 (Q,), > 0.

        Args:
            rows, other_rows: integers (P,), pair k is rows[k] of these boxes and other_rows[k] of others.
            others: boxes counted in the same way.
        """
        at = np.arange(len(rows))
        common = np.ones(len(rows))
        for low, high in ((0, 2), (1, 3)):
            length = np.minimum(self._sides[high][rows], others._sides[high][other_rows])
            length -= np.maximum(self._sides[low][rows], others._sides[low][other_rows])
            meet = np.flatnonzero(length >= 0 if self._inclusive else length > 0)
            at, rows, other_rows = at[meet], rows[meet], other_rows[meet]
            common = common[meet] * (length[meet] + 1 if self._inclusive else length[meet])
        return at, common / (self._area[rows] + others._area[other_rows] - common)
