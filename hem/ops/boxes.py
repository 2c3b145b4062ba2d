"""Box arithmetic in float64 on numpy arrays; boxes are (left, top, right, bottom) in pixels."""

import numpy as np
from numpy.typing import NDArray

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
