"""Tiny mined sets: textured frames made from a seed, and examples on them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hem.replay import Caps, ReplayRound, write_round
from hem.structures import HardExample, Kind, VideoInfo


def make_example(
    frame: int = 0,
    kind: Kind = Kind.HARD_NEGATIVE,
    box: tuple[float, float, float, float] = (10, 10, 30, 30),
    *,
    weight: float = 1.0,
    label: int = 1,
    score: float | None = 0.9,
    video: str = "a.mp4",
    rule: str = "temporal",
    round: int = 1,
    **evidence: float,
) -> HardExample:
    return HardExample(
        video, f"digest of {video}", frame, frame / 10, box, label, kind, score, weight, rule, round, evidence
    )


def make_image(video: str, frame: int, width: int = 64, height: int = 48) -> Tensor:
    seed = [frame, *video.encode()]
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 6, 8), dtype=np.uint8)
    large = torch.from_numpy(coarse).repeat_interleave(height // 6, 1).repeat_interleave(width // 8, 2)
    return large.contiguous()


def read_frames(video: VideoInfo, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    return ((index, make_image(video.video_id, index)) for index in indices)


@pytest.fixture
def example() -> Callable[..., HardExample]:
    return make_example


@pytest.fixture
def image() -> Callable[..., Tensor]:
    return make_image


@pytest.fixture
def reader() -> Callable[[VideoInfo, Sequence[int]], Iterator[tuple[int, Tensor]]]:
    return read_frames


@pytest.fixture
def videos() -> list[VideoInfo]:
    return [VideoInfo(f"{name}.mp4", f"digest of {name}.mp4", width=64, height=48) for name in "abc"]


@pytest.fixture
def write(tmp_path: Path, videos: list[VideoInfo]) -> Callable[..., ReplayRound]:
    def one(examples: Sequence[HardExample], index: int = 1, **more: object) -> ReplayRound:
        more.setdefault("caps", Caps())
        directory = tmp_path / f"round_{index:03d}"
        return write_round(directory, index, examples, videos, read_frames, ("cat", "dog"), **more)

    return one
