"""Tiny videos with truth, made by hand."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hem.structures import FrameGap, VideoDetections, VideoInfo, VideoTruth

Row = tuple[int, tuple[float, float, float, float], int, float]


@pytest.fixture
def make_detections() -> Callable[..., VideoDetections]:
    """Build from rows (frame, box, label, score)."""

    def build(
        rows: Sequence[Row],
        n_frames: int,
        video_id: str = "a.mp4",
        times: Sequence[float] | None = None,
        gaps: Sequence[FrameGap] = (),
        **more: object,
    ) -> VideoDetections:
        rows = sorted(rows, key=lambda row: row[0])
        return VideoDetections(
            video=VideoInfo(video_id, fps=10.0),
            frame_index=np.array([row[0] for row in rows], dtype=np.int64),
            boxes_xyxy=np.array([row[1] for row in rows]).reshape(-1, 4),
            labels=np.array([row[2] for row in rows], dtype=np.int64),
            scores=np.array([row[3] for row in rows], dtype=np.float64),
            frame_times_s=np.arange(n_frames) / 10.0 if times is None else np.array(times),
            gaps=gaps,
            **more,
        )

    return build


@pytest.fixture
def make_truth() -> Callable[..., VideoTruth]:
    """Build from rows (frame, box, label) and ignore rows of the same form."""

    def build(
        rows: Sequence[tuple],
        n_frames: int,
        video_id: str = "a.mp4",
        ignore: Sequence[tuple] = (),
        labelled: Sequence[bool] | None = None,
    ) -> VideoTruth:
        both = sorted([(*row, False) for row in rows] + [(*row, True) for row in ignore], key=lambda r: r[0])
        return VideoTruth(
            video_id=video_id,
            frame_index=np.array([row[0] for row in both], dtype=np.int64),
            boxes_xyxy=np.array([row[1] for row in both], dtype=np.float64).reshape(-1, 4),
            labels=np.array([row[2] for row in both], dtype=np.int64),
            ignore=np.array([row[3] for row in both], dtype=bool),
            object_id=np.full(len(both), -1, dtype=np.int64),
            labelled_frames=np.ones(n_frames, dtype=bool) if labelled is None else np.array(labelled),
        )

    return build


@pytest.fixture
def shared_protocols() -> Path:
    """Official ground truth and published predictions, where somebody put them beside the project."""
    root = Path(os.environ.get("HEM_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "protocols"
    if not root.is_dir():
        pytest.skip(f"no published predictions: {root} is absent (set HEM_SHARED)")
    return root
