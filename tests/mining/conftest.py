"""Small videos with objects that move, vanish and are missed, and detections of them."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch

from hem.structures import FrameBatch, GreyBatch, VideoDetections, VideoInfo


@dataclass
class Clip:
    frames: np.ndarray  # (F, H, W, 3) RGB
    found: VideoDetections

    def batches(self, size=6, skip=()):
        kept = [t for t in range(len(self.frames)) if t not in skip]
        for start in range(0, len(kept), size):
            index = torch.tensor(kept[start : start + size])
            pictures = torch.from_numpy(self.frames[index.numpy()]).permute(0, 3, 1, 2)
            yield FrameBatch(self.found.video, pictures, index, index.double() / self.found.video.fps)


def draw(rng, n_frames, width, height, count):
    base = cv2.resize(rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8), (width, height))
    patches = [cv2.resize(rng.integers(0, 256, (7, 5, 3), dtype=np.uint8), (20, 28)) for _ in range(count)]
    start, speed = rng.uniform(10, 90, (count, 2)), rng.uniform(-1.5, 1.5, (count, 2))
    frames = np.zeros((n_frames, height, width, 3), dtype=np.uint8)
    places = np.zeros((n_frames, count, 4))
    for t in range(n_frames):
        noise = rng.integers(-6, 7, base.shape)
        frames[t] = np.clip(base.astype(int) + noise, 0, 255)
        for k in range(count):
            x, y = (int(v) for v in np.clip(start[k] + speed[k] * t, 0, (width - 21, height - 29)))
            frames[t, y : y + 28, x : x + 20] = patches[k]
            places[t, k] = (x, y, x + 20, y + 28)
    return frames, places


@pytest.fixture
def make_clip():
    def make(seed, n_frames=24, width=140, height=130, count=3, labels=1, freeze=()):
        rng = np.random.default_rng(seed)
        frames, places = draw(rng, n_frames, width, height, count)
        for t in freeze:
            frames[t] = frames[t - 1]
        rows = []
        for t in range(n_frames):
            for k in range(count):
                if rng.random() < 0.8:
                    box = places[t, k] + rng.normal(0, 0.8, 4)
                    rows.append((t, *box, rng.choice([0.15, 0.3, 0.55, 0.7, 0.9, 0.99]), 1 + k % labels))
            for _ in range(rng.poisson(0.5)):
                x, y = rng.uniform(0, 100, 2)
                rows.append(
                    (t, x, y, x + 19, y + 27, rng.uniform(0.1, 1.0), int(rng.integers(1, labels + 1)))
                )
        table = np.array(rows)
        found = VideoDetections(
            video=VideoInfo("clip.mp4", digest="ab" * 32, width=width, height=height, fps=10.0),
            frame_index=table[:, 0].astype(int),
            boxes_xyxy=table[:, 1:5],
            scores=table[:, 5],
            labels=table[:, 6].astype(int),
            frame_times_s=np.arange(n_frames) / 10.0,
            floor_score=0.1,
        )
        return Clip(frames, found)

    return make


@pytest.fixture
def grey_batches():
    """Pictures, uint8 (H, W) each, as batches of a video."""

    def batches(found, pictures, size=7):
        for start in range(0, len(pictures), size):
            numbers = range(start, min(start + size, len(pictures)))
            times = [number / found.video.fps for number in numbers]
            yield GreyBatch(found.video, [pictures[number] for number in numbers], list(numbers), times)

    return batches
