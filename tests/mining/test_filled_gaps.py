"""Filled gaps are misses: nothing was found there, and nothing says that there is no object."""

from dataclasses import replace

import numpy as np
import pytest

from hem.mining.run import query
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.replay.select import candidates, within_track_cap
from hem.structures import Kind, VideoDetections, VideoInfo
from hem.structures.evidence import BOX_REGION, CollectSettings, Evidence, NeighbourTable, ResponseTable

SETTINGS = CollectSettings(
    floor_score=0.0, window=3, max_gap=3, score_threshold=(0, 1), neighbour_threshold=(0, 1), variants=("a",)
)
LIMITS = TemporalThresholds(
    0.4, 0.2, window=2, window_s=9.0, min_window=1, max_gap=3, min_track=2, steadiness_threshold=0.1,
    visible_share=0.2, steady_share=0.05, label_threshold=0.8, link_iou=0.3,
)  # fmt: skip
ANSWERS = ElicitedThresholds(
    0.4, 0.2, negative_response=0.4, positive_response=0.5, min_variants=1, label_threshold=0.8
)
FRAMES, REACH = 20, 3


def place(frame, speed=7.0):
    """Where something 20 pixels wide is that moves: linked frame by frame, but hardly over its old place."""
    return np.array([10.0 + speed * frame, 20.0, 30.0 + speed * frame, 40.0])


def evidence_of(rows, speed=7.0, n_frames=FRAMES):
    """rows: (frame, box or None for where it is, score, response or None); matching finds it everywhere."""
    rows = sorted(
        ((t, place(t, speed) if box is None else box, *rest) for t, box, *rest in rows), key=lambda r: r[0]
    )
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=400, height=80, fps=10.0),
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.ones(len(rows)),
        np.arange(n_frames) / 10.0,
    )
    steps = [step for step in range(-REACH, REACH + 1) if step]
    near = [(at, s) for at, row in enumerate(rows) for s in steps if 0 <= row[0] + s < n_frames]
    places = [place(rows[at][0] + s, speed) for at, s in near]
    table = NeighbourTable(
        [at for at, _ in near], [s for _, s in near], [BOX_REGION] * len(near), [0.9] * len(near), places
    )
    asked = [(at, row[3]) for at, row in enumerate(rows) if row[3] is not None]
    answers = ResponseTable()
    if asked:
        answers = ResponseTable(
            [at for at, _ in asked], [0] * len(asked), [r for _, r in asked], [0.8] * len(asked)
        )
    return Evidence(found, np.zeros(n_frames), np.zeros(n_frames), SETTINGS, table, answers)


def kinds(evidence, frame, rule):
    limits = {"temporal": LIMITS, "hem": HemThresholds(LIMITS, ANSWERS)}[rule]
    return [e.kind for e in query(evidence, rule, limits).examples() if e.frame_index == frame]


def steady(missing, response=None):
    return [(t, None, 0.9, response) for t in range(4, 16) if t not in missing]


@pytest.mark.parametrize("rule", ["temporal", "hem"])
@pytest.mark.parametrize(
    ("off", "filled"), [(0.0, False), (8.0, False), (10.0, False), (11.0, True)], ids=str
)
def test_a_gap_in_which_it_was_found_is_none(rule, off, filled):
    """Off by 10 of 20 pixels IoU is 1/3, by 11 it is 9/31 = 0.29, below link_iou."""
    box = place(10) + np.array([0.0, off, 0.0, off])
    evidence = evidence_of([*steady((9, 10, 11)), (10, box, 0.9, None)])
    for frame in (9, 11):
        assert (Kind.HARD_POSITIVE in kinds(evidence, frame, rule)) is filled
    assert (Kind.HARD_POSITIVE in kinds(evidence, 10, rule)) is filled


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_what_is_below_the_threshold_of_labels_explains_nothing(rule):
    evidence = evidence_of([*steady((9, 10, 11)), (10, None, 0.3, None)])
    for frame in (9, 10, 11):
        assert kinds(evidence, frame, rule) == [Kind.HARD_POSITIVE]


