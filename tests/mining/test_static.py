"""A place that is occupied through the whole video is background, where the user says that objects move."""

from dataclasses import replace

import numpy as np
import pytest

from hem.mining.run import query
from hem.mining.static import SAMPLED_FRAMES, occupancy
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, ResponseTable

POST = (20.0, 20.0, 40.0, 60.0)
SETTINGS = CollectSettings(
    floor_score=0.0,
    window=2,
    max_gap=0,
    score_threshold=(0, 1),
    neighbour_threshold=(0, 1),
    variants=("a", "b"),
)
LIMITS = TemporalThresholds(0.5, 0.2, window=2, window_s=9.0, min_window=1, max_gap=0, min_track=2)


def video(n_frames=100, fps=5.0, post=lambda t: True, label=lambda t: 1, cut=None, duplicate=None):
    """A post found where ``post`` says, and someone who walks past it and on, both at a score of 0.9."""
    rows = []
    for t in range(n_frames):
        rows += [(t, POST, label(t))] if post(t) else []
        rows.append((t, (3.0 * t, 25.0, 3.0 * t + 20.0, 65.0), 1))
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=400, height=80, fps=fps),
        np.array([t for t, _, _ in rows]),
        np.array([box for _, box, _ in rows]),
        np.full(len(rows), 0.9),
        np.array([label for _, _, label in rows]),
        np.arange(n_frames) / fps,
    )
    cuts, same = np.zeros(n_frames, dtype=bool), np.zeros(n_frames, dtype=bool)
    cuts[[] if cut is None else [cut]] = True
    same[[] if duplicate is None else duplicate] = True
    count = len(rows)
    answers = ResponseTable(np.repeat(np.arange(count), 2), np.tile([0, 1], count), np.full(2 * count, 0.9),
                            np.full(2 * count, 1.0))  # fmt: skip
    return Evidence(found, cuts, same, SETTINGS, responses=answers, detector_calls=n_frames, elicit_calls=1)


def of_post(evidence, away_s=4.0):
    found = evidence.detections
    return occupancy(evidence, away_s)[(found.boxes_xyxy == POST).all(axis=1)]


def test_what_stays_is_occupied_and_what_walks_is_not():
    evidence = video()
    share = occupancy(evidence, 4.0)
    post = (evidence.detections.boxes_xyxy == POST).all(axis=1)
    assert (share[post] == 1.0).all()
    past = np.abs(evidence.detections.boxes_xyxy[:, 0] - 20.0) > 20  # whoever stands before it has its place
    assert (share[~post & past] == 0.0).all()


def test_the_share_counts_far_frames_only():
    evidence = video(post=lambda t: t < 50 or t % 2 == 0)
    found = evidence.detections
    at = np.flatnonzero((found.boxes_xyxy == POST).all(axis=1) & (found.frame_index == 0))
    # frames from 4 s, index 20, on: 30 that hold it and half of the other 50; 64 sampled of 100
    assert occupancy(evidence, 4.0)[at] == pytest.approx(55 / 80, abs=0.03)


@pytest.mark.parametrize("spoilt", [
    {"n_frames": 30},  # 6 s: no frame has others 4 s away for 4 s
    {"label": lambda t: 1 + t % 2 if t < 2 else 3},  # a class of its own in every frame that matters
    {"cut": 25, "n_frames": 50},  # 10 s, but of two views
])  # fmt: skip
def test_a_short_video_another_class_and_another_shot_tell_nothing(spoilt):
    share = of_post(video(**spoilt))
    assert (share[:2] == 0.0).all()


def test_neither_length_nor_repeated_frames_change_the_share():
    assert (of_post(video(n_frames=40 * SAMPLED_FRAMES)) == 1.0).all()
    again = np.arange(1, 100, 2)
    doubled = video(duplicate=again)
    assert (of_post(doubled) == 1.0).all()


def mined(share, score=0.9):
    answers = ElicitedThresholds(
        0.5, 0.2, negative_response=0.3, positive_response=0.5, min_variants=1, clear_iou=1.0,
        static_share=share, static_s=4.0,
    )  # fmt: skip
    evidence = video()
    found = evidence.detections
    scores = np.where((found.boxes_xyxy == POST).all(axis=1), score, 0.9)
    evidence = replace(evidence, detections=replace(found, scores=scores))
    examples = query(evidence, "hem", HemThresholds(LIMITS, answers)).examples()
    return {
        place: {
            e.kind for e in examples if (e.box_xyxy == POST) == (place == "post") and 30 < e.frame_index < 95
        }
        for place in ("post", "walker")
    }


def test_only_where_it_is_asked_for_and_only_of_what_the_detector_stands_by():
    assert mined(2.0) == {"post": {Kind.PSEUDO_LABEL}, "walker": {Kind.PSEUDO_LABEL}}
    assert mined(0.5) == {"post": {Kind.HARD_NEGATIVE}, "walker": {Kind.PSEUDO_LABEL}}
    assert mined(0.5, score=0.3) == {"post": {Kind.IGNORE}, "walker": {Kind.PSEUDO_LABEL}}


@pytest.mark.parametrize("start_s", [0.02, 1.48, 3600.0])
def test_the_time_at_which_a_video_begins_does_not_matter(start_s):
    evidence = video(fps=10.0)
    times = evidence.detections.frame_times_s + start_s
    later = replace(evidence, detections=replace(evidence.detections, frame_times_s=times))
    for away_s in (0.3, 0.7, 4.0):
        np.testing.assert_array_equal(occupancy(later, away_s), occupancy(evidence, away_s))
