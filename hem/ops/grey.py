"""The one grey that pictures are compared in. Imports no torch: a guarded decoder starts with it."""

import cv2
import numpy as np
from numpy.typing import NDArray


def grey_of_rgb(picture: NDArray[np.uint8], channel_order: str = "rgb") -> NDArray[np.uint8]:
    """Return uint8 (H, W) of uint8 (H, W, 3), which may hold no pixel at all, by OpenCV's conversion.

    Args:
        picture: rows may lie apart in memory, the pixels of a row may not.
        channel_order: ``rgb`` or ``bgr``.
    """
    if 0 in picture.shape:
        return np.zeros(picture.shape[:2], dtype=np.uint8)
    code = cv2.COLOR_BGR2GRAY if channel_order == "bgr" else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(picture, code), dtype=np.uint8)
