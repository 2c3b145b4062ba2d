"""Labelled stills: photographs of a few well-lit objects."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hem.data.world.camera import expose, photo_camera
from hem.data.world.faces import FacePose, random_face, render_face
from hem.data.world.lookalikes import random_lookalike, random_occluder
from hem.data.world.scene_truth import FrameTruth
from hem.data.world.sprite import Sprite, paste, placement
from hem.data.world.texture import Image, Rng, background
from hem.data.world.vehicles import CarPose, random_car, render_car

FACE, CAR = 1, 2


def _object(rng: Rng, label: int) -> Sprite:
    if label == FACE:
        pose = FacePose(
            yaw=float(np.clip(rng.normal(0, 0.32), -0.9, 0.9)),
            pitch=rng.uniform(-0.5, 0.5),
            mouth=float(rng.choice([0.0, rng.random()])),
            eyes=1.0 if rng.random() < 0.93 else 0.1,
            light=rng.uniform(-1.1, 1.1),
            ambient=rng.uniform(0.4, 0.75),
        )
        return render_face(random_face(rng), pose)
    return render_car(random_car(rng), CarPose(rng.uniform(0, 6), rng.uniform(0.45, 0.8), rng.uniform(-1, 1)))


def _out_of_focus(rng: Rng, scene: Image) -> Image:
    """Blur what lies behind, as photographers do, so that the subject stands out."""
    if rng.random() < 0.2:
        return scene
    side = scene.shape[0]
    soft = cv2.GaussianBlur(scene, (0, 0), rng.uniform(1.5, 4.0) * side / 192)
    grey = soft.mean(axis=(0, 1))
    return np.clip(grey + rng.uniform(0.5, 0.85) * (soft - grey), 0, 255).astype(np.uint8)


def _spot(
    rng: Rng, side: int, size: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """Return a place that keeps clear of what is already there, or None after 12 tries."""
    for _ in range(12):
        low = size * (0.3 if rng.random() < 0.1 else 0.52)
        if low >= side / 2:
            return side / 2, side / 2
        x, y = (float(v) for v in rng.uniform(low, side - low, 2))
        if all(np.hypot(x - a, y - b) > 0.5 * (size + other) for a, b, other in taken):
            return x, y
    return None


def draw_still(rng: Rng, side: int) -> tuple[Image, FrameTruth]:
    """Return one photograph, uint8 RGB (side, side, 3), and its truth."""
    scene = _out_of_focus(rng, background(rng, side))
    owners = np.zeros((side, side), dtype=np.uint8)
    taken: list[tuple[float, float, float]] = []
    outlines: list[tuple[NDArray[np.float64], int]] = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        size = side * rng.uniform(0.14, 0.4)
        spot = _spot(rng, side, size, taken)
        if spot is not None:
            sprite = random_lookalike(rng, 0.15)
            paste(
                scene, owners, sprite, placement(sprite, spot, size, rng.normal(0, 0.12), rng.random() < 0.5)
            )
            taken.append((*spot, size))
    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.03, 0.25, 0.36, 0.24, 0.12]))):
        label = FACE if rng.random() < 0.5 else CAR
        size = side * float(np.exp(rng.uniform(np.log(0.26), np.log(0.5))))
        spot = _spot(rng, side, size, taken)
        if spot is None:
            continue
        sprite = _object(rng, label)
        squeeze = rng.uniform(0.85, 1.0) if label == CAR else 1.0
        matrix = placement(sprite, spot, size, rng.normal(0, 0.1), bool(rng.random() < 0.5), squeeze)
        owner = len(outlines) + 1
        outlines.append((paste(scene, owners, sprite, matrix, owner), label))
        taken.append((*spot, size))
    if rng.random() < 0.15:
        sprite = random_occluder(rng)
        x, y = (float(v) for v in rng.uniform(0, side, 2))
        paste(scene, owners, sprite, placement(sprite, (x, y), side * rng.uniform(0.2, 0.5)))
    truth = FrameTruth()
    for index, (outline, label) in enumerate(outlines):
        truth.add(outline, owners, index + 1, label, index)
    return expose(photo_camera(rng, side), rng, scene), truth
