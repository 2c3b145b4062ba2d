"""Hand-made evidence: what each threshold of the temporal rule does at its boundary."""

from dataclasses import replace

import numpy as np
import pytest

from hem.errors import HemError
from hem.mining.temporal import query_temporal, steadiness
from hem.mining.thresholds import TemporalThresholds
from hem.structures import Kind, VideoDetections, VideoInfo
from hem.structures.evidence import BOX_REGION, CollectSettings, Evidence, NeighbourTable
from hem.structures.video import FrameGap

SETTINGS = CollectSettings(
    floor_score=0.0, window=3, max_gap=3, score_threshold=(0, 1), neighbour_threshold=(0, 1)
)
LIMITS = TemporalThresholds(
    0.5, 0.2, window=2, window_s=9.0, min_window=1, max_gap=3, min_track=2, steadiness_threshold=0.1
)
HOME = (20.0, 20.0, 40.0, 40.0)


def evidence_of(rows, n_frames=9, cuts=(), duplicates=(), ncc=0.9, matched=None, tracked=HOME):
    """rows: (frame, box, score[, label]); every row is matched at +-1..3 with ``ncc`` at ``tracked``."""
    rows = sorted(rows, key=lambda row: row[0])
    found = VideoDetections(
        video=VideoInfo("v.mp4", digest="ab" * 32, width=100, height=80, fps=10.0),
        frame_index=np.array([row[0] for row in rows]),
        boxes_xyxy=np.array([row[1] for row in rows]),
        scores=np.array([row[2] for row in rows]),
        labels=np.array([row[3] if len(row) > 3 else 1 for row in rows]),
        frame_times_s=np.arange(n_frames) / 10.0,
    )
    near = [
        (at, step)
        for at, row in enumerate(rows)
        for step in (-3, -2, -1, 1, 2, 3)
        if 0 <= row[0] + step < n_frames and (matched is None or at in matched)
    ]
    table = NeighbourTable(
        [at for at, _ in near],
        [step for _, step in near],
        np.full(len(near), BOX_REGION),
        np.full(len(near), ncc),
        np.tile(tracked, (len(near), 1)),
    )
    flags = np.zeros((2, n_frames), dtype=bool)
    flags[0, list(cuts)] = True
    flags[1, list(duplicates)] = True
    return Evidence(found, flags[0], flags[1], SETTINGS, table)


def kinds(evidence, limits=LIMITS):
    return {(e.frame_index, e.score): e.kind for e in query_temporal(evidence, limits).examples()}


def test_a_lone_confident_detection_is_a_hard_negative():
    assert kinds(evidence_of([(4, HOME, 0.5)])) == {(4, 0.5): Kind.HARD_NEGATIVE}  # exactly at it


def test_under_the_seed_threshold_it_is_ignored_and_under_the_low_one_nothing():
    assert kinds(evidence_of([(4, HOME, 0.49)])) == {(4, 0.49): Kind.IGNORE}
    assert kinds(evidence_of([(4, HOME, 0.2)])) == {(4, 0.2): Kind.IGNORE}
    assert kinds(evidence_of([(4, HOME, 0.19)])) == {}


def test_ignore_regions_may_reach_below_what_counts_as_a_neighbour():
    low = replace(LIMITS, ignore_threshold=0.1)
    assert kinds(evidence_of([(4, HOME, 0.1)]), low) == {(4, 0.1): Kind.IGNORE}  # exactly at it
    assert kinds(evidence_of([(4, HOME, 0.09)]), low) == {}
    # 0.19 is ignored, and still is no neighbour that would save the detection between
    around = [(3, HOME, 0.19), (4, HOME, 0.9), (5, HOME, 0.19)]
    assert kinds(evidence_of(around), low)[4, 0.9] is Kind.HARD_NEGATIVE
    with pytest.raises(HemError, match="ignore_threshold"):
        replace(LIMITS, ignore_threshold=0.21)


def test_hysteresis_low_neighbours_save_a_true_object():
    wobbling = [(3, HOME, 0.3), (4, HOME, 0.9), (5, HOME, 0.3)]
    assert kinds(evidence_of(wobbling))[4, 0.9] is not Kind.HARD_NEGATIVE
    deleted = replace(LIMITS, neighbour_threshold=0.31)
    assert kinds(evidence_of(wobbling), deleted)[4, 0.9] is Kind.HARD_NEGATIVE


def test_neighbours_of_another_class_do_not_count():
    others = [(3, HOME, 0.9, 2), (4, HOME, 0.9), (5, HOME, 0.9, 2)]
    table = query_temporal(evidence_of(others), LIMITS)
    assert table.kind[(table.frame_index == 4)].tolist() == [0]


