import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.evaluation.frames import minutes_of, pair_videos
from hem.evaluation.isolation import isolated_by_overlap
from hem.evaluation.matching import match_stills, match_videos
from hem.evaluation.video import (
    baseline_point,
    best_f1_threshold,
    curve,
    curve_of,
    figures_at,
    flickers_per_minute,
    operating_point,
    video_figures,
)
from hem.structures import Detections, FrameGap, Target

A = (0.0, 0.0, 10.0, 10.0)
B = (100.0, 0.0, 110.0, 10.0)
C = (0.0, 100.0, 10.0, 110.0)
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU with A exactly 0.5
LESS = (0.0, 0.0, 10.0, 4.99)


def test_iou_exactly_at_threshold_matches(make_detections, make_truth):
    truth = [make_truth([(0, A, 1)], 1)]
    assert match_videos([make_detections([(0, HALF, 1, 0.5)], 1)], truth).true.tolist() == [True]
    assert match_videos([make_detections([(0, LESS, 1, 0.5)], 1)], truth).true.tolist() == [False]


def test_second_detection_of_one_object_and_wrong_class_are_false(make_detections, make_truth):
    rows = [(0, A, 1, 0.5), (0, A, 1, 0.9), (0, A, 2, 0.99)]
    matched = match_videos([make_detections(rows, 1)], [make_truth([(0, A, 1)], 1)])
    assert matched.true.tolist() == [False, True, False]


def test_ties_in_score_go_in_given_order_and_to_the_greatest_iou(make_detections, make_truth):
    near = (1.0, 0.0, 11.0, 10.0)
    truth = [make_truth([(0, near, 1), (0, A, 1)], 1)]
    matched = match_videos([make_detections([(0, A, 1, 0.5), (0, near, 1, 0.5)], 1)], truth)
    assert matched.true.tolist() == [True, True]


def test_ignore_regions(make_detections, make_truth):
    every, only_two = (50.0, 50.0, 60.0, 60.0), (70.0, 70.0, 80.0, 80.0)
    half_in, less_in = (55.0, 50.0, 65.0, 60.0), (55.1, 50.0, 65.1, 60.0)
    truth = [make_truth([(0, A, 1)], 1, ignore=[(0, every, 0), (0, only_two, 2)])]
    rows = [(0, half_in, 1, 0.9), (0, less_in, 1, 0.8), (0, only_two, 2, 0.7), (0, only_two, 1, 0.6)]
    matched = match_videos([make_detections(rows, 1)], truth)
    assert matched.scores.tolist() == [0.8, 0.6] and not matched.true.any()
    # A matched detection counts even where it lies in an ignore region.
    over = [make_truth([(0, every, 1)], 1, ignore=[(0, every, 0)])]
    assert match_videos([make_detections([(0, every, 1, 0.9)], 1)], over).true.tolist() == [True]


def test_curve_admits_equal_scores_together(make_detections, make_truth):
    rows = [(0, A, 1, 0.9), (0, B, 1, 0.5), (1, A, 1, 0.5), (1, C, 1, 0.5), (2, C, 1, 0.1)]
    result = curve([make_detections(rows, 3)], [make_truth([(0, A, 1), (1, A, 1)], 3)])
    assert result.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert result.recall.tolist() == [0.5, 1.0, 1.0]
    assert result.false_alarms.tolist() == [0, 2, 3]
    assert result.false_alarms_per_frame.tolist() == pytest.approx([0, 2 / 3, 1])
    assert result.false_alarms_per_minute.tolist() == pytest.approx([0, 400, 600])  # 3 frames of 0.1 s


def test_nothing_at_all(make_detections, make_truth):
    empty = curve([make_detections([], 2)], [make_truth([], 2)])
    assert len(empty.thresholds) == 0 and empty.n_true == 0 and empty.minutes == pytest.approx(0.2 / 60)
    assert best_f1_threshold(empty) is None
    none = curve([], [])
    assert none.n_frames == 0 and len(none.recall) == 0


