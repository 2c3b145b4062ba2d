"""Noise, colours and backgrounds, drawn from an explicit generator."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's results are typed as any integer or float: dtypes are said in words where it is called
Image = NDArray[Any]  # uint8 (H, W, 3)
Plane = NDArray[np.floating[Any]]  # (H, W)
Rng = np.random.Generator

_SHIFT = 4


def fractal(rng: Rng, height: int, width: int, cells: float = 4.0, octaves: int = 4) -> Plane:
    """Return octave noise, float32 (height, width) in [0, 1]; ``cells`` is blobs across the width."""
    total = np.zeros((height, width), dtype=np.float32)
    weight = 1.0
    norm = 0.0
    for octave in range(octaves):
        across = max(2, round(cells * 2**octave))
        down = max(2, round(across * height / width))
        if across > width:
            break
        grid = rng.random((down, across), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        norm += weight
        weight *= 0.55
    return np.clip(total / max(norm, 1e-6), 0.0, 1.0)


def colour(
    rng: Rng,
    hue: tuple[float, float] = (0, 180),
    saturation: tuple[float, float] = (30, 200),
    value: tuple[float, float] = (60, 230),
) -> tuple[int, int, int]:
    """Return a random RGB colour; hue in OpenCV's 0..180, saturation and value in 0..255."""
    hsv = np.array(
        [[[rng.uniform(*hue) % 180, rng.uniform(*saturation), rng.uniform(*value)]]], dtype=np.float32
    )
    red, green, blue = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def scaled(rgb: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    """Return a colour made darker (< 1) or lighter (> 1)."""
    red, green, blue = (int(min(255.0, max(0.0, part * factor))) for part in rgb)
    return red, green, blue


def fill(canvas: NDArray, points: NDArray, value: Sequence[float] | float) -> None:
    """Fill a polygon given in float pixels, antialiased."""
    fixed = np.round(np.asarray(points, dtype=np.float64) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed.reshape(-1, 1, 2)], value, cv2.LINE_AA, _SHIFT)


def oval(
    canvas: NDArray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    value: Sequence[float] | float,
    angle: float = 0.0,
    thickness: int = -1,
) -> None:
    """Draw an ellipse with float pixel centre and half axes, antialiased."""
    one = 1 << _SHIFT
    where = (round(centre[0] * one), round(centre[1] * one))
    half = (max(1, round(axes[0] * one)), max(1, round(axes[1] * one)))
    cv2.ellipse(canvas, where, half, angle, 0, 360, value, thickness, cv2.LINE_AA, _SHIFT)


