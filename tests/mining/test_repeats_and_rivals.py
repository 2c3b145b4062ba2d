"""What must not change a verdict, and what must not have two."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.fuse import response_weight
from hem.mining.matching import BoxTemplate
from hem.mining.run import query
from hem.mining.table import IGNORE, NEGATIVE, POSITIVE, PSEUDO, MinedTable, off_labels
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures import FrameBatch, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence, ResponseTable

ASKED = CollectSettings(
    floor_score=0.1, search_margin=None, variants=("noise", "mirror"), score_threshold=(0.1, 1.0),
    neighbour_threshold=(0.1, 1.0),
)  # fmt: skip
LIMITS = TemporalThresholds(score_threshold=0.5, neighbour_threshold=0.1)


def found_in(frames, boxes, scores, n_frames, fps=10.0):
    video = VideoInfo("a.mp4", digest="ab" * 32, width=200, height=200, fps=fps)
    return VideoDetections(
        video, np.array(frames), np.array(boxes, dtype=float), np.array(scores), np.ones(len(frames)),
        np.arange(n_frames) / fps, floor_score=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ["elicited", "hem"])
@pytest.mark.parametrize("label", [1, 2])
@pytest.mark.parametrize(("own", "kind"), [(0.4, Kind.HARD_POSITIVE), (0.7, Kind.PSEUDO_LABEL)])
def test_no_hard_negative_lies_on_what_is_taught_as_an_object_of_its_class(rule, label, own, kind):
    """In frame 2 of a track the object is found and answers; a box of it as sure, or surer, does not."""
    boxes = [[20, 20, 60, 100]] * 3 + [[24, 20, 74, 100]] + [[20, 20, 60, 100]] * 2
    found = found_in([0, 1, 2, 2, 3, 4], boxes, [0.9, 0.9, own, 0.7, 0.9, 0.9], 5)
    found = replace(found, labels=np.array([1, 1, 1, label, 1, 1]))
    answers = ResponseTable(
        [2, 2, 3, 3], [0, 1, 0, 1], [0.8, 0.8, 0.2, 0.2], [0.9] * 4, np.tile([[20.0, 20, 60, 100]], (4, 1))
    )
    evidence = Evidence(
        found, np.zeros(5), np.zeros(5), ASKED, responses=answers, elicit_calls=2, detector_calls=5
    )
    asked = ElicitedThresholds(score_threshold=0.5, min_variants=2, support_weight=0.0, clear_iou=1.0)
    thresholds = {"elicited": asked, "hem": HemThresholds(LIMITS, asked)}[rule]
    kinds = [e.kind for e in query(evidence, rule, thresholds).examples() if e.frame_index == 2]
    other = Kind.IGNORE if label == 1 else Kind.HARD_NEGATIVE  # of another class it may be false
    assert sorted(kinds) == sorted([kind, other])


@pytest.mark.parametrize("top", [1.0, np.inf])
def test_what_is_seen_all_along_is_no_hard_negative_however_high_labels_are_asked_for(top):
    """Half of what a label needs is answered, and the frames around hold it: that is never false."""
    found = replace(
        found_in(range(9), [[20, 20, 60, 100]] * 9, [0.9] * 9, 9),
        score_range=None if top == 1 else (0.0, top),
    )
    answers = ResponseTable([4, 4], [0, 1], [0.45, 0.45], [0.9] * 2)
    evidence = Evidence(
        found, np.zeros(9), np.zeros(9), ASKED, responses=answers, elicit_calls=2, detector_calls=9
    )
    for positive in (0.6, 0.8, 0.9, 1.0, np.inf):
        asked = ElicitedThresholds(0.5, min_variants=2, negative_response=0.5, positive_response=positive)
        said = query(evidence, "hem", HemThresholds(LIMITS, asked)).examples()
        assert not [e for e in said if e.kind is Kind.HARD_NEGATIVE], positive
    alone = replace(asked, support_weight=0.0)
    said = query(evidence, "hem", HemThresholds(LIMITS, alone)).examples()
    assert [e.frame_index for e in said if e.kind is Kind.HARD_NEGATIVE] == [4]


@pytest.mark.parametrize(("most", "weights"), [(1.0, [0.5, 1.0, 1.0]), (100.0, [0.5, 0.8, 1.0])])
def test_a_positive_weighs_by_where_its_answer_lies_up_to_the_highest_score(most, weights):
    asked = ElicitedThresholds(score_threshold=60.0, positive_response=50.0)
    answers = np.array([50.0, 80.0, 100.0])
    np.testing.assert_allclose(response_weight(answers, answers, asked, most)[1], weights)


def test_hard_negatives_are_held_against_the_boxes_that_are_taught():
    """Also those of gaps, which no detection (row -1) tells of."""
    kinds = [NEGATIVE, POSITIVE, NEGATIVE, NEGATIVE, PSEUDO, NEGATIVE, IGNORE, NEGATIVE]
    frames = [3, 3, 3, 1, 1, 2, 2, 7]
    boxes = [
        [0, 0, 10, 10],
        [2, 0, 12, 10],
        [5, 0, 15, 10.001],
        [0, 0, 10, 10],
        [0, 0, 10, 10],
        *[[0, 0, 9, 9]] * 3,
    ]
    count = len(kinds)
    table = MinedTable(
        VideoInfo("a.mp4"), "hem", np.array([0, -1, 2, 3, 4, 5, 6, 7]), np.array(frames), np.zeros(count),
        np.array(boxes, dtype=float), np.array([1, 1, 1, 1, 2, 1, 1, 1]), np.array(kinds, dtype=np.int8),
        np.full(count, 0.5), np.full(count, 0.75),
    )  # fmt: skip
    after = off_labels(table)
    assert np.flatnonzero(after.kind != table.kind).tolist() == [0, 2]  # the last two: 3/7 and another class
    assert after.kind[[0, 2]].tolist() == [IGNORE, IGNORE]
    assert after.weights.tolist() == [0, 0.75, 0, *[0.75] * 5]
    assert off_labels(after) is after


def test_pictures_shown_several_times_change_no_verdict_elsewhere():
    """A film of 10 pictures a second sold as one of 20 or 40; then a shot of one picture."""

    def verdict(times):
        last = 20 * times
        repeated = np.arange(last + 1) % times > 0
        repeated[last] = False
        cut = np.arange(last + 1) == last
        boxes = np.tile([[10.0, 10, 40, 60]], (last + 1, 1))
        boxes[last] = [70, 70, 100, 110]
        found = found_in(np.arange(last + 1), boxes, np.full(last + 1, 0.9), last + 1, 10.0 * times)
        answers = ResponseTable(
            [last, last], [0, 1], [0.22, 0.22], [0.8, 0.8], np.tile([[70.0, 70, 100, 110]], (2, 1))
        )
        evidence = Evidence(
            found, cut, repeated, ASKED, responses=answers, elicit_calls=2, detector_calls=last + 1
        )
        asked = ElicitedThresholds(score_threshold=0.5, negative_response=0.4, min_variants=2)
        examples = query(evidence, "hem", HemThresholds(LIMITS, asked)).examples()
        return [(e.kind, e.weight) for e in examples if e.frame_index == last]

    assert verdict(1) == verdict(2) == verdict(4) == [(Kind.IGNORE, 0.0)]


@pytest.mark.parametrize("level", [0, 120, 255])
def test_a_place_without_contrast_is_not_recognised_elsewhere(level):
    """Black looks like black everywhere: a gap in front of it is not filled, and nothing is seen for sure."""
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(60, 200, (1, 3, 200, 200), dtype=np.uint8), 12, axis=0)
    pictures += rng.integers(0, 6, pictures.shape, dtype=np.uint8)
    textured = [kind for kind in kinds_of(pictures, [0, 1, 2, 3, 6, 7, 8, 9]) if kind[0] in (4, 5)]
    assert [kind for _, kind in textured] == [Kind.HARD_POSITIVE] * 2
    pictures[:, :, 60:160, 30:120] = level  # all that a search from there sees
    flat = [kind for kind in kinds_of(pictures, [0, 1, 2, 3, 6, 7, 8, 9]) if kind[0] in (4, 5)]
    assert [kind for _, kind in flat] == [Kind.IGNORE] * 2
    assert [kind for _, kind in kinds_of(pictures, [5])] == [Kind.IGNORE]


def kinds_of(pictures, frames):
    found = found_in(frames, [[60.0, 80, 90, 140]] * len(frames), [0.9] * len(frames), len(pictures))
    index = torch.arange(len(pictures))
    batch = FrameBatch(found.video, torch.from_numpy(pictures), index, index / 10.0)
    evidence = collect_evidence([batch], found, None, replace(ASKED, variants=()))
    return [(e.frame_index, e.kind) for e in query(evidence, "temporal", LIMITS).examples()]


def test_a_template_needs_contrast():
    noise = np.random.default_rng(1).normal(100, 1.0, (60, 60)).round().astype(np.uint8)
    box = np.array([10.0, 10, 40, 50])
    assert not BoxTemplate(noise, box, 0.75, 24).usable
    noise[20:30, 20:30] = 140
    assert BoxTemplate(noise, box, 0.75, 24).usable


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TemporalThresholds, "ncc_threshold", float("nan")),
        (TemporalThresholds, "label_threshold", float("nan")),
        (TemporalThresholds, "max_score", float("nan")),
        (ElicitedThresholds, "positive_response", float("nan")),
        (ElicitedThresholds, "clear_iou", -0.1),
        (ElicitedThresholds, "clear_iou", 2.0),
    ],
)
def test_no_threshold_is_out_of_range(kind, name, value):
    with pytest.raises(HemError, match=f"mining.{name} must be"):
        kind(**{name: value})
