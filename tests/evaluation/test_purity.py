import pytest

from hem.errors import HemError
from hem.evaluation.purity import (
    Share,
    covers_object,
    false_share_of_detections,
    mining_summary,
    missed_share_of_objects,
    purity,
    purity_yield,
    wilson_interval,
)
from hem.structures import HardExample, Kind

A = (0.0, 0.0, 10.0, 10.0)
B = (100.0, 0.0, 110.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)
LESS = (0.0, 0.0, 10.0, 4.99)


def example(box, kind=Kind.HARD_NEGATIVE, frame=0, label=1, rule="r", weight=1.0, video="a.mp4"):
    return HardExample(video, "", frame, 0.0, box, label, kind, 0.5, weight, rule)


def test_boundary_and_class(make_truth):
    truth = [make_truth([(0, A, 1)], 1)]
    asked = [example(A), example(HALF), example(LESS), example(A, label=2)]
    assert covers_object(asked, truth) == [True, True, False, False]


def test_unknown_places_do_not_count(make_truth):
    truth = [make_truth([(0, A, 1)], 2, ignore=[(0, B, 0)], labelled=[True, False])]
    asked = [
        example(B),
        example((105.0, 0.0, 115.0, 10.0)),  # exactly half inside
        example((105.1, 0.0, 115.1, 10.0)),
        example(A, frame=1),
        example(A, frame=7),
        example(A, video="other.mp4"),
    ]
    assert covers_object(asked, truth) == [None, None, False, None, None, None]
    other_class = [make_truth([], 1, ignore=[(0, B, 2)])]
    assert covers_object([example(B), example(B, label=2)], other_class) == [False, None]
    over_object = [make_truth([(0, B, 1)], 1, ignore=[(0, B, 0)])]
    assert covers_object([example(B)], over_object) == [True]
    with pytest.raises(HemError, match="same video id"):
        covers_object([], [truth[0], truth[0]])


def test_purity_by_kind_and_rule(make_truth):
    truth = [make_truth([(0, A, 1)], 2, labelled=[True, False])]
    mined = [
        example(A, rule="x"),
        example(B, rule="x"),
        example(B, rule="y"),
        example(B, rule="y", frame=1),
        example(A, Kind.HARD_POSITIVE),
        example(A, Kind.PSEUDO_LABEL),
        example(B, Kind.PSEUDO_LABEL),
        example(B, Kind.IGNORE),
    ]
    result = purity(mined, truth)
    negative = result["hard_negative"]
    assert negative["value"] == pytest.approx(2 / 3)
    assert (negative["hits"], negative["count"], negative["mined"], negative["unmeasured"]) == (2, 3, 4, 1)
    assert result["hard_positive"]["value"] == 1.0
    assert result["pseudo_label"]["value"] == 0.5
    assert result["per_rule"]["x"]["hard_negative"]["value"] == 0.5
    assert result["per_rule"]["y"]["hard_negative"]["value"] == 1.0
    assert set(result["per_rule"]["r"]) == {"hard_positive", "pseudo_label"}
    none = purity([], truth)
    assert none["hard_negative"]["value"] is None and none["hard_negative"]["low"] is None


def test_wilson_interval():
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(0, 0) is None
    assert wilson_interval(0, 5)[0] == 0.0 and wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(5, 5)[0] == pytest.approx(0.5655, abs=1e-4)
    assert Share(0, 0).as_dict()["value"] is None


def test_base_rate(make_detections, make_truth):
    rows = [(0, A, 1, 0.9), (0, A, 1, 0.8), (0, LESS, 1, 0.5), (0, B, 1, 0.7), (0, A, 1, 0.4), (1, A, 1, 0.9)]
    found = [make_detections(rows, 2)]
    truth = [make_truth([(0, A, 1)], 2, ignore=[(0, B, 0)], labelled=[True, False])]
    share = false_share_of_detections(found, truth, 0.5)
    assert (share.hits, share.count) == (1, 3)  # a second box on one object is not false here
    assert false_share_of_detections(found, truth, 0.95).value is None
    assert missed_share_of_objects(found, truth, 0.5).value == 0.0
    assert missed_share_of_objects(found, truth, 0.95).value == 1.0


def test_summary_has_none_where_nothing_is_known(make_detections, make_truth):
    summary = mining_summary([example(A), example(B, Kind.PSEUDO_LABEL)], [])
    assert summary["hard_negatives"] == 1 and summary["hard_positives"] == 0
    assert summary["pseudo_labels"] == 1
    assert summary["purity_hard_negatives"] is None
    assert summary["false_share_of_detections"] is None
    found = [make_detections([(0, B, 1, 0.9)], 1)]
    full = mining_summary([example(B)], [make_truth([], 1), make_truth([], 1, "z.mp4")], found, 0.5)
    assert full["false_share_of_detections"] == 1.0 and full["purity_hard_negatives"] == 1.0


def test_purity_yield_takes_equal_weights_together(make_truth):
    truth = [make_truth([(0, A, 1)], 1)]
    mined = [example(B, weight=0.9), example(A, weight=0.5), example(B, weight=0.5), example(A, weight=0.1)]
    taken, share = purity_yield(mined, truth)
    assert taken.tolist() == [1, 3, 4]
    assert share.tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    taken, share = purity_yield(mined, truth, Kind.HARD_POSITIVE)
    assert len(taken) == len(share) == 0