@pytest.mark.parametrize(("ncc", "kind"), [(0.3, Kind.HARD_NEGATIVE), (0.2999, Kind.IGNORE)])
def test_appearance_is_asked_of_empty_neighbour_frames_too(ncc, kind):
    assert kinds(evidence_of([(4, HOME, 0.9)], ncc=ncc)) == {(4, 0.9): kind}


@pytest.mark.parametrize("where", [{"cuts": (4,)}, {"cuts": (5,)}])
def test_a_side_cut_off_is_no_evidence(where):
    assert kinds(evidence_of([(4, HOME, 0.9)], **where)) == {(4, 0.9): Kind.IGNORE}
    assert kinds(evidence_of([(0, HOME, 0.9)])) == {(0, 0.9): Kind.IGNORE}  # the video's first frame


def test_repeated_frames_are_passed_over():
    frozen = [(4, HOME, 0.9), (5, HOME, 0.9)]
    found = kinds(evidence_of(frozen, duplicates=(5,)))
    assert found == {(4, 0.9): Kind.HARD_NEGATIVE}  # frame 5 neither supports it nor is mined itself
    assert kinds(evidence_of(frozen))[4, 0.9] is not Kind.HARD_NEGATIVE


def test_support_is_looked_for_along_the_tracked_path():
    away = (60.0, 20.0, 80.0, 40.0)
    rows = [(3, away, 0.9), (4, HOME, 0.9), (5, away, 0.9)]
    at_home = steadiness(evidence_of(rows), LIMITS)
    followed = steadiness(evidence_of(rows, tracked=away), LIMITS)
    assert at_home.support[1] == 0 and followed.support[1] == pytest.approx(2 / 4)
    doubted = steadiness(evidence_of(rows, tracked=away), replace(LIMITS, track_ncc=0.91))
    assert doubted.support[1] == 0


def test_seconds_bound_the_window_and_min_window_keeps_the_nearest():
    rows = [(2, HOME, 0.9), (4, HOME, 0.9), (6, HOME, 0.9)]
    assert steadiness(evidence_of(rows), LIMITS).support[1] == pytest.approx(0.5)
    assert steadiness(evidence_of(rows), replace(LIMITS, window_s=0.1)).support[1] == 0
    two = replace(LIMITS, window_s=0.1, min_window=2)
    assert steadiness(evidence_of(rows), two).support[1] == pytest.approx(0.5)


@pytest.mark.parametrize(("ncc", "kind"), [(0.9, Kind.HARD_NEGATIVE), (0.1, Kind.IGNORE)])
def test_very_sure_detections_are_admitted_on_strong_evidence(ncc, kind):
    assert kinds(evidence_of([(4, HOME, 0.99)], ncc=ncc)) == {(4, 0.99): kind}
    weak = [(4, HOME, 0.99), (6, (30.0, 20.0, 50.0, 40.0), 0.9)]  # IoU 1/3 in one of four frames
    assert kinds(evidence_of(weak))[4, 0.99] is Kind.IGNORE
    assert kinds(evidence_of(weak), replace(LIMITS, max_score=1.0))[4, 0.99] is Kind.HARD_NEGATIVE


def test_a_very_sure_detection_must_be_seen_in_every_frame_around_it():
    hidden = np.array([0.9, 0.9, 0.1, 0.9, 0.9, 0.9])  # in the frame before it
    half = replace(LIMITS, visible_share=0.5)
    assert kinds(evidence_of([(4, HOME, 0.8)], ncc=hidden), half) == {(4, 0.8): Kind.HARD_NEGATIVE}
    assert kinds(evidence_of([(4, HOME, 0.99)], ncc=hidden), half) == {(4, 0.99): Kind.IGNORE}


def test_border_and_size_are_relative_to_the_box():
    near = (5.0, 20.0, 25.0, 40.0)  # a quarter of its side away from the border
    limits = replace(LIMITS, border=0.25)
    assert kinds(evidence_of([(4, near, 0.9)]), limits) == {(4, 0.9): Kind.HARD_NEGATIVE}
    assert kinds(evidence_of([(4, near, 0.9)]), replace(limits, border=0.26)) == {(4, 0.9): Kind.IGNORE}
    small = replace(LIMITS, min_side=20.0)
    assert kinds(evidence_of([(4, near, 0.9)]), small) == {(4, 0.9): Kind.HARD_NEGATIVE}
    assert kinds(evidence_of([(4, near, 0.9)]), replace(small, min_side=20.1)) == {(4, 0.9): Kind.IGNORE}


