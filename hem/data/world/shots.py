"""Video: shots one after another, each with its own scene, camera path and actors."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.actors import Actor, car_actor, face_actor, lookalike_actor, occluder_actor
from hem.data.world.camera import Camera, expose, video_camera
from hem.data.world.motion import SHUTTER, bursts, camera_path, wander
from hem.data.world.scene_truth import FrameTruth
from hem.data.world.sprite import line_kernel, paste, placement
from hem.data.world.texture import Image, Plane, Rng, background, fractal

_SCENE = 2.0  # side of the scene in frame sides
_SHOT_FRAMES = (34, 90)


class Shot:
    """One take: a scene, a camera path, and actors that come and go."""

    def __init__(self, rng: Rng, n_frames: int, side: int, first_object: int) -> None:
        scene_side = round(side * _SCENE)
        self.side, self.n_frames, self.first_object = side, n_frames, first_object
        self.scene = background(rng, scene_side)
        self.path = camera_path(rng, n_frames + 1, side, scene_side)
        place = (n_frames + 1, side, scene_side)
        objects = int(rng.choice([0, 1, 2, 3, 4], p=[0.06, 0.24, 0.32, 0.24, 0.14]))
        cast: list[Actor] = [lookalike_actor(rng, *place) for _ in range(int(rng.integers(1, 5)))]
        cast += [(face_actor if rng.random() < 0.5 else car_actor)(rng, *place) for _ in range(objects)]
        order = rng.permutation(len(cast))
        self.cast = [cast[index] for index in order]
        self.cast += [
            occluder_actor(rng, *place) for _ in range(int(rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2])))
        ]
        self.n_objects = objects
        self.exposure = np.exp(wander(rng, n_frames, 0.12, (20, 80)))
        self.exposure *= 1 + bursts(rng, n_frames, 70.0, (1, 2)) * rng.choice([-0.45, 0.7])
        self.defocus = bursts(rng, n_frames, 80.0, (2, 6)) * rng.uniform(0.6, 1.4) * side / 192
        self.dapple = 1 + rng.uniform(0.0, 0.5) * (fractal(rng, 2 * side, 2 * side, 8, 2) - 0.5)
        self.drift = rng.uniform(-1.5, 1.5, 2)

    def draw(self, frame: int, camera: Camera, rng: Rng) -> tuple[Image, FrameTruth]:
        """Return one frame, uint8 RGB, and its truth."""
        side = self.side
        now, soon = self.path.matrix(frame, side), self.path.matrix(frame + 1, side)
        middle = np.array([self.scene.shape[1] / 2, self.scene.shape[0] / 2])
        shift = SHUTTER * ((soon - now)[:, :2] @ middle + (soon - now)[:, 2])
        picture = cv2.warpAffine(
            self.scene, now, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        kernel = line_kernel((float(shift[0]), float(shift[1])))
        if kernel is not None:
            picture = cv2.filter2D(picture, -1, kernel)
        owners = np.zeros((side, side), dtype=np.uint8)
        outlines: list[tuple[NDArray[np.float64], int, int]] = []
        for actor in self.cast:
            owner = len(outlines) + 1 if actor.label else 0
            outline = self._place(actor, frame, picture, owners, owner)
            if actor.label:
                outlines.append((outline, actor.label, self.first_object + len(outlines)))
        truth = FrameTruth()
        for index, (outline, label, object_id) in enumerate(outlines):
            truth.add(outline, owners, index + 1, label, object_id)
        light = self._light(frame)
        return expose(
            camera, rng, picture, float(self.exposure[frame]), light, float(self.defocus[frame])
        ), truth

    def _place(
        self, actor: Actor, frame: int, picture: Image, owners: NDArray[np.uint8], owner: int
    ) -> NDArray[np.float64]:
        view = [self.path.matrix(t, self.side, actor.parallax) for t in (frame, frame + 1)]
        spots = [
            m[:, :2] @ (actor.x[frame + step], actor.y[frame + step]) + m[:, 2] for step, m in enumerate(view)
        ]
        zoom, tilt = self.path.zoom[frame], self.path.roll[frame]
        sprite = actor.sprite(frame)
        matrix = placement(
            sprite,
            (float(spots[0][0]), float(spots[0][1])),
            float(actor.size[frame] * zoom),
            float(actor.roll[frame] + tilt),
            actor.flip,
            actor.squeeze,
        )
        motion = SHUTTER * (spots[1] - spots[0])
        return paste(
            picture, owners, sprite, matrix, owner, (float(motion[0]), float(motion[1])), actor.light
        )

    def _light(self, frame: int) -> Plane:
        """Return light and shade that drift over the scene, (H, W)."""
        x, y = (int(v) % self.side for v in self.drift * frame)
        return np.ascontiguousarray(self.dapple[y : y + self.side, x : x + self.side])


def draw_video(rng: Rng, side: int, n_frames: int) -> Iterator[tuple[Image, FrameTruth]]:
    """Yield every frame of one video with its truth; one camera, several shots with hard cuts."""
    camera = video_camera(rng, side)
    drawn = objects = 0
    while drawn < n_frames:
        length = int(rng.integers(*_SHOT_FRAMES))
        if n_frames - drawn - length < _SHOT_FRAMES[0]:
            length = n_frames - drawn
        shot = Shot(rng, length, side, objects)
        for frame in range(length):
            yield shot.draw(frame, camera, rng)
        objects += shot.n_objects
        drawn += length
