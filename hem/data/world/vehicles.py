"""Procedural cars seen from the side or the front, and parts of them."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.sprite import Sprite, make_sprite
from hem.data.world.texture import Plane, Rng, colour, fill, fractal, oval, scaled

_WIDTH, _HEIGHT, _SCALE = 160, 112, 2  # drawn at twice the size, then averaged
_MARGIN = 12

PARTS = frozenset({"body", "windows", "wheels", "lights", "trim"})
"""What a whole car has."""


@dataclass(frozen=True, eq=False)
class CarLook:
    """One car's looks. Lengths are shares of its length; colours RGB in 0..255."""

    kind: str
    front_view: bool
    paint: tuple[int, int, int]
    glass: tuple[int, int, int]
    rim: tuple[int, int, int]
    height: float
    bonnet: float
    boot: float
    belt: float
    wheel: float
    front_axle: float
    rear_axle: float
    spokes: int
    reflection: Plane
    lamps_on: bool
    parts: frozenset[str] = PARTS

    def without(self, parts: frozenset[str]) -> "CarLook":
        """Return the same looks with ``parts`` left out."""
        return replace(self, parts=self.parts - parts)


@dataclass(frozen=True)
class CarPose:
    """Wheel angle in radians, ambient light in 0..1 and the light's height as a sign."""

    wheel_angle: float = 0.0
    ambient: float = 0.6
    light: float = 0.0


def random_car(rng: Rng) -> CarLook:
    """Draw one car's looks."""
    kind = str(rng.choice(["sedan", "hatch", "van", "pickup", "bus"], p=[0.38, 0.3, 0.16, 0.08, 0.08]))
    tall = {"sedan": 0.34, "hatch": 0.38, "van": 0.46, "pickup": 0.4, "bus": 0.5}[kind]
    vivid = rng.random() < 0.65
    return CarLook(
        kind=kind,
        front_view=bool(rng.random() < 0.2),
        paint=colour(rng, saturation=(110, 240) if vivid else (0, 40), value=(70, 240)),
        glass=colour(rng, (90, 125), (10, 90), (25, 120)),
        rim=colour(rng, saturation=(0, 25), value=(90, 220)),
        height=tall * rng.uniform(0.92, 1.1),
        bonnet=rng.uniform(0.18, 0.3) if kind in ("sedan", "hatch", "pickup") else rng.uniform(0.02, 0.1),
        boot=rng.uniform(0.12, 0.22) if kind == "sedan" else rng.uniform(0.01, 0.05),
        belt=rng.uniform(0.52, 0.6),
        wheel=rng.uniform(0.075, 0.1),
        front_axle=rng.uniform(0.15, 0.21),
        rear_axle=rng.uniform(0.77, 0.85),
        spokes=int(rng.integers(4, 9)),
        reflection=fractal(rng, _HEIGHT, _WIDTH, 5, 3),
        lamps_on=bool(rng.random() < 0.3),
    )


class _Draw:
    """A canvas in car lengths: x to the right from the nose, y upwards from the ground."""

    def __init__(self, length_px: float) -> None:
        shape = (_HEIGHT * _SCALE, _WIDTH * _SCALE)
        self.rgb = np.zeros((*shape, 3), dtype=np.uint8)
        self.mask = np.zeros(shape, dtype=np.uint8)
        self.unit = length_px * _SCALE
        self.x0 = (shape[1] - self.unit) / 2
        self.y0 = shape[0] - _MARGIN * _SCALE

    def at(self, points: NDArray) -> NDArray:
        """Return canvas pixels of points in car lengths."""
        return np.stack([self.x0 + points[:, 0] * self.unit, self.y0 - points[:, 1] * self.unit], 1)

    def shape(
        self, points: list[tuple[float, float]], value: tuple[int, int, int], solid: bool = False
    ) -> None:
        """Fill a polygon; ``solid`` also makes it part of the car's outline."""
        placed = self.at(np.array(points))
        fill(self.rgb, placed, value)
        if solid:
            fill(self.mask, placed, 255)

    def disc(
        self, x: float, y: float, a: float, b: float, value: tuple[int, int, int], solid: bool = False
    ) -> None:
        """Fill an ellipse with half axes ``a``, ``b``."""
        centre = self.at(np.array([[x, y]]))[0]
        half = (a * self.unit, b * self.unit)
        oval(self.rgb, (centre[0], centre[1]), half, value)
        if solid:
            oval(self.mask, (centre[0], centre[1]), half, 255)