def track(*frames, score=0.9):
    return [(frame, HOME, score) for frame in frames]


def test_a_gap_in_a_steady_track_is_a_hard_positive_with_the_teachers_low_score():
    table = query_temporal(evidence_of([*track(1, 2, 5, 6), (4, HOME, 0.25)]), LIMITS)
    found = [e for e in table.examples() if e.kind is Kind.HARD_POSITIVE]
    assert [e.frame_index for e in found] == [3, 4]
    assert [e.score for e in found] == [None, 0.25]
    assert all(e.box_xyxy == pytest.approx(HOME) and e.weight == pytest.approx(0.9) for e in found)
    assert not [e for e in table.examples() if e.kind is Kind.IGNORE and e.frame_index == 4]
    pseudo = [e.frame_index for e in table.examples() if e.kind is Kind.PSEUDO_LABEL]
    assert 4 not in pseudo


@pytest.mark.parametrize(
    ("more", "limits", "kind"),
    [
        ({}, {}, Kind.HARD_POSITIVE),
        ({}, {"max_gap": 2}, Kind.HARD_POSITIVE),
        ({}, {"max_gap": 1}, None),
        ({}, {"min_track": 3}, None),
        *(({"cuts": (cut,)}, {}, Kind.IGNORE) for cut in (3, 4, 5)),  # another scene: nobody can tell
        ({"ncc": 0.2}, {}, Kind.IGNORE),  # occluded: nobody can tell
        ({"matched": (0, 1)}, {}, None),  # (only one side was matched)
    ],
)
def test_what_a_gap_needs(more, limits, kind):
    table = query_temporal(evidence_of(track(1, 2, 5, 6), **more), replace(LIMITS, **limits))
    found = {e.kind for e in table.examples() if e.frame_index in (3, 4)}
    if more.get("matched"):
        assert Kind.HARD_POSITIVE not in found
    else:
        assert found == ({kind} if kind else set())


def test_over_lost_frames_nothing_is_concluded():
    evidence = evidence_of(track(1, 2, 5, 6))
    times = np.arange(9) / 10.0
    times[3] = np.nan
    lost = replace(evidence.detections, frame_times_s=times, gaps=(FrameGap(3, 4, "damaged"),))
    table = query_temporal(replace(evidence, detections=lost), LIMITS)
    assert not [e for e in table.examples() if e.frame_index in (3, 4)]


def test_an_ignored_gap_is_not_said_again_of_the_detection_in_it():
    rows = [*track(1, 2, 4, 5), (3, HOME, 0.3)]
    found = query_temporal(evidence_of(rows, ncc=0.2), LIMITS).examples()
    assert [e.kind for e in found if e.frame_index == 3] == [Kind.IGNORE]
    beside = query_temporal(evidence_of([*rows[:4], (3, (21.0, 20.0, 41.0, 40.0), 0.3)], ncc=0.2), LIMITS)
    assert [e.kind for e in beside.examples() if e.frame_index == 3] == [Kind.IGNORE] * 2


def test_gaps_are_filled_where_every_score_counts():
    """As with detections of another program, whose scores have no least value."""
    lowest = float("-inf")
    evidence = evidence_of(track(1, 2, 5, 6))
    every = (lowest, float("inf"))
    collected = replace(
        evidence.collected, floor_score=lowest, score_threshold=every, neighbour_threshold=every
    )
    limits = replace(LIMITS, score_threshold=lowest, neighbour_threshold=lowest, label_threshold=lowest)
    table = query_temporal(replace(evidence, collected=collected), limits)
    assert [e.frame_index for e in table.examples() if e.kind is Kind.HARD_POSITIVE] == [3, 4]


def test_weights_rise_with_each_kind_of_evidence():
    def weight(rows, **more):
        table = query_temporal(evidence_of(rows, **more), replace(LIMITS, visible_share=0.1))
        return float(table.weights[(table.frame_index == 4) & (table.kind == 0)][0])

    alone, leaning = [(4, HOME, 0.9)], [(4, HOME, 0.9), (6, (32.0, 20.0, 52.0, 40.0), 0.9)]
    assert weight(alone) == 1.0
    assert 0.5 <= weight(leaning) < weight(alone)


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"min_track": 0},
        {"max_gap": -1},
        {"link_iou": 0.0},
        {"neighbour_threshold": 0.6},
        {"visible_share": 1.1},
    ],
)
def test_thresholds_are_checked(change):
    with pytest.raises(HemError, match=next(iter(change))):
        replace(LIMITS, **change)
