"""Things that share parts with faces and cars and are neither."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.faces import FacePose, random_face, render_face
from hem.data.world.sprite import Sprite, make_sprite
from hem.data.world.texture import Rng, colour, fill, fractal, oval, scaled
from hem.data.world.vehicles import CarPose, random_car, render_car

_SIDE = 96

Layers = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _blank() -> Layers:
    return np.zeros((_SIDE, _SIDE, 3), dtype=np.uint8), np.zeros((_SIDE, _SIDE), dtype=np.uint8)


def _shaded(rng: Rng, layers: Layers) -> Sprite:
    """Turn flat layers into a sprite lit from one side, with grain."""
    rgb, mask = layers
    ramp = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    angle = rng.uniform(-1.2, 1.2)
    light = 0.85 + 0.3 * (np.sin(angle) * ramp[None, :] - np.cos(angle) * ramp[:, None])
    light = np.clip(light + 0.3 * (fractal(rng, _SIDE, _SIDE, 6, 3) - 0.5), 0.15, 1.4)
    alpha = mask.astype(np.float32) / 255
    return make_sprite(np.minimum(rgb * light[..., None], 255), alpha, None)


def _skin(rng: Rng) -> tuple[int, int, int]:
    return colour(rng, (4, 16), (50, 130), (90, 235))


def _ball(rng: Rng) -> Sprite:
    rgb, mask = _blank()
    tint = _skin(rng) if rng.random() < 0.5 else colour(rng)
    axes = (rng.uniform(28, 42), rng.uniform(34, 44))
    oval(mask, (48, 48), axes, 255)
    oval(rgb, (48, 48), (46, 46), tint)
    for step in range(12):
        factor = 1 + 0.45 * step / 12
        oval(
            rgb,
            (48 - step, 48 - 1.2 * step),
            (axes[0] * (1 - step / 12), axes[1] * (1 - step / 12)),
            scaled(tint, factor),
        )
    return _shaded(rng, (rgb, mask))


def _dial(rng: Rng) -> Sprite:
    rgb, mask = _blank()
    radius = rng.uniform(34, 44)
    oval(mask, (48, 48), (radius, radius), 255)
    oval(rgb, (48, 48), (46, 46), colour(rng, value=(40, 140)))
    oval(rgb, (48, 48), (radius * 0.85, radius * 0.85), colour(rng, saturation=(0, 70), value=(150, 245)))
    for tick in range(12):
        turn = 2 * np.pi * tick / 12
        oval(
            rgb,
            (48 + radius * 0.7 * np.cos(turn), 48 + radius * 0.7 * np.sin(turn)),
            (2.2, 2.2),
            (30, 30, 30),
        )
    for length in (0.4, 0.62):
        turn = rng.uniform(0, 2 * np.pi)
        end = (int(48 + radius * length * np.cos(turn)), int(48 + radius * length * np.sin(turn)))
        cv2.line(rgb, (48, 48), end, (25, 25, 25), 3, cv2.LINE_AA)
    return _shaded(rng, (rgb, mask))


def _socket(rng: Rng) -> Sprite:
    """A plate, lantern or owl-like thing: round, with two dark dots and now and then a slit under them."""
    rgb, mask = _blank()
    tint = _skin(rng) if rng.random() < 0.4 else colour(rng, value=(90, 240))
    half = (rng.uniform(28, 40), rng.uniform(32, 42))
    if rng.random() < 0.5:
        oval(mask, (48, 48), half, 255)
    else:
        fill(
            mask,
            np.array(
                [
                    [48 - half[0], 48 - half[1]],
                    [48 + half[0], 48 - half[1]],
                    [48 + half[0], 48 + half[1]],
                    [48 - half[0], 48 + half[1]],
                ]
            ),
            255,
        )
    rgb[:] = tint
    gap, size, y = rng.uniform(11, 18), rng.uniform(4, 9), rng.uniform(34, 48)
    for side in (-1, 1):
        if rng.random() < 0.4:
            oval(rgb, (48 + side * gap, y), (size * 1.5, size * 1.5), (235, 230, 220))
        oval(rgb, (48 + side * gap, y), (size, size), scaled(tint, 0.25))
    if rng.random() < 0.35:
        oval(rgb, (48, y + 26), (rng.uniform(8, 18), rng.uniform(1.5, 4)), scaled(tint, 0.35))
    return _shaded(rng, (rgb, mask))


def _head_without(rng: Rng) -> Sprite:
    """A tailor's dummy or the back of a head: a head that has lost what makes it a face."""
    lost = frozenset({"eyes", "mouth", "nose", "brows"})
    if rng.random() < 0.45:
        lost = lost - {str(rng.choice(["nose", "brows", "mouth"]))}
    look = random_face(rng).without(lost if rng.random() < 0.7 else lost | {"hair", "ears"})
    pose = FacePose(
        rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), 0.0, 1.0, rng.uniform(-1, 1), rng.uniform(0.3, 0.7)
    )
    return _unowned(render_face(look, pose))


