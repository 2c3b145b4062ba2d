"""Paths through time: how a camera is held and how things move."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.data.world.texture import Rng

Path1 = NDArray[np.float64]
SHUTTER = 0.5
"""Share of the frame interval during which light is gathered; decides the length of motion blur."""


def wander(rng: Rng, n_frames: int, amplitude: float, period: tuple[float, float]) -> Path1:
    """Return a smooth path (F,) of about ``amplitude``: three sines with periods in frames."""
    time = np.arange(n_frames, dtype=np.float64)
    total = np.zeros(n_frames)
    for share in (0.6, 0.3, 0.1):
        turn = 2 * np.pi / rng.uniform(*period)
        total += share * np.sin(turn * time + rng.uniform(0, 2 * np.pi))
    return amplitude * total


def bursts(rng: Rng, n_frames: int, every: float, length: tuple[int, int]) -> Path1:
    """Return (F,) strengths in 0..1 that are 0 but for short events, one in ``every`` frames on average."""
    total = np.zeros(n_frames)
    for start in np.flatnonzero(rng.random(n_frames) < 1 / every):
        count = int(rng.integers(length[0], length[1] + 1))
        total[start : start + count] = np.maximum(total[start : start + count], rng.uniform(0.4, 1.0))
    return total


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Where the camera looks in every frame.

    Attributes:
        x, y: (F,) scene pixel in the middle of the picture.
        zoom: (F,) picture pixels for one scene pixel.
        roll: (F,) radians.
    """

    x: Path1
    y: Path1
    zoom: Path1
    roll: Path1

    def matrix(self, frame: int, side: int, parallax: float = 1.0) -> NDArray[np.float64]:
        """Return the 2x3 map from scene to picture; things nearer than the scene have parallax > 1."""
        middle = np.array([self.x.mean(), self.y.mean()])
        centre = middle + parallax * (np.array([self.x[frame], self.y[frame]]) - middle)
        cos, sin = np.cos(self.roll[frame]) * self.zoom[frame], np.sin(self.roll[frame]) * self.zoom[frame]
        linear = np.array([[cos, -sin], [sin, cos]])
        return np.concatenate([linear, (side / 2 - linear @ centre)[:, None]], axis=1)


def camera_path(rng: Rng, n_frames: int, side: int, scene_side: int) -> CameraPath:
    """Draw a camera: on a tripod, panning, or in a hand, with knocks that last one to three frames."""
    held = float(rng.choice([0.0, 0.6, 1.6], p=[0.25, 0.4, 0.35])) * side / 192
    pan = float(rng.choice([0.0, 0.12, 0.3], p=[0.35, 0.4, 0.25])) * side
    room = (scene_side - side) / 2 * 0.55
    knock = bursts(rng, n_frames, 38.0, (1, 3)) * side * rng.uniform(0.02, 0.07)
    sway = []
    for _ in range(2):
        smooth = wander(rng, n_frames, min(pan, room), (50, 140)) + wander(rng, n_frames, 2.2 * held, (7, 16))
        sway.append(
            smooth + held * rng.standard_normal(n_frames) * 0.5 + knock * rng.uniform(-1, 1, n_frames)
        )
    zoom = np.exp(wander(rng, n_frames, rng.uniform(0.0, 0.16), (60, 160)))
    middle = scene_side / 2
    return CameraPath(
        np.clip(middle + sway[0], middle - room, middle + room),
        np.clip(middle + sway[1] * 0.6, middle - room, middle + room),
        np.maximum(zoom, 0.85),
        wander(rng, n_frames, 0.012 * held, (10, 30))
        + wander(rng, n_frames, rng.uniform(0, 0.04), (60, 120)),
    )