def test_unlabelled_frames_and_gaps_are_left_out(make_detections, make_truth):
    rows = [(0, B, 1, 0.9), (1, B, 1, 0.9), (3, B, 1, 0.9)]
    times = [0.0, 0.1, float("nan"), 0.3]
    found = make_detections(rows, 4, times=times, gaps=[FrameGap(2, 3, "damaged")])
    truth = make_truth([(2, A, 1), (3, A, 1)], 4, labelled=[False, True, True, True])
    matched = match_videos([found], [truth])
    assert matched.n_frames.tolist() == [2]
    assert len(matched.scores) == 2 and matched.n_true[0, 1] == 1
    assert matched.minutes[0] == pytest.approx(0.2 / 60)


def test_time_that_no_frame_shows_does_not_count(make_detections, make_truth):
    """Frames every 40 ms (100 by the header), then the clock jumps an hour."""
    times = [0.0, 0.04, 0.08, 0.12, 3600.12, 3600.16, 3601.96, 3604.17]
    found = make_detections([(0, A, 1, 0.9), (1, B, 1, 0.9)], 8, times=times)

    def seconds(*frames):
        return minutes_of(found, np.isin(np.arange(8), frames)) * 60

    assert seconds(3) == pytest.approx(0.04), "the jump"
    assert seconds(5) == pytest.approx(1.8), "a long still is not"
    assert seconds(6) == pytest.approx(0.04) and seconds(7) == pytest.approx(0.04)
    assert seconds(*range(8)) == pytest.approx(7 * 0.04 + 1.8)
    slow = make_detections([], 4, times=[0.0, 5.0, 10.0, 50.0])  # a picture every five seconds
    assert minutes_of(slow, np.array([False, False, True, False])) == pytest.approx(40 / 60)
    alarms = curve([found], [make_truth([(0, A, 1)], 8)])
    assert alarms.false_alarms_per_minute[-1] == pytest.approx(60 / (7 * 0.04 + 1.8))


def test_minutes_follow_variable_frame_times(make_detections):
    found = make_detections([], 4, times=[0.0, 0.5, 0.6, 0.7])
    assert minutes_of(found, np.array([True, False, False, False])) == pytest.approx(0.5 / 60)
    assert minutes_of(found, np.array([False, False, False, True])) == pytest.approx(0.1 / 60)
    single = make_detections([], 1)
    assert minutes_of(single, np.array([True])) == pytest.approx(0.1 / 60)  # fps 10


def test_pairing_is_checked(make_detections, make_truth):
    with pytest.raises(HemError, match="no detections"):
        pair_videos([], [make_truth([], 1)])
    with pytest.raises(HemError, match="two sets"):
        pair_videos([make_detections([], 1), make_detections([], 1)], [])
    with pytest.raises(HemError, match="frame 2 but the detections end after 2"):
        pair_videos([make_detections([], 2)], [make_truth([], 3)])
    cut = make_detections([], 2, gaps=[FrameGap(2, None, "gave up")])
    assert len(pair_videos([cut], [make_truth([], 3)])) == 1
    assert pair_videos([make_detections([], 2, "other.mp4")], []) == []
    with pytest.raises(HemError, match="label 0"):
        pair_videos([make_detections([], 1)], [make_truth([(0, A, 0)], 1)])


def still(boxes, scores):
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores, dtype=torch.float64), torch.ones(len(boxes))
    )


STILL_TARGETS = [Target(torch.tensor([A, B]), torch.tensor([1, 1]))]


def test_best_f1_threshold_takes_the_highest_of_equals():
    # 0.9: F1 = 2/3; 0.8 (false): 1/2; 0.7 (true): 4/5.
    matched = match_stills([still([A, C, B], [0.9, 0.8, 0.7])], STILL_TARGETS)
    assert best_f1_threshold(curve_of(matched)) == 0.7
    # 0.9 true: 2/3 ; then true + 2 false at 0.8: 4/6 = 2/3: equal, the higher wins.
    far = (300.0, 300.0, 310.0, 310.0)
    tied = match_stills([still([A, B, C, far], [0.9, 0.8, 0.8, 0.8])], STILL_TARGETS)
    assert curve_of(tied).f1.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert best_f1_threshold(curve_of(tied)) == 0.9


def objects(n):
    return [(frame, A, 1) for frame in range(n)]


