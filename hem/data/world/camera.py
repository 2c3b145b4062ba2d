"""What a camera does to a scene: exposure, colour, focus and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.texture import Image, Plane, Rng

_TILES = 6


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera's character.

    Attributes:
        gain: float32 (3,), brightness of each colour.
        gamma: exponent on 0..1 brightness; above 1 is darker.
        haze: 0..1, share of flat grey mixed in.
        focus_px: standard deviation of the lens blur in pixels; 0 is sharp.
        noise: standard deviation of the sensor noise in grey levels of 255.
        vignette: float32 (H, W), brightness over the picture.
        tiles: int16 (T, 1.5 H, 1.5 W, 3), noise to cut frames from.
    """

    gain: NDArray[np.float32]
    gamma: float
    haze: float
    focus_px: float
    noise: float
    vignette: Plane
    tiles: NDArray[np.int16]


def _vignette(side: int, strength: float) -> Plane:
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return 1 - strength * (line[None, :] ** 2 + line[:, None] ** 2) / 2


def _tiles(rng: Rng, side: int, noise: float, count: int) -> NDArray[np.int16]:
    size = side + side // 2
    grey = rng.standard_normal((count, size, size, 1), dtype=np.float32)
    chroma = rng.standard_normal((count, size // 2, size // 2, 3), dtype=np.float32)
    spread = np.stack([cv2.resize(tile, (size, size), interpolation=cv2.INTER_LINEAR) for tile in chroma])
    return np.round((grey + 0.7 * spread) * noise).astype(np.int16)


def photo_camera(rng: Rng, side: int) -> Camera:
    """A good camera in good light, as for pictures put on the web."""
    noise = rng.uniform(0.0, 4.0)
    return Camera(
        gain=(rng.uniform(0.92, 1.15) * rng.uniform(0.95, 1.05, 3)).astype(np.float32),
        gamma=rng.uniform(0.85, 1.12),
        haze=0.0,
        focus_px=float(rng.choice([0.0, 0.5], p=[0.7, 0.3])),
        noise=noise,
        vignette=_vignette(side, rng.uniform(0.0, 0.2)),
        tiles=_tiles(rng, side, noise, 1),
    )


def video_camera(rng: Rng, side: int) -> Camera:
    """A cheap camera in poor light: darker, greyer, softer, noisier."""
    noise = rng.uniform(2.5, 6.5)
    return Camera(
        gain=(rng.uniform(0.75, 1.05) * rng.uniform(0.94, 1.06, 3)).astype(np.float32),
        gamma=rng.uniform(0.92, 1.1),
        haze=rng.uniform(0.0, 0.1),
        focus_px=rng.uniform(0.2, 0.55),
        noise=noise,
        vignette=_vignette(side, rng.uniform(0.1, 0.35)),
        tiles=_tiles(rng, side, noise, _TILES),
    )


def expose(
    camera: Camera,
    rng: Rng,
    scene: Image,
    exposure: float = 1.0,
    light: Plane | None = None,
    defocus_px: float = 0.0,
) -> Image:
    """Return what the camera records of ``scene`` uint8 (H, W, 3); ``light`` (H, W) multiplies it."""
    blur = float(np.hypot(camera.focus_px, defocus_px))
    if blur > 0.3:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    levels = np.arange(256, dtype=np.float64) / 255
    curve = np.clip(levels[:, None] * exposure * camera.gain, 0, 1) ** camera.gamma
    curve = (1 - camera.haze) * curve + camera.haze * 0.45
    table = np.round(curve * 255).astype(np.uint8)[None]
    picture = cv2.LUT(scene, table)
    shade = camera.vignette if light is None else camera.vignette * light
    height, width = scene.shape[:2]
    tile = camera.tiles[int(rng.integers(len(camera.tiles)))]
    y, x = (int(v) for v in rng.integers(0, height // 2, 2))
    # added by OpenCV: its saturating 16-bit sum is several times faster than numpy's clip
    lit = cv2.multiply(picture, cv2.merge([shade] * 3), dtype=cv2.CV_16S)
    noisy = cv2.add(lit, np.ascontiguousarray(tile[y : y + height, x : x + width]))
    return np.clip(noisy, 0, 255).astype(np.uint8)