@pytest.mark.parametrize(("response", "kind"), [(0.0, Kind.HARD_NEGATIVE), (0.9, Kind.HARD_POSITIVE)])
def test_a_detection_is_never_taught_as_false_and_as_missed(response, kind):
    evidence = evidence_of([*steady((10,)), (10, None, 0.5, response)])
    assert kinds(evidence, 10, "hem") == [kind]


@pytest.mark.parametrize("end", [9, 11])
def test_a_gap_between_false_alarms_is_ignored(end):
    rows = [(t, box, score, 0.0 if t == end else None) for t, box, score, _ in steady((10,))]
    evidence = evidence_of(rows)
    assert kinds(evidence, end, "hem") == [Kind.HARD_NEGATIVE]
    assert kinds(evidence, 10, "hem") == [Kind.IGNORE]
    assert kinds(evidence_of(steady((10,))), 10, "hem") == [Kind.HARD_POSITIVE]


def test_what_is_out_of_reach_is_no_gap():
    """Two objects, of which one goes as the other comes: nothing was ever between them."""

    def kinds_of(distance):
        box = place(0, 0.0) + np.array([distance, 0.0, distance, 0.0])
        rows = [(t, None, 0.9, None) for t in range(8)] + [(t, box, 0.9, None) for t in range(10, 18)]
        return {kind for frame in (8, 9) for kind in kinds(evidence_of(rows, 0.0), frame, "temporal")}

    assert kinds_of(31.0) == set() and kinds_of(29.0) != set()  # 2 searches of 0.75 of 20 pixels


def test_two_gaps_fill_one_detection_once():
    """Both tracks miss a frame, and the one unsure detection there lies over either of them."""
    here, beside = place(0, 0.0), place(0, 0.0) + np.array([0.0, 6.0, 0.0, 6.0])
    rows = [(t, box, 0.9, None) for t in range(18) for box in (here, beside) if t != 9]
    unsure = [(9, here + np.array([0.0, 3.0, 0.0, 3.0]), 0.3, None)]
    found = query(with_own_places(evidence_of(rows + unsure, 0.0)), "temporal", LIMITS).examples()
    filled = [e for e in found if e.frame_index == 9]
    assert [e.kind for e in filled] == [Kind.HARD_POSITIVE] and filled[0].score == 0.3
    apart = [e for e in query(with_own_places(evidence_of(rows, 0.0)), "temporal", LIMITS).examples()]
    assert [e.kind for e in apart if e.frame_index == 9] == [Kind.HARD_POSITIVE] * 2


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_a_round_can_cap_what_one_object_gives(rule):
    """Two objects, ten and five frames long, and a gap in the first."""
    below = np.array([0.0, 30.0, 0.0, 30.0])
    rows = [*steady((9,)), *((t, place(t) + below, 0.9, None) for t in range(4, 9)), (16, None, 0.3, None)]
    limits = {"temporal": LIMITS, "hem": HemThresholds(LIMITS, ANSWERS)}[rule]
    found = query(evidence_of(rows), rule, limits).examples()
    by_track = {}
    for example in found:
        by_track.setdefault(example.evidence.get("track_id"), []).append(example.frame_index)
    assert by_track == {  # the gap goes with what lies before it, and parts the object's track in two
        0: [4, 5, 6, 7, 8, 9],
        1: [4, 5, 6, 7, 8],
        2: [10, 11, 12, 13, 14, 15],
        None: [16],
    }
    last = [replace(e, kind=Kind.PSEUDO_LABEL, weight=1.0) for e in found if 10 <= e.frame_index <= 15]
    kept = within_track_cap(candidates(last, [Kind.PSEUDO_LABEL]), 4)
    assert len(kept.chosen) == 4 and kept.left_out["track_cap"] == 2


def with_own_places(evidence):
    """Let matching find each detection where it is, not where the track is."""
    near = evidence.neighbours
    places = evidence.detections.boxes_xyxy[near.candidate]
    return replace(evidence, neighbours=replace(near, tracked_xyxy=places))
