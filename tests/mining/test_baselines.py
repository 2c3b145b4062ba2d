"""Random, low-score and pseudo-label baselines, and the frame budget that all rules share."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from hem.errors import HemError
from hem.mining.baselines import limit_frames, mine_pseudo_labels, mine_random, mine_score
from hem.structures import HardExample, Kind, VideoDetections, VideoInfo

VIDEO = VideoInfo("a/b.mp4", digest="d" * 64, width=200, height=100, fps=10)


def video_detections(frames=6, seed=0, per_frame=3, video=VIDEO):
    rng = np.random.default_rng(seed)
    count = frames * per_frame
    corner = rng.random((count, 2)) * [150, 60]
    boxes = np.concatenate([corner, corner + rng.uniform(5, 35, (count, 2))], 1)
    return VideoDetections(
        video, np.repeat(np.arange(frames), per_frame), boxes, rng.random(count),
        rng.integers(1, 3, count), np.arange(frames) / 10,
    )  # fmt: skip


def one_row(box, score=0.5, frames=1):
    return VideoDetections(VIDEO, [0], [box], [score], [1], np.arange(frames) / 10)


def example(frame, weight=1.0, kind=Kind.HARD_NEGATIVE, video="a.mp4", box=(0, 0, 5, 5)):
    return HardExample(video, "", frame, frame / 10, box, 1, kind, 0.5, weight, "x")


def overlaps(box, other):
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def test_random_boxes_touch_no_detection_nor_each_other_and_lie_inside():
    detections = video_detections(frames=40)
    found = mine_random(detections, per_frame=3, seed=1)
    assert len(found) > 60
    sizes = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    for one in found:
        left, top, right, bottom = one.box_xyxy
        assert left >= 0 and top >= 0 and right <= 200 + 1e-9 and bottom <= 100 + 1e-9
        rows = detections.rows_of(one.frame_index)
        assert not any(overlaps(one.box_xyxy, box) for box in detections.boxes_xyxy[rows])
        gap = np.abs(sizes - [right - left, bottom - top]).sum(1)
        assert gap.min() < 1e-9 and detections.labels[int(gap.argmin())] == one.label
        assert (one.kind, one.rule, one.score, one.weight) == (Kind.HARD_NEGATIVE, "random", None, 1.0)
        assert one.time_s == one.frame_index / 10 and one.video_digest == VIDEO.digest
    for frame in range(40):
        same = [one.box_xyxy for one in found if one.frame_index == frame]
        assert not any(overlaps(a, b) for k, a in enumerate(same) for b in same[k + 1 :])


def test_random_is_a_function_of_seed_video_and_frame():
    detections = video_detections()
    assert mine_random(detections, seed=3) == mine_random(detections, seed=3)
    boxes = [one.box_xyxy for one in mine_random(detections, seed=3)]
    assert boxes != [one.box_xyxy for one in mine_random(detections, seed=4)]
    other = dataclasses.replace(VIDEO, digest="e" * 64)
    assert boxes != [one.box_xyxy for one in mine_random(video_detections(video=other), seed=3)]


def test_frames_without_detections_give_boxes_too_and_gaps_do_not():
    detections = one_row([10.0, 10, 30, 30], frames=4)
    times = detections.frame_times_s.copy()
    times[2] = np.nan
    with_gap = dataclasses.replace(detections, frame_times_s=times)
    assert [one.frame_index for one in mine_random(with_gap)] == [0, 1, 3]


def test_a_full_frame_gives_nothing_and_a_box_that_just_fits_is_placed():
    assert mine_random(one_row([0.0, 0, 200, 100])) == []
    fits = mine_random(one_row([0.0, 0, 200, 100], frames=2))
    assert [(one.frame_index, one.box_xyxy) for one in fits] == [(1, (0.0, 0.0, 200.0, 100.0))]
    assert mine_random(one_row([0.0, 0, 201, 100], frames=2)) == []
    assert mine_random(one_row([50.0, 50, 50, 60], frames=2)) == []


def test_no_detections_means_no_sizes_to_draw_from():
    nothing = VideoDetections(VIDEO, [], [], [], [], np.arange(3) / 10)
    assert mine_random(nothing) == mine_score(nothing, low=0, high=1) == []
    assert mine_pseudo_labels(nothing, score_threshold=0.5) == []


def test_random_needs_a_size_and_a_count():
    with pytest.raises(HemError, match="width and height"):
        mine_random(video_detections(video=VideoInfo("a.mp4")))
    with pytest.raises(HemError, match="per_frame"):
        mine_random(video_detections(), per_frame=-1)
    assert mine_random(video_detections(), per_frame=0) == []


def scored(scores):
    count = len(scores)
    boxes = np.tile([10.0, 10, 20, 30], (count, 1))
    return VideoDetections(VIDEO, np.arange(count), boxes, scores, np.full(count, 2), np.arange(count) / 10)


def test_score_takes_low_up_to_but_not_high():
    found = mine_score(scored([0.1, 0.2, 0.3, 0.4, 0.5]), low=0.2, high=0.4, round_number=3)
    assert [one.score for one in found] == [0.2, 0.3]
    assert {(one.kind, one.rule, one.label, one.round) for one in found} == {
        (Kind.HARD_NEGATIVE, "score", 2, 3)
    }
    assert mine_score(scored([0.2]), low=0.2, high=0.2) == []
    with pytest.raises(HemError, match="must not be above"):
        mine_score(scored([0.2]), low=0.3, high=0.2)


def test_pseudo_labels_take_the_threshold_itself_and_nothing_else():
    found = mine_pseudo_labels(scored([0.69999, 0.7, 0.71]), score_threshold=0.7)
    assert [(one.score, one.kind, one.rule) for one in found] == [
        (0.7, Kind.PSEUDO_LABEL, "pseudo_labels"), (0.71, Kind.PSEUDO_LABEL, "pseudo_labels"),
    ]  # fmt: skip


def test_a_box_without_extent_is_left_out():
    flat = one_row([10.0, 10, 10, 30], score=0.9)
    assert mine_pseudo_labels(flat, score_threshold=0.5) == mine_score(flat, low=0, high=1) == []


def test_the_budget_keeps_whole_frames_of_the_heaviest_examples():
    examples = [example(0, 0.2), example(1, 0.9), example(0, 0.3), example(2, 0.5), example(1, 0.1)]
    assert limit_frames(examples, 1) == [examples[1], examples[4]]
    assert limit_frames(examples, 2) == [examples[1], examples[3], examples[4]]
    assert limit_frames(examples, 3) == examples
    assert limit_frames(examples, 0) == limit_frames([], 5) == []
    with pytest.raises(HemError, match="frame budget"):
        limit_frames(examples, -1)


def test_frames_of_ignore_regions_alone_come_last():
    examples = [example(0, 1.0, Kind.IGNORE), example(1, 0.0)]
    assert limit_frames(examples, 1) == [examples[1]]


def test_equal_frames_are_drawn_by_seed_whatever_the_order():
    examples = [example(k % 20, video=f"{k // 20}.mp4") for k in range(60)]
    chosen = limit_frames(examples, 10, seed=1)
    assert len({(one.video_id, one.frame_index) for one in chosen}) == 10
    again = limit_frames(examples[::-1], 10, seed=1)
    assert again == chosen[::-1]
    assert limit_frames(examples, 10, seed=2) != chosen
    # who is there besides does not reorder those who stay
    without = [one for one in examples if one not in chosen[:1]]
    assert [one for one in limit_frames(without, 10, seed=1) if one in chosen] == chosen[1:]


def test_frames_with_a_hard_example_come_before_those_with_labels_alone():
    labels = [example(frame, kind=Kind.PSEUDO_LABEL) for frame in range(50)]
    hard = [example(frame, weight=0.5) for frame in (7, 20, 33)]
    assert {one.frame_index for one in limit_frames(labels + hard, 3)} == {7, 20, 33}
    assert limit_frames(labels + hard, None) == labels + hard


def test_random_does_not_depend_on_the_order_of_detections():
    found = video_detections(frames=20)
    for seed in range(3):
        order = np.lexsort((np.random.default_rng(seed).random(len(found)), found.frame_index))
        columns = {name: getattr(found, name)[order] for name in ("boxes_xyxy", "scores", "labels")}
        assert mine_random(replace(found, **columns)) == mine_random(found)
