"""Intervals over the choice of videos: sure where every video agrees, wide where they do not."""

import numpy as np
import pytest

from hem.evaluation.video import OperatingPoint
from hem.reporting.intervals import FIGURES, video_intervals
from hem.structures import VideoDetections, VideoInfo, VideoTruth

FRAMES = 60


def truth(number):
    """One object in every frame of a video of one minute."""
    return VideoTruth(
        video_id=f"{number}.mp4",
        frame_index=np.arange(FRAMES),
        boxes_xyxy=np.tile([10.0, 10, 30, 30], (FRAMES, 1)),
        labels=np.ones(FRAMES, dtype=np.int64),
        ignore=np.zeros(FRAMES, dtype=bool),
        object_id=np.zeros(FRAMES, dtype=np.int64),
        labelled_frames=np.ones(FRAMES, dtype=bool),
        class_names=("cat",),
    )


def found(number, false_alarms):
    """All objects at 0.5, and false alarms above them."""
    frames = np.concatenate([np.arange(FRAMES), np.arange(false_alarms)])
    boxes = np.concatenate(
        [np.tile([10.0, 10, 30, 30], (FRAMES, 1)), np.tile([60.0, 60, 80, 80], (false_alarms, 1))]
    )
    scores = np.concatenate([np.full(FRAMES, 0.5), np.full(false_alarms, 0.9)])
    order = np.lexsort((-scores, frames))
    return VideoDetections(
        video=VideoInfo(f"{number}.mp4", "d", "", 100, 100, 1.0, FRAMES),
        frame_index=frames[order],
        boxes_xyxy=boxes[order],
        scores=scores[order],
        labels=np.ones(len(frames), dtype=np.int64),
        frame_times_s=np.arange(FRAMES, dtype=float),
        score_range=(0.0, 1.0),
        floor_score=0.1,
        class_names=("cat",),
    )


POINT = OperatingPoint(0.5, 1.0, 30, 10.0)


def test_an_arm_that_is_better_everywhere_is_clear_of_zero():
    truths = [truth(k) for k in range(4)]
    videos = {
        "continued": [found(k, 10) for k in range(4)],
        "good": [found(k, 4) for k in range(4)],
        "mixed": [found(k, 20 if k % 2 else 0) for k in range(4)],
    }
    intervals = video_intervals(POINT, videos, truths, "continued", n_resamples=100)
    assert set(intervals) == {"good", "mixed"} and set(intervals["good"]) == set(FIGURES)
    low, high = intervals["good"]["false_alarms_per_minute"]
    minutes = FRAMES / 60
    assert low == pytest.approx(-6 / minutes, rel=0.05) and high == pytest.approx(-6 / minutes, rel=0.05)
    low, high = intervals["mixed"]["false_alarms_per_minute"]
    assert low < 0 < high
    assert intervals == video_intervals(POINT, videos, truths, "continued", n_resamples=100)  # seeded


def test_what_cannot_be_measured_has_no_interval():
    videos = {"continued": [found(0, 1)], "arm": [found(0, 2)]}
    assert video_intervals(POINT, videos, [truth(0)], "continued") == {}
    assert video_intervals(None, videos, [truth(0)] * 2, "continued") == {}
    both = {name: [found(0, 1), found(1, 1)] for name in ("a", "b")}
    assert video_intervals(POINT, both, [truth(0), truth(1)], "continued") == {}
    never = OperatingPoint(0.5, None, None, None)
    both["continued"] = both["a"]
    assert video_intervals(never, both, [truth(0), truth(1)], "continued") == {}
