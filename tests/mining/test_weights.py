"""The weight of an example is monotone in each kind of evidence, everything else being equal."""

from dataclasses import replace

import numpy as np
import pytest

from hem.mining.run import query
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Kind, VideoDetections, VideoInfo
from hem.structures.evidence import BOX_REGION, CollectSettings, Evidence, NeighbourTable, ResponseTable

SETTINGS = CollectSettings(
    floor_score=0.0, window=3, max_gap=3, score_threshold=(0, 1), neighbour_threshold=(0, 1), variants=("a",)
)
LIMITS = TemporalThresholds(
    0.5, 0.2, window=2, window_s=9.0, min_window=1, max_gap=3, min_track=2, steadiness_threshold=0.6,
    visible_share=0.2, inside_weight=0.2, steady_share=0.05,
)  # fmt: skip
STEADY = replace(LIMITS, steadiness_threshold=0.2)  # what is found twice in a row is no false alarm
ANSWERS = ElicitedThresholds(
    0.5, 0.2, negative_response=0.4, positive_response=0.4, min_variants=1, needs_answer=False,
    support_weight=1.0,
)  # fmt: skip
HOME = (20.0, 20.0, 40.0, 40.0)
RULES = ("temporal", "elicited", "hem")


def evidence_of(rows, ncc=0.9, response=None, candidate=None, n_frames=9):
    """rows: (frame, box, score); each is matched at +-1..3 in place, with ``ncc`` (by step if a dict)."""
    rows = sorted(rows)
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=100, height=80, fps=10.0),
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.ones(len(rows)),
        np.arange(n_frames) / 10.0,
    )
    steps = (-3, -2, -1, 1, 2, 3)
    near = [(at, s) for at, row in enumerate(rows) for s in steps if 0 <= row[0] + s < n_frames]
    values = [ncc[s] if isinstance(ncc, dict) else ncc for _, s in near]
    table = NeighbourTable(
        [at for at, _ in near], [s for _, s in near], [BOX_REGION] * len(near), values, [HOME] * len(near)
    )
    answers = ResponseTable()
    if response is not None:
        at = next(k for k, row in enumerate(rows) if row[0] == candidate)
        answers = ResponseTable([at], [0], [response], [0.8])
    return Evidence(found, np.zeros(n_frames), np.zeros(n_frames), SETTINGS, table, answers)


def weight(evidence, rule, kind, frame=4, limits=LIMITS):
    thresholds = {"temporal": limits, "elicited": ANSWERS, "hem": HemThresholds(limits, ANSWERS)}[rule]
    found = [e for e in query(evidence, rule, thresholds).examples() if e.frame_index == frame]
    assert [e.kind for e in found[:1]] == [kind], (rule, found)
    return found[0].weight


def rises(values, strictly=True):
    """Whether no value is below the one before, and strictly: some value is above it."""
    steps = np.diff(values)
    return (steps >= 0).all() and (not strictly or steps.max() > 0)


@pytest.mark.parametrize("rule", ["elicited", "hem"])
def test_a_lower_response_makes_a_negative_weigh_more(rule):
    responses = (0.25, 0.2, 0.15, 0.1, 0.0)  # the frame before supports it a little: IoU 1/3, so far lower
    doubtful = [(3, (30.0, 20.0, 50.0, 40.0), 0.9), (4, HOME, 0.9)]  # alone, the video says 1 already
    assert rises([weight(evidence_of(doubtful, 0.9, r, 4), rule, Kind.HARD_NEGATIVE) for r in responses])


def test_support_makes_a_negative_weigh_less_until_it_is_none():
    lone, weights = (4, HOME, 0.9), []
    for step in range(3):  # detections at its place in more and more frames around
        rows = [lone, *((4 + sign * (k + 1), HOME, 0.9) for k in range(step) for sign in (-1, 1))]
        found = query(
            evidence_of(rows, 0.9, 0.05, 4), "hem", HemThresholds(LIMITS, replace(ANSWERS, clear_iou=1.0))
        ).examples()
        weights.append(next((e.weight, e.kind) for e in found if e.frame_index == 4))
    kinds = [kind for _, kind in weights]
    assert kinds == [Kind.HARD_NEGATIVE, Kind.HARD_NEGATIVE, Kind.IGNORE]
    assert weights[0][0] > weights[1][0]
    alone = HemThresholds(LIMITS, replace(ANSWERS, support_weight=0.0))
    found = query(evidence_of(rows, 0.9, 0.05, 4), "hem", alone).examples()
    assert [e.kind for e in found if e.frame_index == 4] == [Kind.HARD_NEGATIVE]