def rounded(points: list[tuple[float, float]], rounds: int = 2) -> list[tuple[float, float]]:
    """Cut a polygon's corners so that it looks pressed, not folded."""
    ring = np.array(points)
    for _ in range(rounds):
        following = np.roll(ring, -1, axis=0)
        ring = np.stack([0.8 * ring + 0.2 * following, 0.2 * ring + 0.8 * following], 1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in ring]


def render_car(look: CarLook, pose: CarPose) -> Sprite:
    """Draw a car; its object is body and wheels, without the shadow on the ground."""
    draw = _Draw(128.0 if not look.front_view else 76.0)
    if look.front_view:
        _front(draw, look)
    else:
        _side(draw, look, pose)
    return _finish(draw, look, pose)


def _wheel(draw: _Draw, look: CarLook, x: float, angle: float) -> None:
    radius = look.wheel
    draw.disc(x, radius, radius, radius, (22, 22, 24), solid=True)
    draw.disc(x, radius, radius * 0.66, radius * 0.66, look.rim)
    centre = draw.at(np.array([[x, radius]]))[0]
    for spoke in range(look.spokes):
        turn = angle + 2 * np.pi * spoke / look.spokes
        end = centre + np.array([np.cos(turn), np.sin(turn)]) * radius * 0.62 * draw.unit
        cv2.line(
            draw.rgb,
            centre.astype(np.int32).tolist(),
            end.astype(np.int32).tolist(),
            (60, 60, 62),
            3,
            cv2.LINE_AA,
        )
    draw.disc(x, radius, radius * 0.16, radius * 0.16, (40, 40, 42))


def _cabin(look: CarLook) -> list[tuple[float, float]]:
    top, belt = look.height, look.height * look.belt
    if look.kind == "bus":
        return [(0.01, belt), (0.02, top), (0.99, top), (0.995, belt)]
    if look.kind == "van":
        return [(look.bonnet, belt), (look.bonnet + 0.14, top), (0.98, top), (0.995, belt)]
    if look.kind == "pickup":
        return [(look.bonnet, belt), (look.bonnet + 0.1, top), (0.54, top), (0.58, belt)]
    slope = 0.13 if look.kind == "sedan" else 0.08
    return [
        (look.bonnet, belt),
        (look.bonnet + 0.15, top),
        (1 - look.boot - slope, top),
        (1 - look.boot, belt),
    ]


def _side(draw: _Draw, look: CarLook, pose: CarPose) -> None:
    ground, belt, top = look.wheel * 0.75, look.height * look.belt, look.height
    cabin = _cabin(look)
    if "body" in look.parts:
        nose = belt * 0.9
        hull = [
            (0.0, ground),
            (0.0, nose * 0.8),
            (0.03, nose),
            (look.bonnet, belt),
            (0.995, belt),
            (1.0, ground),
        ]
        draw.shape(rounded(hull), look.paint, solid=True)
        draw.shape(rounded(cabin, 1), look.paint, solid=True)
        if "trim" in look.parts:
            sill = ground + 0.02
            draw.shape([(0.0, ground), (0.0, sill), (1.0, sill), (1.0, ground)], scaled(look.paint, 0.45))
    if "windows" in look.parts:
        _side_windows(draw, look, cabin, belt, top)
    if "lights" in look.parts:
        lamp = (255, 250, 215) if look.lamps_on else (205, 205, 195)
        draw.disc(0.025, belt * 0.74, 0.022, 0.025, lamp)
        draw.disc(0.985, belt * 0.78, 0.014, 0.035, (200, 30, 25))
    if "trim" in look.parts and "body" in look.parts:
        for x in (0.42, 0.62):
            line = draw.at(np.array([[x, ground + 0.03], [x, belt]])).astype(np.int32)
            cv2.line(draw.rgb, line[0].tolist(), line[1].tolist(), scaled(look.paint, 0.6), 2, cv2.LINE_AA)
        draw.shape(
            [(0.55, belt * 0.82), (0.6, belt * 0.82), (0.6, belt * 0.86), (0.55, belt * 0.86)],
            scaled(look.paint, 0.5),
        )
    if "wheels" in look.parts:
        for x in (look.front_axle, look.rear_axle):
            if "body" in look.parts:
                draw.disc(x, look.wheel, look.wheel * 1.2, look.wheel * 1.2, (18, 18, 20))
            _wheel(draw, look, x, pose.wheel_angle)


