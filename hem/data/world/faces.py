"""Procedural heads with shoulders: shaded, posed, and with parts that can be left out."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.data.world.sprite import Sprite, make_sprite
from hem.data.world.texture import Plane, Rng, colour, fractal

_SIDE = 112
_EXTENT = 1.75  # canvas runs from -extent to extent; the head is about 1.9 high

PARTS = frozenset({"eyes", "brows", "nose", "mouth", "hair", "ears"})
"""What a whole face has."""

Rgb = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FaceLook:
    """One person's looks; colours are float32 (3,) in 0..255, lengths in half head heights."""

    half_width: float
    jaw: float
    skin: Rgb
    hair: Rgb
    iris: Rgb
    lips: Rgb
    cloth: Rgb
    hairline: float
    side_hair: float
    fringe: float
    eye_gap: float
    eye_size: float
    eye_height: float
    brow_tilt: float
    brow_weight: float
    nose_length: float
    mouth_width: float
    mouth_height: float
    smile: float
    beard: float
    glasses: float
    hat: float
    torso: bool
    speckle: Plane
    parts: frozenset[str] = PARTS

    def without(self, parts: frozenset[str]) -> "FaceLook":
        """Return the same looks with ``parts`` left out."""
        return replace(self, parts=self.parts - parts)


@dataclass(frozen=True)
class FacePose:
    """Head turn in radians, nod, mouth opening and eye opening in 0..1, and where the light comes from."""

    yaw: float = 0.0
    pitch: float = 0.0
    mouth: float = 0.0
    eyes: float = 1.0
    light: float = 0.0
    ambient: float = 0.5


def _rgb(value: tuple[int, int, int]) -> Rgb:
    return np.array(value, dtype=np.float32)


def random_face(rng: Rng) -> FaceLook:
    """Draw one person's looks."""
    tone = rng.random()
    skin = _rgb((235, 196, 170)) * (1 - tone) + _rgb((92, 58, 40)) * tone
    skin = skin * rng.uniform(0.88, 1.08, 3).astype(np.float32)
    grey = rng.random() < 0.2
    hair = colour(rng, (5, 24), (5, 40) if grey else (60, 200), (110, 220) if grey else (15, 190))
    return FaceLook(
        half_width=rng.uniform(0.62, 0.8),
        jaw=rng.uniform(0.05, 0.32),
        skin=skin.astype(np.float32),
        hair=_rgb(hair),
        iris=_rgb(colour(rng, (5, 120), (40, 160), (20, 110))),
        lips=skin.astype(np.float32) * _rgb((95, 62, 62)) / 100,
        cloth=_rgb(colour(rng)),
        hairline=rng.uniform(-0.82, -0.42),
        side_hair=float(rng.choice([0.0, 0.25, 0.9, 1.4])),
        fringe=rng.uniform(0.0, 0.2),
        eye_gap=rng.uniform(0.36, 0.48),
        eye_size=rng.uniform(0.13, 0.2),
        eye_height=rng.uniform(-0.22, -0.05),
        brow_tilt=rng.uniform(-0.3, 0.3),
        brow_weight=rng.uniform(0.03, 0.075),
        nose_length=rng.uniform(0.22, 0.36),
        mouth_width=rng.uniform(0.22, 0.38),
        mouth_height=rng.uniform(0.46, 0.6),
        smile=rng.uniform(-0.1, 0.25),
        beard=float(rng.random() < 0.22) * rng.uniform(0.4, 0.95),
        glasses=float(rng.random() < 0.22),
        hat=float(rng.random() < 0.15),
        torso=bool(rng.random() < 0.75),
        speckle=fractal(rng, _SIDE, _SIDE, 10, 4) - 0.5,
    )


Window = tuple[slice, slice]


