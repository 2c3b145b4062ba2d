"""Flat pictures with transparency, and how they are put into a frame."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.texture import Image, Plane


@dataclass(eq=False)
class Sprite:
    """A picture with transparency.

    Attributes:
        rgba: uint8 (h, w, 4), colour already multiplied by alpha.
        hull: float32 (K, 2), convex outline of the object in sprite pixels; empty for things that
            carry no truth.
        unit_px: length in sprite pixels that counts as size 1 when the sprite is placed (the longer
            side of the object's box).
        centre: sprite pixel that is put at the place asked for.
    """

    rgba: Image
    hull: NDArray[Any]
    unit_px: float
    centre: tuple[float, float]
    _smaller: list[Image] = field(default_factory=list)

    def level(self, scale: float) -> tuple[Image, float]:
        """Return a picture reduced so that at most a 1.5-fold reduction is left, and its factor."""
        levels = 0
        while scale < 0.66 and min(self.rgba.shape[:2]) >> (levels + 1) >= 4:
            scale *= 2
            levels += 1
        while len(self._smaller) < levels:
            last = self._smaller[-1] if self._smaller else self.rgba
            size = (last.shape[1] // 2, last.shape[0] // 2)
            self._smaller.append(cv2.resize(last, size, interpolation=cv2.INTER_AREA))
        picture = self._smaller[levels - 1] if levels else self.rgba
        return picture, picture.shape[1] / self.rgba.shape[1]


def make_sprite(rgb: NDArray, alpha: Plane, mask: Plane | None) -> Sprite:
    """Build a sprite from colours in 0..255, alpha in 0..1 and the mask of the object itself (or None)."""
    height, width = alpha.shape
    rgba = np.empty((height, width, 4), dtype=np.uint8)
    rgba[..., :3] = np.clip(rgb * alpha[..., None], 0, 255)
    rgba[..., 3] = np.clip(alpha * 255, 0, 255)
    solid = (alpha if mask is None else mask) > 0.5
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    unit = float(max(bottom - top, right - left))
    hull: NDArray[Any] = np.zeros((0, 2), dtype=np.float32)
    if mask is not None:
        contours, _ = cv2.findContours(solid.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = np.concatenate(contours).reshape(-1, 2)
        corners = np.concatenate([points + np.array([dx, dy]) for dx in (0, 1) for dy in (0, 1)])
        hull = cv2.convexHull(corners.astype(np.float32)).reshape(-1, 2)
    return Sprite(rgba, hull, unit, ((left + right) / 2, (top + bottom) / 2))


def placement(
    sprite: Sprite,
    centre: tuple[float, float],
    size: float,
    roll: float = 0.0,
    flip: bool = False,
    squeeze: float = 1.0,
) -> NDArray[np.float64]:
    """Return the 2x3 affine map from sprite pixels to frame pixels.

    ``size`` is the longer side in frame pixels, ``roll`` in radians, ``squeeze`` narrows x.
    """
    scale = size / sprite.unit_px
    cos, sin = np.cos(roll) * scale, np.sin(roll) * scale
    stretch = -squeeze if flip else squeeze
    linear = np.array([[cos * stretch, -sin], [sin * stretch, cos]])
    offset = np.array(centre) - linear @ np.array(sprite.centre)
    return np.concatenate([linear, offset[:, None]], axis=1)


def line_kernel(motion: tuple[float, float]) -> NDArray[np.float32] | None:
    """Return the kernel of a straight motion blur of (dx, dy) pixels, or None under 1.2 px."""
    length = float(np.hypot(*motion))
    if length < 1.2:
        return None
    length = min(length, 25.0)
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), dtype=np.float32)
    direction = np.array(motion) / np.hypot(*motion) * length / 2
    ends = [tuple(np.round((radius + s * direction) * 16).astype(int).tolist()) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


def paste(
    frame: Image,
    owners: Image,
    sprite: Sprite,
    matrix: NDArray[np.float64],
    owner: int = 0,
    motion: tuple[float, float] = (0.0, 0.0),
    light: float = 1.0,
) -> NDArray[np.float64]:
    """Draw ``sprite`` into ``frame`` in place and return its outline in frame pixels, float64 (K, 2).

    ``owners`` uint8 (H, W) keeps which object is seen at each pixel; 0 is nobody. Under motion blur
    the outline stays that of the middle of the exposure.
    """
    height, width = frame.shape[:2]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    picture, factor = sprite.level(scale)
    kernel = line_kernel(motion)
    margin = 1 if kernel is None else kernel.shape[0] // 2 + 1
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (sprite.rgba.shape[1], sprite.rgba.shape[0])
    placed = corners @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = np.floor(placed.min(0)).astype(int) - margin
    x1, y1 = np.ceil(placed.max(0)).astype(int) + margin
    outline = sprite.hull.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if cx0 >= cx1 or cy0 >= cy1:
        return outline
    # the blur needs pixels beyond the frame's edge, so warp with a margin and cut it off afterwards
    wx0, wy0, wx1, wy1 = max(x0, -margin), max(y0, -margin), min(x1, width + margin), min(y1, height + margin)
    local = matrix.copy()
    local[:, :2] /= factor
    local[:, 2] += 0.5 * (local[:, 0] + local[:, 1]) - 0.5 - (wx0, wy0)  # pixel centres lie at +0.5
    layer = cv2.warpAffine(picture, local, (wx1 - wx0, wy1 - wy0), flags=cv2.INTER_LINEAR)
    if kernel is not None:
        layer = cv2.filter2D(layer, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    layer = layer[cy0 - wy0 : cy1 - wy0, cx0 - wx0 : cx1 - wx0]
    region = frame[cy0:cy1, cx0:cx1]
    alpha = layer[..., 3]
    rest = cv2.multiply(region, cv2.merge([255 - alpha] * 3), scale=1 / 255)
    colours = layer[..., :3]
    if light != 1.0:
        colours = cv2.convertScaleAbs(colours, alpha=light)
    region[:] = cv2.add(rest, np.ascontiguousarray(colours))
    seen = owners[cy0:cy1, cx0:cx1]
    seen[alpha > 127] = 0
    if owner and len(outline):
        inside = np.zeros_like(seen)
        fixed = np.round((outline - (cx0 + 0.5, cy0 + 0.5)) * 16).astype(np.int32)
        cv2.fillConvexPoly(inside, fixed, 1, cv2.LINE_8, 4)
        seen[(inside > 0)] = owner
    return outline
