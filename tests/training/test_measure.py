"""Detections of held-out video: what could not be decoded is left out of the figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hem.config import VideoConfig
from hem.evaluation.frames import pair_videos, seen_frames
from hem.structures import VideoTruth
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