@pytest.mark.parametrize("rule", ["elicited", "hem"])
def test_a_higher_response_makes_a_label_weigh_more(rule):
    track = [(t, HOME, 0.9) for t in range(2, 7)]
    limits = replace(LIMITS, iou_threshold=0.5, steadiness_threshold=0.01)
    assert rises(
        [
            weight(evidence_of(track, 0.9, r, 4), rule, Kind.PSEUDO_LABEL, limits=limits)
            for r in (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
        ],
        strictly=rule == "elicited",  # hem's may be 1 already, from the track
    )


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_surer_neighbours_make_a_negative_weigh_less(rule):
    beside = (30.0, 20.0, 50.0, 40.0)  # IoU 1/3 with it
    ranks = [(0, (60.0, 50.0, 70.0, 60.0), s) for s in (0.25, 0.35, 0.45, 0.55)]
    neighbours = (0.19, 0.3, 0.4, 0.5, 0.6)  # the first is under neighbour_threshold
    found = [
        weight(evidence_of([*ranks, (3, beside, s), (4, HOME, 0.9)]), rule, Kind.HARD_NEGATIVE)
        for s in neighbours
    ]
    assert rises(found[::-1])
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_more_overlap_in_a_neighbour_frame_makes_a_negative_weigh_less(rule):
    shifted = [(3, (20.0 + x, 20.0, 40.0 + x, 40.0), 0.9) for x in (5, 10, 15, 19, 21)]
    assert rises([weight(evidence_of([row, (4, HOME, 0.9)]), rule, Kind.HARD_NEGATIVE) for row in shifted])


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_more_frames_that_show_its_picture_make_a_negative_weigh_more(rule):
    seen = [{s: 0.9 if abs(s) <= far else 0.0 for s in (-3, -2, -1, 1, 2, 3)} for far in (1, 2)]
    assert rises([weight(evidence_of([(4, HOME, 0.9)], ncc), rule, Kind.HARD_NEGATIVE) for ncc in seen])


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_lying_in_a_surer_box_makes_a_negative_weigh_more(rule):
    around = [(4, (20.0 + x, 10.0, 90.0 + x, 70.0), 0.95) for x in (20, 15, 10, 5, 0)]
    beside = (3, (30.0, 20.0, 50.0, 40.0), 0.9)
    loose = replace(ANSWERS, clear_iou=1.0)
    limits = LIMITS if rule == "temporal" else HemThresholds(LIMITS, loose)
    found = []
    for row in around:
        examples = query(evidence_of([row, beside, (4, HOME, 0.9)]), rule, limits).examples()
        found.append(next(e.weight for e in examples if e.box_xyxy == HOME))
        assert next(e.kind for e in examples if e.box_xyxy == HOME) is Kind.HARD_NEGATIVE
    assert rises(found)


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_surer_neighbours_make_a_label_weigh_more(rule):
    limits = replace(LIMITS, steadiness_threshold=0.01)
    ranks = [(8, (60.0, 50.0, 70.0, 60.0), s) for s in (0.25, 0.35, 0.45)]
    tracks = [[*ranks, (3, HOME, s), (4, HOME, 0.9), (5, HOME, s)] for s in (0.22, 0.3, 0.4, 0.5, 0.89)]
    found = [weight(evidence_of(rows), rule, Kind.PSEUDO_LABEL, limits=limits) for rows in tracks]
    assert rises(found)
    assert len(set(found)) > 2


@pytest.mark.parametrize("rule", ["temporal", "hem"])
def test_a_better_match_makes_a_filled_gap_weigh_more(rule):
    broken = [(t, HOME, 0.9) for t in (2, 3, 5, 6)]
    limits = replace(STEADY, agree_iou=0.3)
    assert rises(
        [
            weight(evidence_of(broken, ncc), rule, Kind.HARD_POSITIVE, limits=limits)
            for ncc in (0.3, 0.5, 0.7, 0.9, 1.0)
        ]
    )


@pytest.mark.parametrize("response", [None, 0.0, 0.2, 0.39])
def test_a_second_kind_of_evidence_never_lowers_the_weight(response):
    lone = [(4, HOME, 0.9)]
    alone = weight(evidence_of(lone), "hem", Kind.HARD_NEGATIVE)
    both = weight(evidence_of(lone, 0.9, response, 4), "hem", Kind.HARD_NEGATIVE)
    assert both >= alone == weight(evidence_of(lone), "temporal", Kind.HARD_NEGATIVE)


@pytest.mark.parametrize("limit", [float("-inf"), float("inf")])
def test_a_quantile_beyond_all_detections_still_gives_a_weight(limit):
    """With few detections a quantile setting admits all of them, down to no score at all."""
    answers = replace(ANSWERS, negative_response=min(limit, 0.0), positive_response=limit)
    evidence = evidence_of([(t, HOME, 0.9) for t in range(2, 7)])
    found = query(evidence, "hem", HemThresholds(replace(LIMITS, steadiness_threshold=0.01), answers))
    assert len(found) and np.isfinite(found.weights).all()


def test_without_an_answer_a_negative_is_ignored_where_answers_are_needed():
    needed = HemThresholds(LIMITS, replace(ANSWERS, needs_answer=True))

    def kind(evidence):
        return [e.kind for e in query(evidence, "hem", needed).examples() if e.frame_index == 4]

    lone = [(4, HOME, 0.9)]
    others_asked = replace(evidence_of(lone), elicit_calls=3)
    assert kind(others_asked) == [Kind.IGNORE]
    asked = replace(evidence_of(lone, 0.9, 0.0, 4), elicit_calls=3)
    assert kind(asked) == [Kind.HARD_NEGATIVE]
    assert kind(evidence_of(lone)) == [Kind.HARD_NEGATIVE]  # nobody was asked: the video decides


def test_a_filled_gap_waits_for_an_answer_where_others_were_asked():
    broken = replace(evidence_of([(t, HOME, 0.9) for t in (2, 3, 5, 6)]), elicit_calls=1)
    kinds = {}
    for need in (False, True):
        limits = HemThresholds(STEADY, replace(ANSWERS, labels_need_answer=need))
        (gap,) = [e for e in query(broken, "hem", limits).examples() if e.frame_index == 4]
        kinds[need] = gap.kind, gap.weight > 0
    assert kinds == {False: (Kind.HARD_POSITIVE, True), True: (Kind.IGNORE, False)}