@pytest.fixture
def scene(make_detections, make_truth):
    """10 frames of 0.1 s with one object each; the baseline's stills threshold is 0.7."""
    truth = [make_truth(objects(10), 10)]
    stills = [still([A, C, B], [0.9, 0.8, 0.7])]

    def video(hits, alarms):
        rows = [(k, A, 1, score) for k, score in enumerate(hits)]
        return [make_detections(rows + [(k, C, 1, score) for k, score in enumerate(alarms)], 10)]

    baseline = video([0.95, 0.9, 0.85, 0.8, 0.75, 0.6], [0.88, 0.77, 0.72, 0.5])
    point = baseline_point(stills, STILL_TARGETS, baseline, truth, n_classes=1)
    return truth, video, baseline, point


def test_operating_point_of_the_baseline(scene):
    truth, _, baseline, point = scene
    assert point.threshold == 0.7 and point.recall == 0.5
    # R0 is first reached at 0.75, before the false alarm at 0.72.
    assert point.false_alarms == 2 and point.false_alarms_per_minute == pytest.approx(120)
    figures = video_figures(point, baseline, truth, ("a",))
    assert figures["threshold"] == 0.75
    assert figures["false_alarms_per_minute"] == pytest.approx(120)
    assert figures["false_alarms_per_frame"] == pytest.approx(0.2)
    assert figures["recall"] == pytest.approx(0.5)
    assert figures["per_class"]["a"] == {k: v for k, v in figures.items() if k != "per_class"}


def test_arm_is_read_where_its_own_recall_reaches_r0(scene):
    truth, video, _, point = scene
    arm = curve(video([0.4, 0.39, 0.38, 0.37, 0.36, 0.2, 0.2], [0.365, 0.1, 0.05]), truth)
    figures = figures_at(point, arm)
    assert figures["threshold"] == 0.36
    assert figures["false_alarms_per_minute"] == pytest.approx(60)
    # Two false alarms allowed: down to 0.1, which is still above 0.05.
    assert figures["recall"] == pytest.approx(0.7)


def test_arm_with_tied_scores_takes_all_or_none(scene):
    truth, video, _, point = scene
    arm = curve(video([0.5] * 5, [0.5, 0.5, 0.5]), truth)
    figures = figures_at(point, arm)
    assert figures["false_alarms_per_minute"] == pytest.approx(180)
    assert figures["recall"] == 0.0  # its first threshold gives three, two are allowed
    exact = figures_at(point, curve(video([0.5] * 5, [0.5, 0.5]), truth))
    assert exact["recall"] == pytest.approx(0.5) and exact["false_alarms_per_minute"] == pytest.approx(120)


def test_arm_that_never_reaches_r0_and_arm_without_detections(scene):
    truth, video, _, point = scene
    weak = video_figures(point, video([0.9] * 4, []), truth)
    assert weak["false_alarms_per_minute"] is None and weak["false_alarms_per_frame"] is None
    assert weak["flickers_per_minute"] is None and weak["threshold"] is None
    assert weak["recall"] == pytest.approx(0.4)
    silent = figures_at(point, curve(video([], []), truth))
    assert silent["recall"] == 0.0 and silent["false_alarms_per_minute"] is None


def test_baseline_that_finds_nothing_measures_nothing(scene, make_truth):
    truth, video, baseline, _ = scene
    blind = operating_point(match_stills([still([C], [0.9])], STILL_TARGETS), match_videos(baseline, truth))
    assert blind.threshold is None and blind.recall is None
    assert set(figures_at(blind, curve(baseline, truth)).values()) == {None}
    # A good stills threshold, but no hit on video: R0 = 0 is measured, the rest is not.
    stills = match_stills([still([A, B], [0.9, 0.9])], STILL_TARGETS)
    zero = operating_point(stills, match_videos(video([], [0.95]), truth))
    assert zero.recall == 0.0 and zero.false_alarms_per_minute is None
    no_objects = operating_point(stills, match_videos(baseline, [make_truth([], 10)]))
    assert no_objects.recall is None