class _Canvas:
    """Colour planes with soft shapes laid over one another; coordinates in half head heights."""

    def __init__(self) -> None:
        line = ((np.arange(_SIDE, dtype=np.float32) + 0.5) / _SIDE * 2 - 1) * _EXTENT
        self.u, self.v = line[None, :], line[:, None]
        self.rgb = np.zeros((_SIDE, _SIDE, 3), dtype=np.float32)
        self.alpha = np.zeros((_SIDE, _SIDE), dtype=np.float32)
        self.head = np.zeros((_SIDE, _SIDE), dtype=np.float32)
        self.sharp = np.float32(_SIDE / (2 * _EXTENT))  # pixels for one unit: edges are one pixel soft

    def edge(self, inside: Plane) -> Plane:
        """Turn a signed distance in units (positive inside) into coverage in 0..1."""
        return np.clip(inside * self.sharp + np.float32(0.5), 0.0, 1.0)

    def oval(self, x: float, y: float, a: float, b: float, tilt: float = 0.0) -> tuple[Window, Plane]:
        """Return the window that holds an ellipse with half axes ``a``, ``b``, and its coverage there."""
        a, b = max(a, 0.012), max(b, 0.012)
        reach = (max(a, b) if tilt else a) + 0.04, (max(a, b) if tilt else b) + 0.04
        first = [int((c - r + _EXTENT) * self.sharp) for c, r in zip((x, y), reach, strict=True)]
        last = [int((c + r + _EXTENT) * self.sharp) + 2 for c, r in zip((x, y), reach, strict=True)]
        window = (slice(max(first[1], 0), max(last[1], 0)), slice(max(first[0], 0), max(last[0], 0)))
        du, dv = self.u[:, window[1]] - np.float32(x), self.v[window[0]] - np.float32(y)
        if tilt:
            cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
            du, dv = du * cos + dv * sin, dv * cos - du * sin
        radius = np.sqrt((du / np.float32(a)) ** 2 + (dv / np.float32(b)) ** 2)
        return window, self.edge((1 - radius) * np.float32(min(a, b)))

    def on_head(self, x: float, y: float, a: float, b: float, tilt: float = 0.0) -> tuple[Window, Plane]:
        """Return the same ellipse where it lies on the head."""
        window, cover = self.oval(x, y, a, b, tilt)
        return window, cover * self.head[window]

    def everywhere(self, cover: Plane) -> tuple[Window, Plane]:
        """Return coverage of the whole canvas in the form of ``oval``."""
        return (slice(0, _SIDE), slice(0, _SIDE)), cover

    def blend(self, where: tuple[Window, Plane], value: Rgb | Plane, strength: float = 1.0) -> None:
        """Lay a colour (3,) or a picture of the window's size over what is there."""
        window, cover = where
        self.rgb[window] += (value - self.rgb[window]) * (cover * np.float32(strength))[..., None]

    def darken(self, where: tuple[Window, Plane], factor: float) -> None:
        """Multiply brightness by ``factor`` where covered."""
        window, cover = where
        self.rgb[window] *= (1 - np.float32(1 - factor) * cover)[..., None]

    def solid(self, where: tuple[Window, Plane]) -> None:
        """Make opaque where covered."""
        window, cover = where
        self.alpha[window] = np.maximum(self.alpha[window], cover)


def render_face(look: FaceLook, pose: FacePose) -> Sprite:
    """Draw a head (and shoulders); the sprite's object is the head with its hair and hat.

    A look with parts left out gives a sprite all the same: the caller decides whether it is true.
    """
    canvas = _Canvas()
    if look.torso:
        _torso(canvas, look)
    _head(canvas, look, pose)
    if look.beard and "mouth" in look.parts:
        area = canvas.edge(canvas.v - 0.28 - 0.28 * pose.pitch + 0.35 * np.abs(canvas.u)) * canvas.head
        canvas.blend(canvas.everywhere(area * (0.75 + 0.5 * look.speckle)), look.hair * 0.9, look.beard)
    for side in (-1, 1):
        _eye(canvas, look, pose, side)
    if "nose" in look.parts:
        _nose(canvas, look, pose)
    if "mouth" in look.parts:
        _mouth(canvas, look, pose)
    mask = canvas.head.copy()
    if "hair" in look.parts:
        _hair(canvas, look, pose, mask)
        if look.hat:
            _hat(canvas, look, pose, mask)
    canvas.rgb *= _shading(canvas, look, pose)[..., None]
    return make_sprite(canvas.rgb, canvas.alpha, mask)