def _face_part(rng: Rng) -> Sprite:
    """A strip of a face, as on a poster: the eyes alone, or mouth and chin alone."""
    pose = FacePose(rng.uniform(-0.4, 0.4), 0.0, rng.random(), 1.0, rng.uniform(-1, 1), rng.uniform(0.4, 0.7))
    sprite = render_face(random_face(rng), pose)
    left, top = sprite.hull.min(0)
    right, bottom = sprite.hull.max(0)
    first, last = (0.28, 0.56) if rng.random() < 0.6 else (0.68, 1.0)
    rows = slice(int(top + first * (bottom - top)), int(top + last * (bottom - top)))
    return _unowned(_cut(sprite, rows, slice(int(left), int(right))))


def _car_part(rng: Rng) -> Sprite:
    """The nose or the tail of a car, less than a third of it, as seen round a corner."""
    sprite = render_car(random_car(rng), CarPose(rng.random(), rng.uniform(0.4, 0.8)))
    left, top = sprite.hull.min(0)
    right, bottom = sprite.hull.max(0)
    share = rng.uniform(0.2, 0.32) * (right - left)
    columns = (
        slice(int(left), int(left + share)) if rng.random() < 0.5 else slice(int(right - share), int(right))
    )
    return _unowned(_cut(sprite, slice(int(top), int(bottom)), columns))


def _car_without(rng: Rng) -> Sprite:
    """A container, a wreck without wheels, or a pair of wheels."""
    options = [
        {"wheels", "windows"},
        {"windows", "lights", "trim"},
        {"body", "windows", "lights", "trim"},
    ]
    choice = frozenset(options[int(rng.integers(len(options)))])
    if "body" not in choice:
        choice = choice | {"wheels"}
    look = random_car(rng)
    if "body" in choice and look.front_view:
        return _car_part(rng)
    return _unowned(render_car(look.without(choice), CarPose(rng.random(), rng.uniform(0.4, 0.8))))


def _wheel(rng: Rng) -> Sprite:
    rgb, mask = _blank()
    radius = rng.uniform(34, 44)
    oval(mask, (48, 48), (radius, radius), 255)
    oval(rgb, (48, 48), (46, 46), (26, 26, 28))
    rim = colour(rng, saturation=(0, 40), value=(80, 220))
    oval(rgb, (48, 48), (radius * 0.66, radius * 0.66), rim)
    spokes = int(rng.integers(4, 10))
    for spoke in range(spokes):
        turn = 2 * np.pi * spoke / spokes
        end = (int(48 + radius * 0.62 * np.cos(turn)), int(48 + radius * 0.62 * np.sin(turn)))
        cv2.line(rgb, (48, 48), end, (55, 55, 58), 4, cv2.LINE_AA)
    return _shaded(rng, (rgb, mask))


