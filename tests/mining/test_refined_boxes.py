"""Positives get boxes averaged over the answers; labels may have to wait for an answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hem.artifacts.evidence import load_evidence, save_evidence
from hem.mining.elicited import elicit
from hem.mining.fuse import detection_of, refined_boxes
from hem.mining.run import query
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import Detections, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, ResponseTable

HOME = (20.0, 20.0, 40.0, 40.0)
NOWHERE = (np.nan,) * 4
LIMITS = TemporalThresholds(0.5, 0.2, window=2, window_s=9.0, min_window=1, max_gap=0, min_track=2)
ANSWERS = ElicitedThresholds(
    0.5, 0.2, negative_response=0.1, positive_response=0.4, min_variants=1, support_weight=0.0
)


def track(answers, calls=2):
    """One object in frames 0..6 with score 0.8, and the answers to frame 3: (score, box) a variant."""
    found = VideoDetections(
        VideoInfo("v.mp4", digest="ab" * 32, width=100, height=80, fps=10.0),
        np.arange(7),
        np.array([HOME] * 7),
        np.full(7, 0.8),
        np.ones(7),
        np.arange(7) / 10.0,
    )
    scores, boxes = [score for score, _ in answers], [box for _, box in answers]
    count = len(answers)
    table = ResponseTable([3] * count, range(count), scores, [float(s > 0) for s in scores], boxes or None)
    settings = CollectSettings(
        floor_score=0.0, window=2, max_gap=0, score_threshold=(0, 1), neighbour_threshold=(0, 1),
        variants=("a", "b"),
    )  # fmt: skip
    return Evidence(
        found,
        np.zeros(7),
        np.zeros(7),
        settings,
        responses=table,
        detector_calls=7,
        elicit_calls=calls,
    )


def mined(evidence, rule="hem", **changes):
    answers = replace(ANSWERS, **changes)
    return query(evidence, rule, HemThresholds(LIMITS, answers) if rule == "hem" else answers).examples()


def test_the_mean_by_score_and_nothing_where_nobody_answered():
    evidence = track([(0.8, (22.0, 20.0, 44.0, 40.0)), (0.4, (20.0, 25.0, 40.0, 45.0))])
    refined = refined_boxes(evidence)
    # (0.8 · 20 + 0.8 · 22 + 0.4 · 20) / 2 and so on
    assert refined[3] == pytest.approx([20.8, 21.0, 41.6, 41.0])
    assert refined[[0, 1, 2, 4, 5, 6]].tolist() == [list(HOME)] * 6


@pytest.mark.parametrize("answers", [[(0.0, NOWHERE), (0.9, NOWHERE)], []])
def test_answers_without_a_box_move_nothing(answers):
    assert refined_boxes(track(answers)).tolist() == [list(HOME)] * 7


@pytest.mark.parametrize("rule", ["hem", "elicited"])
def test_positives_move_and_everything_else_stays(rule):
    answers = [(0.8, (22.0, 20.0, 44.0, 40.0)), (0.8, (22.0, 20.0, 44.0, 40.0))]
    boxes = {e.frame_index: e.box_xyxy for e in mined(track(answers), rule)}
    assert boxes[3] == pytest.approx((21.333333, 20.0, 42.666667, 40.0))
    assert {box for frame, box in boxes.items() if frame != 3} <= {HOME}
    assert dict.fromkeys(boxes, HOME) == {
        e.frame_index: e.box_xyxy for e in mined(track(answers), rule, refine_boxes=False)
    }
    weak = [(0.05, (22.0, 20.0, 44.0, 40.0))] * 2  # mean response below negative_response: false
    (negative,) = [e for e in mined(track(weak), rule) if e.frame_index == 3]
    assert (negative.kind, negative.box_xyxy) == (Kind.HARD_NEGATIVE, HOME)


@pytest.mark.parametrize("refine", [True, False])
def test_an_example_finds_its_detection_again(refine):
    evidence = track([(0.8, (22.0, 20.0, 44.0, 40.0)), (0.8, (22.0, 20.0, 44.0, 40.0))])
    found = mined(evidence, refine_boxes=refine)
    assert [detection_of(evidence, one) for one in found] == [one.frame_index for one in found]
    moved = replace(found[0], box_xyxy=(20.02, 20.0, 40.0, 40.0))
    assert detection_of(evidence, moved) is None
    assert detection_of(evidence, replace(found[0], label=2)) is None


def test_labels_wait_for_an_answer_only_where_others_were_asked():
    answers = [(0.8, HOME), (0.8, HOME)]

    def kinds(elicit_calls, need):
        found = mined(track(answers, elicit_calls), labels_need_answer=need)
        return {e.frame_index: e.kind for e in found if 0 < e.frame_index < 6}  # the ends are not steady

    assert set(kinds(2, False).values()) == {Kind.PSEUDO_LABEL}
    asked = kinds(2, True)
    assert asked.pop(3) is Kind.PSEUDO_LABEL
    assert len(asked) == 4 and set(asked.values()) == {Kind.IGNORE}
    assert set(kinds(0, True).values()) == {Kind.PSEUDO_LABEL}  # a pass that asked nobody


def test_boxes_of_answers_survive_the_disk(tmp_path):
    evidence = track([(0.8, (22.0, 20.0, 44.0, 40.0)), (0.0, NOWHERE)])
    save_evidence(tmp_path / "e", evidence)
    back = load_evidence(tmp_path / "e")
    assert np.array_equal(back.responses.box_xyxy, evidence.responses.box_xyxy, equal_nan=True)
    assert mined(back) == mined(evidence)


def test_elicit_gives_the_box_in_pixels_of_the_frame():
    frame = torch.zeros((3, 60, 100), dtype=torch.uint8)

    def detect(frames):
        rows = [[[62.0, 10.0, 80.0, 30.0]], []]  # mirrored, then darker, where nothing is found
        return [
            Detections(torch.tensor(r).reshape(-1, 4).double(), torch.full((len(r),), 0.7).double(),
                       torch.ones(len(r), dtype=torch.int64))
            for r in rows
        ]  # fmt: skip

    boxes = np.array([[20.0, 10.0, 40.0, 30.0], [70.0, 40.0, 90.0, 55.0]])
    _, _, places = elicit(frame, boxes, np.ones(2, dtype=np.int64), detect, ["mirror", "darker"])
    assert places.shape == (2, 2, 4)
    assert places[0, 0].tolist() == [20.0, 10.0, 38.0, 30.0]
    assert np.isnan(places[0, 1]).all() and np.isnan(places[1]).all()