def test_classes_are_pooled_and_alone(make_detections, make_truth):
    truth = [make_truth([(0, A, 1), (0, B, 2), (1, B, 2)], 2)]
    found = [make_detections([(0, A, 1, 0.9), (0, B, 2, 0.8), (1, C, 2, 0.7)], 2)]
    stills = [
        Detections(torch.tensor([A, B]), torch.tensor([0.5, 0.6], dtype=torch.float64), torch.tensor([1, 2]))
    ]
    targets = [Target(torch.tensor([A, B]), torch.tensor([1, 2]))]
    point = baseline_point(stills, targets, found, truth, n_classes=2)
    assert point.recall == pytest.approx(2 / 3)
    assert point.per_class[1].recall == 1.0 and point.per_class[2].recall == 0.5
    assert point.per_class[1].threshold == 0.5 and point.per_class[2].threshold == 0.6
    figures = video_figures(point, found, truth, ("one", "two"))
    assert figures["per_class"]["two"]["false_alarms_per_minute"] == 0.0
    assert set(figures["per_class"]) == {"one", "two"}


def test_isolation_by_overlap(make_detections):
    def mask(rows, n_frames=20, threshold=0.5, **more):
        found = make_detections(rows, n_frames, **more)
        return isolated_by_overlap(found, threshold).tolist()

    assert mask([(10, A, 1, 0.9)]) == [True]
    assert mask([(10, A, 1, 0.5)]) == [True] and mask([(10, A, 1, 0.49)]) == [False]
    assert mask([(10, A, 1, 0.9), (15, A, 1, 0.9)]) == [False, False]
    assert mask([(10, A, 1, 0.9), (16, A, 1, 0.9)], 30) == [True, True]
    assert mask([(5, A, 1, 0.9), (10, A, 1, 0.9)]) == [False, False]
    assert mask([(10, A, 1, 0.9), (12, A, 2, 0.9)]) == [True, True]  # another class
    assert mask([(10, A, 1, 0.9), (12, A, 1, 0.4)]) == [True, False]  # below the threshold
    assert mask([(10, A, 1, 0.9), (10, A, 1, 0.9)]) == [True, True]  # same frame says nothing
    # Frames too near the ends are not examined: t - 4 >= 0 and t + 5 < n.
    assert [mask([(t, A, 1, 0.9)], 12)[0] for t in (3, 4, 6, 7)] == [False, True, True, False]
    assert mask([(10, A, 1, 0.9)], gaps=[FrameGap(12, 13, "damaged")]) == [False]
    assert mask([(10, A, 1, 0.9)], gaps=[FrameGap(16, 17, "damaged")]) == [True]


def test_isolation_iou_exactly_at_threshold_does_not_count(make_detections):
    # Inclusive pixels: 10x10 boxes (0..9), 5 columns and 8 rows common: 40 / 160 = 0.25.
    box, other = (0.0, 0.0, 9.0, 9.0), (5.0, 2.0, 14.0, 11.0)
    found = make_detections([(10, box, 1, 0.9), (11, other, 1, 0.9)], 20)
    assert isolated_by_overlap(found, 0.5, iou_threshold=0.25).tolist() == [True, True]
    assert isolated_by_overlap(found, 0.5, iou_threshold=0.2499).tolist() == [False, False]


def test_flickers_per_minute_counts_labelled_frames(make_detections, make_truth):
    found = [make_detections([(10, A, 1, 0.9), (30, A, 2, 0.9)], 60)]
    every, part = make_truth([], 60), make_truth([], 60, labelled=[k < 30 for k in range(60)])
    assert flickers_per_minute(found, [every], 0.5) == pytest.approx(20)  # 2 in 6 s
    assert flickers_per_minute(found, [part], 0.5) == pytest.approx(20)  # 1 in 3 s
    assert flickers_per_minute(found, [every], 0.5, label=2) == pytest.approx(10)
    assert flickers_per_minute(found, [every], None) is None
    assert flickers_per_minute([], [], 0.5) is None
    own = flickers_per_minute(found, [every], 0.5, lambda d, t: np.zeros(len(d), dtype=bool))
    assert own == 0.0


def test_a_gap_and_a_frame_without_time_are_each_enough_to_leave_it_out(make_detections, make_truth):
    truth = make_truth([], 4)
    damaged = make_detections([], 4, gaps=[FrameGap(2, 3, "damaged")])
    untimed = make_detections([], 4, times=[0.0, 0.1, float("nan"), 0.3])
    assert match_videos([damaged], [truth]).n_frames.tolist() == [3]
    assert match_videos([untimed], [truth]).n_frames.tolist() == [3]