def _bicycle(rng: Rng) -> Sprite:
    rgb, mask = _blank()
    tint = colour(rng, saturation=(80, 220), value=(60, 220))
    for canvas, dark, paint in ((rgb, (28, 28, 30), tint), (mask, 255, 255)):
        for x in (23, 73):
            oval(canvas, (x, 62), (18, 18), dark, thickness=3)
        for x0, y0, x1, y1 in (
            (23, 62, 38, 38),
            (38, 38, 66, 38),
            (66, 38, 73, 62),
            (23, 62, 47, 62),
            (47, 62, 66, 38),
            (38, 32, 47, 62),
        ):
            cv2.line(canvas, (x0, y0), (x1, y1), paint, 3, cv2.LINE_AA)
        cv2.line(canvas, (32, 31), (44, 31), dark, 4, cv2.LINE_AA)
        cv2.line(canvas, (64, 30), (70, 30), dark, 3, cv2.LINE_AA)
    return _shaded(rng, (rgb, mask))


def _kiosk(rng: Rng) -> Sprite:
    """A box with a row of windows, now and then on small wheels: a hut, a trailer, a carriage."""
    rgb, mask = _blank()
    tint = colour(rng, value=(60, 230))
    top = rng.uniform(28, 44)
    box = np.array([[4, top], [92, top], [92, 76], [4, 76]])
    fill(mask, box, 255)
    fill(rgb, box, tint)
    panes = int(rng.integers(2, 5))
    glass = colour(rng, (90, 125), (10, 90), (25, 140))
    for pane in range(panes):
        x0, width = 8 + 80 * pane / panes, 80 / panes - 5
        fill(
            rgb,
            np.array([[x0, top + 6], [x0 + width, top + 6], [x0 + width, top + 20], [x0, top + 20]]),
            glass,
        )
    if rng.random() < 0.4:
        for x in (20, 76):
            oval(mask, (x, 76), (6, 6), 255)
            oval(rgb, (x, 76), (6, 6), (25, 25, 27))
    return _shaded(rng, (rgb, mask))


def _unowned(sprite: Sprite) -> Sprite:
    return Sprite(sprite.rgba, np.zeros((0, 2), dtype=np.float32), sprite.unit_px, sprite.centre)


def _cut(sprite: Sprite, rows: slice, columns: slice) -> Sprite:
    rgba = np.ascontiguousarray(sprite.rgba[rows, columns])
    height, width = rgba.shape[:2]
    return Sprite(
        rgba, np.zeros((0, 2), dtype=np.float32), float(max(height, width)), (width / 2, height / 2)
    )


_PLAIN = (_ball, _dial, _wheel, _bicycle, _kiosk)
_TRICKY = (_socket, _head_without, _face_part, _car_part, _car_without)


def random_lookalike(rng: Rng, tricky: float) -> Sprite:
    """Return something that is no face and no car; ``tricky`` in 0..1 is how often it comes close."""
    kinds = _TRICKY if rng.random() < tricky else _PLAIN
    return kinds[int(rng.integers(len(kinds)))](rng)


def random_occluder(rng: Rng) -> Sprite:
    """Return something that stands in front: a post, a bush, or a board."""
    rgb, mask = _blank()
    style = int(rng.integers(3))
    tint = colour(rng, saturation=(5, 120), value=(25, 170))
    if style == 0:
        width = rng.uniform(3, 9)
        fill(mask, np.array([[48 - width, 0], [48 + width, 0], [48 + width, 95], [48 - width, 95]]), 255)
        rgb[:] = tint
    elif style == 1:
        noise = fractal(rng, _SIDE, _SIDE, 7, 4)
        ramp = np.abs(np.linspace(-1, 1, _SIDE, dtype=np.float32))
        inside = noise - 0.62 * np.sqrt(ramp[None, :] ** 2 + ramp[:, None] ** 2)
        mask[:] = np.clip((inside - 0.02) * 12, 0, 1) * 255
        green = np.array(colour(rng, (25, 80), (60, 190), (50, 170)), dtype=np.float32)
        rgb[:] = np.clip(green * (0.4 + 1.1 * noise)[..., None], 0, 255)
    else:
        tall = rng.uniform(18, 40)
        fill(mask, np.array([[2, 48 - tall], [94, 48 - tall], [94, 48 + tall], [2, 48 + tall]]), 255)
        rgb[:] = tint
        for y in np.arange(48 - tall, 48 + tall, 9):
            cv2.line(rgb, (2, int(y)), (94, int(y)), scaled(tint, 0.7), 2, cv2.LINE_AA)
    return _shaded(rng, (rgb, mask))
