"""Box arithmetic in float64 on numpy arrays; boxes are (left, top, right, bottom) in pixels."""

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6
Boxes = NDArray[np.float64]


def area(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """Return (right - left)·(bottom - top) for boxes of shape (..., 4)."""
    sides = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return np.asarray(sides[..., 0] * sides[..., 1])


def paired_intersection(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float64]:
    """Return the common area of boxes taken row by row (shapes broadcast), 0 where they are apart."""
    low = np.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    sides = np.clip(high - low, 0.0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def paired_iou(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float64]:
    """Return intersection over union row by row (shapes broadcast); 0 where the union has no area."""
    common = paired_intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy) + area(b_xyxy) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def paired_iou_inclusive(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float64]:
    """Return IoU row by row with pixels counted inclusively, as the paper's program does.

    0 where the boxes are strictly apart; otherwise every width and height is one more than the
    difference of its coordinates, so boxes that only touch overlap by one pixel.
    """
    low = np.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    sides = high - low
    apart = (sides < 0).any(axis=-1)
    common = np.where(apart, 0.0, (sides[..., 0] + 1) * (sides[..., 1] + 1))
    union = area_inclusive(a_xyxy) + area_inclusive(b_xyxy) - common
    return np.asarray(common / union)


def area_inclusive(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """Return (right - left + 1)·(bottom - top + 1)."""
    sides = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2] + 1
    return np.asarray(sides[..., 0] * sides[..., 1])


def iou_matrix(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float64]:
    """Return IoU of every row of ``a`` (N, 4) with every row of ``b`` (M, 4), shape (N, M)."""
    return paired_iou(a_xyxy[:, None, :], b_xyxy[None, :, :])


def ioa_matrix(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float64]:
    """Return intersection over the area of ``a``, shape (N, M); 0 for boxes without area."""
    common = paired_intersection(a_xyxy[:, None, :], b_xyxy[None, :, :])
    own = np.broadcast_to(area(a_xyxy)[:, None], common.shape)
    return np.asarray(np.divide(common, own, out=np.zeros_like(common), where=own > 0))


def clip_boxes(boxes_xyxy: Boxes, width: int, height: int) -> Boxes:
    """Return boxes cut to [0, width] x [0, height]."""
    limit = np.array([width, height, width, height], dtype=np.float64)
    return np.clip(boxes_xyxy, 0.0, limit)


def overlapping_places(
    boxes_xyxy: Boxes, sides: NDArray[np.float64], iou_threshold: float
) -> NDArray[np.int64]:
    """Return where the corner of another box must lie to overlap one of these by more than a threshold.

    Args:
        boxes_xyxy: float64 (N, 4).
        sides: float64 (2,), right - left and bottom - top of the other box.
        iou_threshold: >= 0, of paired_iou_inclusive.

    Returns:
        int64 (N, 4), rectangles (x0, y0, x1, y1), ends inclusive, of whole left and top corners. They
        hold every such place, and some others; that of a box which no place reaches is empty, x1 < x0.
    """
    own = np.asarray(sides, dtype=np.float64) + 1  # as inclusive pixels count
    most = np.minimum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + 1, own)  # that can be common
    needed = iou_threshold / (1 + iou_threshold) * (area_inclusive(boxes_xyxy) + own.prod())
    least = needed[:, None] / most[:, ::-1]  # common part of one side, if the other's is as large as can be
    low, high = boxes_xyxy[:, :2] + least - own, boxes_xyxy[:, 2:] + 1 - least
    places = np.concatenate([np.floor(low - _ROUNDING), np.ceil(high + _ROUNDING)], axis=1)
    reached = (least <= most + _ROUNDING).all(axis=1)
    return np.where(reached[:, None], places, (0, 0, -1, -1)).astype(np.int64)
