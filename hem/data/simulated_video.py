"""Videos for the simulated detector: exact truth of swaying objects, and frames that fit it."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hem.data.world.texture import fractal
from hem.errors import HemError
from hem.structures import FrameBatch, VideoInfo, VideoTruth


def simulated_truth(
    seed: int,
    n_frames: int = 80,
    n_objects: int = 6,
    width: int = 480,
    height: int = 360,
    n_classes: int = 2,
    video_id: str = "simulated.mp4",
) -> VideoTruth:
    """Return objects that sway in cells of their own, at least 60 px from the border, never overlapping.

    Args:
        seed: of looks and paths.
        n_frames: length, >= 1.
        n_objects: as many as fit: one for each 80x80 px cell inside the border, fewer leave room for
            planted false alarms.
        width, height: of the frame in pixels.
        n_classes: labels go round 1..n_classes.
        video_id: identity of the video.

    Raises:
        HemError: if the objects do not fit.
    """
    columns, rows = (width - 120) // 80, (height - 120) // 80
    if n_objects > columns * rows:
        raise HemError(f"simulated truth: {n_objects} objects do not fit into {columns * rows} cells")
    rng = np.random.default_rng([seed, 1])
    cells = rng.permutation(columns * rows)[:n_objects]
    time = np.arange(n_frames)[:, None]
    middle = 60 + 80 * np.stack([cells % columns, cells // columns], axis=1) + 40.0
    period, phase = rng.uniform(30, 60, (2, n_objects)), rng.uniform(0, 2 * np.pi, (2, n_objects))
    sway = [8 * np.sin(2 * np.pi * time / period[k] + phase[k]) for k in (0, 1)]
    half = rng.uniform(22, 28, (n_objects, 2))
    centre = np.stack([middle[:, 0] + sway[0], middle[:, 1] + sway[1]], axis=-1)
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    return VideoTruth(
        video_id=video_id,
        frame_index=np.repeat(np.arange(n_frames, dtype=np.int64), n_objects),
        boxes_xyxy=boxes.reshape(-1, 4),
        labels=np.tile(np.arange(n_objects, dtype=np.int64) % n_classes + 1, n_frames),
        ignore=np.zeros(n_frames * n_objects, dtype=np.bool_),
        object_id=np.tile(np.arange(n_objects, dtype=np.int64), n_frames),
        labelled_frames=np.ones(n_frames, dtype=np.bool_),
        class_names=tuple(f"class_{label + 1}" for label in range(n_classes)),
    )


def render_frames(
    truth: VideoTruth, video: VideoInfo, seed: int, batch_size: int = 16
) -> Iterator[FrameBatch]:
    """Yield frames that fit ``truth``: each object its own texture on a still, textured background.

    Planted false boxes lie on the background, which looks the same in all frames, so that template
    matching finds them again in their place; objects move with their boxes.

    Args:
        truth, video: as for SimulatedDetector.run; width and height are read from ``video``.
        seed: of the textures.
        batch_size: frames in a batch, >= 1.
    """
    rng = np.random.default_rng([seed, 3])
    channels = [fractal(rng, video.height, video.width, 12, 5) for _ in range(3)]
    scene = np.clip((np.stack(channels, axis=-1) - 0.5) * 500 + 127, 0, 255).astype(np.uint8)
    skins = {
        int(number): (fractal(rng, 48, 48, 6, 3)[..., None] * rng.uniform(120, 255, 3)).astype(np.uint8)
        for number in np.unique(truth.object_id)
    }
    n_frames = len(truth.labelled_frames)
    for start in range(0, n_frames, batch_size):
        indices = np.arange(start, min(start + batch_size, n_frames), dtype=np.int64)
        frames = np.stack([_draw(truth, scene, skins, int(index)) for index in indices])
        yield FrameBatch(
            video=video,
            frames=torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))),
            frame_indices=torch.from_numpy(indices),
            times_s=torch.from_numpy(indices / video.fps),
        )


def _draw(
    truth: VideoTruth, scene: NDArray[np.uint8], skins: dict[int, NDArray[np.uint8]], frame_index: int
) -> NDArray[np.uint8]:
    picture = scene.copy()
    height, width = picture.shape[:2]
    rows = truth.rows_of(frame_index)
    for box, number in zip(truth.boxes_xyxy[rows], truth.object_id[rows], strict=True):
        left, top, right, bottom = (int(value) for value in np.round(box))
        if right <= left or bottom <= top:
            continue
        skin = cv2.resize(skins[int(number)], (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x0 < x1 and y0 < y1:
            picture[y0:y1, x0:x1] = skin[y0 - top : y1 - top, x0 - left : x1 - left]
    return picture
