"""Things that live in a shot: faces, cars, look-alikes and what passes in front of them."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hem.data.world.faces import FaceLook, FacePose, random_face, render_face
from hem.data.world.lookalikes import random_lookalike, random_occluder
from hem.data.world.motion import Path1, bursts, wander
from hem.data.world.sprite import Sprite
from hem.data.world.texture import Rng
from hem.data.world.vehicles import CarLook, CarPose, random_car, render_car

FACE, CAR, NOBODY = 1, 2, 0

_YAW_STEP = 0.2
_TURN_STEP = np.pi / 6


@dataclass(eq=False)
class Actor:
    """One thing in a shot.

    Attributes:
        label: FACE, CAR or NOBODY (no truth).
        x, y: (F,) scene pixels of its middle.
        size: (F,) longer side in scene pixels.
        roll: (F,) radians.
        parallax: 1 for the scene, more for what is nearer.
        light: brightness of what falls on it.
        still: its picture, if it never changes; otherwise ``look`` and the poses below.
        pose: (F, 3) yaw, mouth and eyes of a face, or wheel angle, 0, 0 of a car.
    """

    label: int
    x: Path1
    y: Path1
    size: Path1
    roll: Path1
    parallax: float = 1.0
    light: float = 1.0
    flip: bool = False
    squeeze: float = 1.0
    still: Sprite | None = None
    look: FaceLook | CarLook | None = None
    base: FacePose | CarPose | None = None
    pose: NDArray[np.float64] | None = None
    _drawn: dict[tuple[int, int, int], Sprite] = field(default_factory=dict)

    def sprite(self, frame: int) -> Sprite:
        """Return its picture in one frame; poses are drawn once for each step of their angle."""
        if self.still is not None:
            return self.still
        assert self.pose is not None
        yaw, mouth, eyes = (float(v) for v in self.pose[frame])
        if isinstance(self.look, FaceLook) and isinstance(self.base, FacePose):
            key = (round(yaw / _YAW_STEP), round(mouth), round(eyes))
            if key not in self._drawn:
                turned = replace(self.base, yaw=key[0] * _YAW_STEP, mouth=0.8 * key[1], eyes=max(0.1, key[2]))
                self._drawn[key] = render_face(self.look, turned)
            return self._drawn[key]
        assert isinstance(self.look, CarLook) and isinstance(self.base, CarPose)
        turn = 2 * np.pi / self.look.spokes
        key = (int(yaw % turn / _TURN_STEP), 0, 0)
        if key not in self._drawn:
            self._drawn[key] = render_car(self.look, replace(self.base, wheel_angle=key[0] * _TURN_STEP))
        return self._drawn[key]


def _track(rng: Rng, n_frames: int, side: int, scene_side: int, speed: float) -> tuple[Path1, Path1]:
    """Return a path that lies in the picture for part of the shot at least; ``speed`` in px a frame."""
    middle, reach = scene_side / 2, side * 0.4
    when = rng.uniform(0.1, 0.9) * n_frames  # the moment when it is at the place drawn below
    x, y = middle + rng.uniform(-reach, reach), middle + rng.uniform(-reach, reach) * 0.8
    time = np.arange(n_frames, dtype=np.float64) - when
    heading = rng.choice([-1.0, 1.0])
    across = x + heading * speed * time + wander(rng, n_frames, side * 0.03, (25, 70))
    down = y + rng.normal(0, 0.12) * speed * time + wander(rng, n_frames, side * 0.015, (25, 70))
    return across, down


def _sizes(rng: Rng, n_frames: int, start: float, growth: float) -> Path1:
    return start * np.exp(np.linspace(-0.5, 0.5, n_frames) * rng.normal(0, growth))


def face_actor(rng: Rng, n_frames: int, side: int, scene_side: int) -> Actor:
    """Draw a person who moves, turns, nods, talks and blinks."""
    speed = float(rng.choice([0.0, 0.5, 1.6], p=[0.4, 0.35, 0.25])) * side / 192 * rng.uniform(0.5, 1.5)
    x, y = _track(rng, n_frames, side, scene_side, speed)
    turns = bursts(rng, n_frames, 60.0, (3, 7)) * rng.choice([-1.0, 1.0]) * 1.1
    yaw = rng.normal(0, 0.25) + wander(rng, n_frames, rng.uniform(0.1, 0.7), (30, 90))
    yaw += np.convolve(turns, np.ones(3) / 3)[1 : n_frames + 1]
    talking = (np.sin(np.arange(n_frames) * rng.uniform(0.8, 1.6)) > 0.2) * float(rng.random() < 0.5)
    eyes = 1.0 - (bursts(rng, n_frames, 40.0, (1, 3)) > 0)
    base = FacePose(
        pitch=rng.uniform(-0.5, 0.5), light=rng.uniform(-1.3, 1.3), ambient=rng.uniform(0.4, 0.75)
    )
    return Actor(
        FACE, x, y,
        _sizes(rng, n_frames, side * float(np.exp(rng.uniform(np.log(0.23), np.log(0.46)))), 0.35),
        wander(rng, n_frames, rng.uniform(0.02, 0.16), (25, 80)),
        light=rng.uniform(0.85, 1.15),
        look=random_face(rng),
        base=base,
        pose=np.stack([np.clip(yaw, -1.15, 1.15), talking, eyes], 1),
    )  # fmt: skip


def car_actor(rng: Rng, n_frames: int, side: int, scene_side: int) -> Actor:
    """Draw a car that stands or drives."""
    speed = float(rng.choice([0.0, 1.2, 3.0], p=[0.4, 0.4, 0.2])) * side / 192 * rng.uniform(0.5, 1.5)
    look = random_car(rng)
    if look.front_view:
        speed *= 0.15
    x, y = _track(rng, n_frames, side, scene_side, speed)
    start = side * float(np.exp(rng.uniform(np.log(0.26), np.log(0.5))))
    forward = bool(x[-1] > x[0])
    rolled = np.abs(x - x[0]) / (0.09 * start) % (2 * np.pi)
    zeros = np.zeros(n_frames)
    return Actor(
        CAR, x, y,
        _sizes(rng, n_frames, start, 0.4 if look.front_view else 0.15),
        wander(rng, n_frames, 0.02, (20, 60)) + rng.normal(0, 0.05),
        light=rng.uniform(0.85, 1.15),
        flip=forward,
        squeeze=rng.uniform(0.8, 1.0),
        look=look,
        base=CarPose(0.0, rng.uniform(0.45, 0.8), rng.uniform(-1, 1)),
        pose=np.stack([rolled if speed > 0 else zeros, zeros, zeros], 1),
    )  # fmt: skip


def lookalike_actor(rng: Rng, n_frames: int, side: int, scene_side: int) -> Actor:
    """Draw something like a face or a car that stands, sways or passes."""
    speed = float(rng.choice([0.0, 0.8, 2.2], p=[0.55, 0.3, 0.15])) * side / 192 * rng.uniform(0.5, 1.5)
    x, y = _track(rng, n_frames, side, scene_side, speed)
    return Actor(
        NOBODY, x, y,
        _sizes(rng, n_frames, side * float(np.exp(rng.uniform(np.log(0.17), np.log(0.42)))), 0.3),
        wander(rng, n_frames, rng.uniform(0.0, 0.2), (25, 80)) + rng.normal(0, 0.08),
        light=rng.uniform(0.6, 1.1),
        flip=bool(rng.random() < 0.5),
        still=random_lookalike(rng, 0.7),
    )  # fmt: skip


def occluder_actor(rng: Rng, n_frames: int, side: int, scene_side: int) -> Actor:
    """Draw a post, bush or board in the foreground; some pass through the picture quickly."""
    speed = float(rng.choice([0.0, 2.0, 7.0], p=[0.5, 0.3, 0.2])) * side / 192 * rng.uniform(0.6, 1.4)
    x, y = _track(rng, n_frames, side, scene_side, speed)
    return Actor(
        NOBODY, x, y,
        np.full(n_frames, side * rng.uniform(0.25, 0.6)),
        np.full(n_frames, rng.normal(0, 0.08)),
        parallax=rng.uniform(1.2, 1.7),
        light=rng.uniform(0.4, 0.9),
        still=random_occluder(rng),
    )  # fmt: skip