def _side_windows(
    draw: _Draw, look: CarLook, cabin: list[tuple[float, float]], belt: float, top: float
) -> None:
    ring = np.array(cabin)
    inner_top, inner_belt = top - 0.022, belt + 0.012
    span = [float(ring[0, 0]) + 0.03, float(ring[3, 0]) - 0.03]
    roof = [float(ring[1, 0]) + 0.012, float(ring[2, 0]) - 0.012]
    if look.kind == "van":
        span[1] = roof[1] = 0.5
    panes = {"bus": 6, "van": 2, "pickup": 1}.get(look.kind, 2)
    for pane in range(panes):
        left, right = pane / panes, (pane + 1) / panes
        gap = 0.008
        corners = [
            (span[0] + (span[1] - span[0]) * left + gap, inner_belt),
            (roof[0] + (roof[1] - roof[0]) * left + gap, inner_top),
            (roof[0] + (roof[1] - roof[0]) * right - gap, inner_top),
            (span[0] + (span[1] - span[0]) * right - gap, inner_belt),
        ]
        draw.shape(corners, look.glass)
        shine = [corners[1], ((corners[1][0] + corners[2][0]) / 2, inner_top), corners[0]]
        draw.shape(shine, scaled(look.glass, 1.45))


def _front(draw: _Draw, look: CarLook) -> None:
    tall = {"sedan": 0.74, "hatch": 0.82, "van": 1.05, "pickup": 0.95, "bus": 1.15}[look.kind] * 0.92
    belt, ground = tall * 0.56, 0.12
    if "wheels" in look.parts:
        for x in (0.06, 0.78):
            draw.shape(
                rounded([(x, 0.0), (x, 0.3), (x + 0.16, 0.3), (x + 0.16, 0.0)], 1), (24, 24, 26), solid=True
            )
    if "body" in look.parts:
        draw.shape(rounded([(0.0, ground), (0.0, belt), (1.0, belt), (1.0, ground)]), look.paint, solid=True)
        draw.shape(
            rounded([(0.05, belt * 0.9), (0.17, tall), (0.83, tall), (0.95, belt * 0.9)]),
            look.paint,
            solid=True,
        )
        for x in (-0.05, 0.97):
            draw.shape(
                [(x, belt), (x, belt + 0.08), (x + 0.08, belt + 0.08), (x + 0.08, belt)],
                scaled(look.paint, 0.7),
                True,
            )
    if "windows" in look.parts:
        draw.shape([(0.14, belt), (0.22, tall - 0.05), (0.78, tall - 0.05), (0.86, belt)], look.glass)
        draw.shape([(0.22, tall - 0.05), (0.45, tall - 0.05), (0.3, belt)], scaled(look.glass, 1.4))
    if "trim" in look.parts:
        draw.shape(
            [(0.3, ground + 0.16), (0.3, belt * 0.72), (0.7, belt * 0.72), (0.7, ground + 0.16)], (28, 28, 30)
        )
        draw.shape(
            [(0.38, ground + 0.04), (0.38, ground + 0.13), (0.62, ground + 0.13), (0.62, ground + 0.04)],
            (225, 225, 215),
        )
        draw.shape(
            [(0.0, ground), (0.0, ground + 0.035), (1.0, ground + 0.035), (1.0, ground)],
            scaled(look.paint, 0.4),
        )
    if "lights" in look.parts:
        lamp = (255, 252, 225) if look.lamps_on else (200, 205, 205)
        for x in (0.14, 0.86):
            draw.disc(x, belt * 0.7, 0.1, 0.075, scaled(lamp, 0.55))
            draw.disc(x, belt * 0.7, 0.075, 0.055, lamp)


def _finish(draw: _Draw, look: CarLook, pose: CarPose) -> Sprite:
    size = (_WIDTH, _HEIGHT)
    up = np.linspace(1.0, 0.0, _HEIGHT, dtype=np.float32)[:, None]
    band = 0.22 * np.exp(-(((up - 0.42 - 0.08 * pose.light) / 0.05) ** 2))
    shade = pose.ambient + (1 - pose.ambient) * (0.45 + 0.9 * up) + band + 0.28 * (look.reflection - 0.5)
    flat = cv2.resize(draw.rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    rgb = flat * np.clip(shade, 0.1, 1.5)[..., None]
    mask = cv2.resize(draw.mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    shadow: Plane = np.zeros((_HEIGHT, _WIDTH), dtype=np.float32)
    oval(shadow, (_WIDTH / 2, _HEIGHT - _MARGIN), (draw.unit / _SCALE * 0.54, 6.0), 0.6)
    alpha = np.maximum(mask, cv2.GaussianBlur(shadow, (0, 0), 2.5))
    rgb = rgb * (mask / np.maximum(alpha, 1e-3))[..., None]
    return make_sprite(np.minimum(rgb, 255), alpha, mask)