def _turned(look: FaceLook, pose: FacePose, place: float) -> tuple[float, float]:
    """Return x on the picture and foreshortening 0..1 of a point at ``place`` (-1..1) across the face."""
    angle = pose.yaw + float(np.arcsin(place))
    return look.half_width * float(np.sin(angle)), max(0.0, float(np.cos(angle)))


def _torso(canvas: _Canvas, look: FaceLook) -> None:
    neck = canvas.edge(0.3 - np.abs(canvas.u)) * canvas.edge(canvas.v - 0.5) * canvas.edge(1.25 - canvas.v)
    drop = 1.05 + 0.28 * np.abs(canvas.u) ** 2
    body = canvas.edge(canvas.v - drop) * canvas.edge(1.42 - np.abs(canvas.u))
    canvas.blend(canvas.everywhere(neck), look.skin * 0.75)
    canvas.blend(canvas.everywhere(body), look.cloth * (1 + 0.8 * look.speckle)[..., None])
    canvas.alpha = np.maximum(neck, body)


def _head(canvas: _Canvas, look: FaceLook, pose: FacePose) -> None:
    if "ears" in look.parts:
        for side in (-1, 1):
            ear = canvas.oval(side * look.half_width * float(np.cos(pose.yaw * 0.7)), 0.0, 0.11, 0.2)
            canvas.blend(ear, look.skin * 0.82)
            canvas.solid(ear)
    narrowing = look.half_width * (1 - look.jaw * np.clip(canvas.v, 0, 1) ** 2)
    radius = np.sqrt((canvas.u / narrowing) ** 2 + (canvas.v / 0.95) ** 2)
    canvas.head = canvas.edge((1 - radius) * look.half_width)
    depth = np.sqrt(np.clip(1 - radius**2, 0.0, 1.0))
    whole = canvas.everywhere(canvas.head)
    canvas.blend(whole, look.skin * (0.72 + 0.3 * depth + 0.12 * look.speckle)[..., None])
    canvas.solid(whole)


def _eye(canvas: _Canvas, look: FaceLook, pose: FacePose, side: int) -> None:
    x, depth = _turned(look, pose, side * look.eye_gap)
    y = look.eye_height + 0.28 * pose.pitch
    if depth < 0.12:
        return
    wide, dark = look.eye_size * depth, _rgb((22, 16, 16))
    if "brows" in look.parts:
        brow = canvas.on_head(x, y - 0.2, wide * 1.35, look.brow_weight, side * look.brow_tilt)
        canvas.blend(brow, look.hair * 0.6, 0.9)
    if "eyes" not in look.parts:
        return
    canvas.darken(canvas.on_head(x, y - 0.02, wide * 1.7, look.eye_size * 1.1), 0.84)
    tall = look.eye_size * 0.55 * max(0.12, pose.eyes)
    canvas.blend(canvas.on_head(x, y, wide, tall), _rgb((236, 232, 226)))
    gaze = x + 0.04 * float(np.sin(pose.yaw))
    canvas.blend(canvas.on_head(gaze, y, wide * 0.5, min(tall, look.eye_size * 0.5)), look.iris)
    canvas.blend(canvas.on_head(gaze, y, wide * 0.24, min(tall, look.eye_size * 0.24)), dark)
    canvas.blend(canvas.on_head(x, y - tall * 0.9, wide * 1.05, 0.028), dark, 0.8)
    if look.glasses:
        window, rim = canvas.on_head(x, y, wide * 1.55, 0.21)
        du, dv = (canvas.u[:, window[1]] - x) / (wide * 1.28), (canvas.v[window[0]] - y) / 0.17
        lens = canvas.edge((1 - np.sqrt(du**2 + dv**2)) * 0.17)
        canvas.blend((window, rim * (1 - lens)), dark)