def _gradient(height: int, width: int, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image:
    mix = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    rows = (1.0 - mix) * np.array(top, dtype=np.float32) + mix * np.array(bottom, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


def _rectangle(x: float, y: float, width: float, height: float) -> NDArray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def _street(rng: Rng, side: int) -> Image:
    horizon = side * rng.uniform(0.4, 0.62)
    sky = colour(rng, (95, 125), (20, 130), (130, 240))
    canvas = _gradient(side, side, sky, scaled(sky, rng.uniform(0.8, 1.2)))
    x = -side * 0.05
    while x < side:
        width = side * rng.uniform(0.08, 0.25)
        top = horizon - side * rng.uniform(0.08, 0.45)
        wall = colour(rng, (0, 40), (10, 120), (60, 210))
        fill(canvas, _rectangle(x, top, width, side), wall)
        glass = scaled(wall, rng.choice([0.45, 0.6, 1.3]))
        step = side * rng.uniform(0.025, 0.06)
        for wy in np.arange(top + step * 0.5, horizon - step * 0.6, step):
            for wx in np.arange(x + step * 0.4, x + width - step * 0.7, step):
                lit = scaled(glass, rng.uniform(0.7, 1.25))
                fill(canvas, _rectangle(wx, wy, step * 0.5, step * 0.6), lit)
        x += width * rng.uniform(0.9, 1.5)
    road = colour(rng, (0, 180), (0, 30), (60, 130))
    fill(canvas, _rectangle(-1, horizon, side + 2, side), road)
    fill(canvas, _rectangle(-1, horizon, side + 2, side * rng.uniform(0.02, 0.06)), scaled(road, 1.35))
    y = horizon + side * rng.uniform(0.12, 0.3)
    for x0 in np.arange(0, side, side * 0.12):
        fill(canvas, _rectangle(x0, y, side * 0.07, side * 0.012), (215, 215, 200))
    return canvas


def _room(rng: Rng, side: int) -> Image:
    wall = colour(rng, (0, 180), (10, 110), (90, 225))
    canvas = _gradient(side, side, wall, scaled(wall, rng.uniform(0.6, 0.95)))
    if rng.random() < 0.6:
        step = side * rng.uniform(0.02, 0.08)
        stripe = scaled(wall, rng.choice([0.85, 1.12]))
        for x0 in np.arange(0, side, step * 2):
            fill(canvas, _rectangle(x0, 0, step, side), stripe)
    floor = side * rng.uniform(0.6, 0.85)
    wood = colour(rng, (5, 25), (40, 150), (60, 170))
    fill(canvas, _rectangle(-1, floor, side + 2, side), wood)
    for x0 in np.linspace(-side, 2 * side, 24):
        cv2.line(
            canvas, (int(x0), side), (int(side / 2 + (x0 - side / 2) * 0.5), int(floor)), scaled(wood, 0.8)
        )
    for _ in range(int(rng.integers(3, 8))):
        width, height = side * rng.uniform(0.06, 0.3, 2)
        x0, y0 = rng.uniform(-0.05, 0.95) * side, rng.uniform(0.02, 0.55) * side
        frame = colour(rng, saturation=(10, 160), value=(30, 230))
        fill(canvas, _rectangle(x0, y0, width, height), frame)
        inner = colour(rng, saturation=(10, 160), value=(40, 240))
        rim = 0.12 * min(width, height)
        fill(canvas, _rectangle(x0 + rim, y0 + rim, width - 2 * rim, height - 2 * rim), inner)
    return canvas


def _nature(rng: Rng, side: int) -> Image:
    dark = np.array(colour(rng, (20, 85), (50, 190), (25, 90)), dtype=np.float32)
    light = np.array(colour(rng, (20, 95), (30, 160), (120, 235)), dtype=np.float32)
    noise = fractal(rng, side, side, rng.uniform(4, 12), 5)
    noise = np.clip((noise - 0.5) * rng.uniform(1.5, 3.0) + 0.5, 0, 1)[..., None]
    canvas = np.ascontiguousarray((dark * (1 - noise) + light * noise).astype(np.uint8))
    for _ in range(int(rng.integers(2, 9))):
        x0, bend = rng.uniform(0, side), rng.uniform(-0.1, 0.1) * side
        width = side * rng.uniform(0.008, 0.04)
        trunk = colour(rng, (5, 25), (30, 130), (30, 120))
        fill(
            canvas, np.array([[x0, 0], [x0 + width, 0], [x0 + width + bend, side], [x0 + bend, side]]), trunk
        )
    return canvas


def _clutter(rng: Rng, side: int) -> Image:
    canvas = _gradient(side, side, colour(rng), colour(rng))
    for _ in range(int(rng.integers(14, 40))):
        centre = rng.uniform(0, side, 2)
        radius = side * rng.uniform(0.02, 0.16)
        tint = colour(rng, value=(40, 240))
        if rng.random() < 0.3:
            oval(
                canvas,
                (centre[0], centre[1]),
                (radius, radius * rng.uniform(0.4, 1)),
                tint,
                rng.uniform(0, 180),
            )
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            spread = radius * rng.uniform(0.6, 1.4, len(angles))
            ring = np.stack([np.cos(angles), np.sin(angles)], 1) * spread[:, None]
            fill(canvas, centre + ring, tint)
    return canvas


def background(rng: Rng, side: int) -> Image:
    """Return a textured scene without objects, uint8 (side, side, 3)."""
    style = int(rng.integers(4))
    canvas = (_street, _room, _nature, _clutter)[style](rng, side)
    light = 0.72 + 0.56 * fractal(rng, side, side, rng.uniform(1.5, 4), 2)
    grain = 0.86 + 0.28 * fractal(rng, side, side, rng.uniform(16, 40), 3)
    shaded = canvas.astype(np.float32) * (light * grain)[..., None]
    return np.clip(shaded, 0, 255).astype(np.uint8)
