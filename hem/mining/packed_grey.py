"""Grey pictures of colour frames, made only where somebody looks."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hem.ops.grey import grey_of_rgb
from hem.ops.grey_there import grey_there
from hem.ops.thinning import thinned
from hem.structures import GreyPicture

_MOST = 0.5  # of the frame; when more was made in parts, the whole is made and the colours are let go


def greys_of(pictures: Tensor) -> list[GreyPicture]:
    """Return uint8 (B, 3, H, W) RGB in grey, by OpenCV's conversion, or what (B, 1, H, W) holds."""
    if pictures.shape[1] == 1:
        return list(pictures[:, 0].cpu().numpy())
    if pictures.device.type != "cpu":
        return list(grey_there(pictures).cpu().numpy())
    rows = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).cpu().numpy())
    return [PackedGrey(rgb) for rgb in rows]


class PackedGrey:
    """OpenCV's grey of an RGB picture, bit for bit, made where it is looked at.

    Mining looks at a small part of most frames, and a detector beside it waits for every core's share of
    the work: so what is not looked at is not made. A LazyGrey: see hem.structures.grey. May be looked at
    from several threads. Holds the picture.

    Args:
        rgb: uint8 (H, W, 3), contiguous, not written to while this is in use.
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        self._rgb: NDArray[np.uint8] | None = rgb
        self._whole: NDArray[np.uint8] | None = None
        self._looked_at = 0
        self.shape = (rgb.shape[0], rgb.shape[1])

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[np.uint8]:
        """See LazyGrey."""
        rgb = self._rgb  # taken once: another thread may let go of it
        if rgb is None:
            return self._all()[where]
        part = rgb[where]
        self._looked_at += part.shape[0] * part.shape[1]
        if self._looked_at > _MOST * self.shape[0] * self.shape[1]:
            return self._all()[where]
        return grey_of_rgb(part)

    def thinned(self, step: int) -> NDArray[np.uint8]:
        """See LazyGrey."""
        rgb = self._rgb
        if rgb is None or step == 1 or min(self.shape) < 2:
            return thinned(self._all(), step)
        height, width = self.shape
        # two rows side by side count as one, so that those to be left out are never copied; and whole rows,
        # which is faster than to pick in three colours
        pairs = rgb[: height // 2 * 2].reshape(height // 2, 2 * width, 3)[::step]
        lines = grey_of_rgb(pairs).reshape(-1, width)
        return np.ascontiguousarray(lines[:, : width // 2 * 2].view(np.uint16)[:, ::step]).view(np.uint8)

    def _all(self) -> NDArray[np.uint8]:
        rgb = self._rgb
        if rgb is not None:
            self._whole = grey_of_rgb(rgb)
            self._rgb = None
        assert self._whole is not None
        return self._whole