def _nose(canvas: _Canvas, look: FaceLook, pose: FacePose) -> None:
    top = look.eye_height + 0.28 * pose.pitch
    tip = top + look.nose_length + 0.1
    x, middle = _turned(look, pose, 0.0)[0] + 0.16 * float(np.sin(pose.yaw)), (top + tip) / 2
    shaded = 0.09 if pose.light < 0 else -0.09
    canvas.darken(canvas.on_head(x - shaded, middle + 0.05, 0.09, (tip - top) * 0.55), 0.8)
    canvas.blend(canvas.on_head(x, middle, 0.05, (tip - top) * 0.5), np.minimum(look.skin * 1.22, 255), 0.45)
    for offset in (-0.07, 0.07):
        canvas.darken(canvas.on_head(x + offset, tip, 0.045, 0.03), 0.35)


def _mouth(canvas: _Canvas, look: FaceLook, pose: FacePose) -> None:
    x, depth = _turned(look, pose, 0.0)
    y, wide = look.mouth_height + 0.28 * pose.pitch, look.mouth_width * max(0.25, depth)
    window, _ = canvas.oval(x, y, wide + 0.05, 0.35)
    across = (canvas.u[:, window[1]] - x) / wide
    line = canvas.v[window[0]] - y + 0.35 * look.smile * across**2
    for value, reach, tall in (
        (look.lips, 1.0, 0.055 + 0.13 * pose.mouth),
        (_rgb((48, 18, 20)), 0.9, 0.012 + 0.1 * pose.mouth),
    ):
        radius = np.sqrt((across / reach) ** 2 + (line / tall) ** 2)
        canvas.blend((window, canvas.edge((1 - radius) * tall) * canvas.head[window]), value)


def _hair(canvas: _Canvas, look: FaceLook, pose: FacePose, mask: Plane) -> None:
    shift = _turned(look, pose, 0.0)[0]
    radius = np.sqrt((canvas.u / (look.half_width * 1.1)) ** 2 + ((canvas.v + 0.04) / 1.02) ** 2)
    cap = canvas.edge((1 - radius) * look.half_width)
    across = canvas.u - shift
    line = look.hairline + 0.28 * pose.pitch + look.fringe * np.sin(7 * across) + 0.75 * across**2
    top = cap * canvas.edge(line - canvas.v)
    strands = 0.8 + 0.9 * np.roll(look.speckle, 9, axis=1) * (0.6 + 0.4 * np.sin(30 * canvas.u))
    tone = look.hair * strands[..., None]
    canvas.blend(canvas.everywhere(top), tone)
    canvas.solid(canvas.everywhere(top))
    np.maximum(mask, top, out=mask)
    if look.side_hair:
        fall = canvas.edge(np.abs(canvas.u - shift * 0.4) - look.half_width * 0.86)
        fall = fall * canvas.edge(look.half_width * 1.2 - np.abs(canvas.u))
        fall = fall * canvas.edge(look.side_hair - 0.5 - canvas.v) * canvas.edge(canvas.v + 0.75)
        canvas.blend(canvas.everywhere(fall), tone, 0.95)
        canvas.solid(canvas.everywhere(fall))


def _hat(canvas: _Canvas, look: FaceLook, pose: FacePose, mask: Plane) -> None:
    rim = -0.55 + 0.28 * pose.pitch
    crown = canvas.edge(look.half_width * 1.08 - np.abs(canvas.u)) * canvas.edge(rim - canvas.v)
    hat = crown = crown * canvas.edge(canvas.v + 1.12)
    window, brim = canvas.oval(_turned(look, pose, 0.0)[0] * 0.5, rim, look.half_width * 1.35, 0.09)
    hat = hat.copy()
    hat[window] = np.maximum(hat[window], brim)
    canvas.blend(canvas.everywhere(hat), look.cloth * (0.9 + 0.4 * look.speckle)[..., None])
    canvas.solid(canvas.everywhere(hat))
    np.maximum(mask, crown, out=mask)


def _shading(canvas: _Canvas, look: FaceLook, pose: FacePose) -> Plane:
    side = np.clip(canvas.u / look.half_width, -1.2, 1.2) * np.float32(np.sin(pose.light))
    above = np.clip(-canvas.v, -1.2, 1.2) * np.float32(np.cos(pose.light))
    return np.clip(pose.ambient + (1 - pose.ambient) * (0.75 + 0.55 * side + 0.35 * above), 0.12, 1.3)
