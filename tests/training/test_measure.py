"""Detections of held-out video: what could not be decoded is left out of the figures."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hem.config import VideoConfig
from hem.evaluation.frames import pair_videos, seen_frames
from hem.structures import FrameBatch, FrameGap, VideoInfo, VideoTruth
from hem.training.measure import detect_video
from hem.training.video_data import VideoData
from hem.video.manifest import scan_videos

FRAMES = 40


@pytest.fixture
def cut_video(tmp_path: Path, write_cut_video: Callable[[Path], Path]) -> Path:
    return write_cut_video(tmp_path / "cut.mp4")


def test_a_cut_video_is_measured_on_what_is_left_of_it(cut_video: Path, tiny) -> None:
    data = VideoData(scan_videos(str(cut_video)).videos, VideoConfig())
    with data.source(data.videos[0]) as source:
        found = detect_video(tiny, source, 0.05)
    decoded = int(np.isfinite(found.frame_times_s).sum())
    assert 10 <= decoded < FRAMES
    assert found.gaps
    everywhere = np.arange(FRAMES)
    truth = VideoTruth(
        data.videos[0].video_id,
        everywhere,
        np.tile([1.0, 1, 9, 9], (FRAMES, 1)),
        np.ones(FRAMES, dtype=np.int64),
        np.zeros(FRAMES, dtype=bool),
        np.zeros(FRAMES, dtype=np.int64),
        np.ones(FRAMES, dtype=bool),
        ("thing",),
    )
    pairs = pair_videos([found], [truth])
    assert int(seen_frames(*pairs[0]).sum()) == decoded


def test_frames_lost_at_the_end_belong_to_the_video(tiny) -> None:
    """They are no frames that were looked at, and truth beyond the last decoded one is no error."""
    video = VideoInfo("v.mp4", fps=10.0)
    gaps = (FrameGap(4, 6, "damage"),)

    class Source:
        def __init__(self) -> None:
            self.video = video

        def __iter__(self):
            frames = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
            yield FrameBatch(video, frames, torch.arange(4), torch.arange(4) / 10.0)

        def report(self) -> SimpleNamespace:
            return SimpleNamespace(gaps=gaps, error=None)

    found = detect_video(tiny, Source(), 0.05)
    assert found.n_frames == 6 and found.gaps == gaps
    assert np.isnan(found.frame_times_s).tolist() == [False] * 4 + [True] * 2
    nothing = np.zeros(0, dtype=np.int64)
    truth = VideoTruth(
        "v.mp4", nothing, np.zeros((0, 4)), nothing, nothing == 1, nothing, np.ones(6, dtype=bool), ("thing",)
    )
    pairs = pair_videos([found], [truth])
    assert seen_frames(*pairs[0]).tolist() == [True] * 4 + [False] * 2
