"""Pictures made smaller by averaging over the area that each new pixel covers."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

_SMALL = 16_000  # pixels; up to here OpenCV takes no longer than what is set up here


def shrunk(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture at ``size`` as OpenCV's INTER_AREA does it, a rounding error in 10,000 pixels apart.

    OpenCV is quick where sides shrink by whole numbers only. For the others it goes through the pixels of
    each row one by one; here the shares are products of two sparse matrices, three to five times as fast.

    Args:
        picture: uint8 (H, W).
        size: (width, height), >= 1 and at most the picture's.
    """
    height, width = picture.shape
    if picture.size <= _SMALL or not (width % size[0] or height % size[1]):
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    rows = _shares(height, size[1]) @ picture.astype(np.float32)
    columns = _shares(width, size[0]) @ np.ascontiguousarray(rows.T)
    return np.rint(columns.T).astype(np.uint8, order="C")


@lru_cache(maxsize=512)  # as many sizes as candidates have, in two directions
def _shares(length: int, parts: int) -> Any:  # noqa: ANN401
    """Return float32 (parts, length), sparse: how much of each part every pixel makes up."""
    side = length / parts
    edges = np.union1d(np.arange(length + 1), np.arange(1, parts) * side)
    middle = (edges[1:] + edges[:-1]) / 2
    starts = np.searchsorted(np.minimum(middle / side, parts - 1).astype(np.int64), np.arange(parts + 1))
    shares = (np.diff(edges) / side).astype(np.float32)
    return csr_matrix((shares, middle.astype(np.int32), starts), (parts, length))
