"""The contract's pure functions, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hem.detectors.contract import (
    Contract,
    blocked_pairs,
    boxes_inside,
    channel_weights,
    complete,
    forbidden_classes,
    hard_pairs,
    negative_copies,
    negative_weight,
    points_inside,
    to_labels,
)
from hem.detectors.losses import box_loss, focal, hardest, mined, soft_cross_entropy
from hem.detectors.soft_labels import remap_scores, soften
from hem.errors import HemError
from hem.structures import Target


def box(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_inside_is_by_own_area_and_inclusive():
    boxes = box((0, 0, 10, 10), (5, 0, 15, 10), (6, 0, 16, 10), (0, 0, 100, 100), (2, 2, 2, 8))
    regions = box((0, 0, 10, 10))
    assert boxes_inside(boxes, regions, 0.5).tolist() == [True, True, False, False, False]
    assert boxes_inside(boxes, box(), 0.5).tolist() == [False] * 5
    halves = box((0, 0, 4, 10), (6, 0, 10, 10))
    assert boxes_inside(boxes[:1], halves, 0.5).tolist() == [False]  # regions are not joined


def test_points_on_the_border_are_inside():
    points = torch.tensor([[0.0, 0.0], [10.0, 5.0], [10.1, 5.0]])
    assert points_inside(points, box((0, 0, 10, 10))).tolist() == [[True, True, False]]


def test_hard_pairs():
    overlap = torch.tensor([[0.5, 0.49, 0.2], [0.3, 0.3, 0.1], [0.0, 0.0, 0.0]])
    none = torch.zeros(3, dtype=torch.bool)
    assert hard_pairs(overlap, 0.5, none).tolist() == [
        [True, False, False],
        [True, True, False],  # below the threshold: the best, ties together
        [False, False, False],  # touched by nothing
    ]
    blocked = torch.tensor([True, False, False])
    assert hard_pairs(overlap, 0.5, blocked).tolist()[0] == [False, True, False]
    assert hard_pairs(torch.zeros(0, 3), 0.5, none).shape == (0, 3)


def labels_of(**parts):
    return complete(to_labels(Target(**parts), torch.device("cpu")))


def test_channel_weights_precedence():
    """positive > hard negative > ignore > background, channel by channel."""
    labels = labels_of(
        boxes_xyxy=box((0, 0, 10, 10)),
        labels=torch.tensor([1]),
        weights=torch.tensor([0.5]),
        negatives_xyxy=box((50, 50, 60, 60), (70, 70, 80, 80)),
        negative_labels=torch.tensor([2, 0]),
        negative_weights=torch.tensor([3.0, 2.0]),
    )
    matched = torch.tensor([0, -1, -1, -1, -1])
    pairs = torch.zeros(2, 5, dtype=torch.bool)
    pairs[0, 1] = pairs[1, 2] = True
    ignored = torch.tensor([True, True, False, True, False])
    weights, targets = channel_weights(labels, matched, pairs, ignored, 3)
    assert weights.tolist() == [[0.5] * 3, [0, 0, 3], [2, 2, 2], [0, 0, 0], [1, 1, 1]]
    assert targets.tolist() == [[0, 1, 0]] + [[0, 0, 0]] * 4


def test_negatives_of_another_class_may_share_a_positive():
    labels = labels_of(
        boxes_xyxy=box((0, 0, 10, 10)),
        labels=torch.tensor([1]),
        negatives_xyxy=box((0, 0, 10, 10)),
        negative_labels=torch.tensor([2]),
        negative_weights=torch.tensor([3.0]),
    )
    matched = torch.tensor([0])
    assert blocked_pairs(labels, matched).tolist() == [[False]]
    weights, targets = channel_weights(labels, matched, torch.tensor([[True]]), torch.tensor([False]), 3)
    assert weights.tolist() == [[1, 1, 3]] and targets.tolist() == [[0, 1, 0]]
    same = {**labels, "negative_labels": torch.tensor([0])}
    assert blocked_pairs(same, matched).tolist() == [[True]]


def test_forbidden_classes():
    labels = labels_of(negatives_xyxy=box((0, 0, 1, 1), (2, 2, 3, 3)), negative_labels=torch.tensor([0, 2]))
    pairs = torch.tensor([[True, False, False], [False, True, False]])
    assert forbidden_classes(labels, pairs, 3).tolist() == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]


def test_copies_of_hard_negatives():
    labels = labels_of(
        boxes_xyxy=box((7.2, 0, 17, 20)),
        labels=torch.tensor([1]),
        negatives_xyxy=box((0, 0, 20, 20), (50, 50, 60, 70)),
        negative_weights=torch.tensor([1.0, 2.0]),
    )
    boxes, owner = negative_copies(labels, 1, 0.05, 0.5)
    assert torch.equal(boxes, labels["negatives"]) and owner.tolist() == [0, 1]
    boxes, owner = negative_copies(labels, 4, 0.05, 1.1)
    assert boxes[2].tolist() == [1, 1, 21, 21] and boxes[3].tolist() == [50.5, 51, 60.5, 71]
    assert owner.tolist() == [0, 1] * 4 and len(boxes.unique(dim=0)) == 8
    # IoU of the exact copy with the positive is 0.49; a copy that reaches it is left out, the exact stays.
    boxes, owner = negative_copies(labels, 4, 0.05, 0.4)
    assert owner.tolist().count(0) < 4 and owner.tolist().count(1) == 4 and owner[0] == 0
    assert len(negative_copies(labels, 20, 0.05, 1.1)[0].unique(dim=0)) == 40


def test_fully_labelled_carries_nothing_extra():
    plain = to_labels(Target(box((0, 0, 1, 1)), torch.tensor([1])), torch.device("cpu"))
    assert set(plain) == {"boxes", "labels"}


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 10))
def test_soften(score, mix, temperature):
    soft = (1 - mix) + mix * score
    up, down = soft ** (1 / temperature), (1 - soft) ** (1 / temperature)
    result = float(soften(torch.tensor([score], dtype=torch.float64), mix, temperature))
    assert result == pytest.approx(up / (up + down), abs=1e-9)


def test_soften_ends_and_range():
    assert soften(torch.tensor([0.3]), 0.0).item() == 1.0
    assert soften(torch.tensor([0.3]), 1.0).item() == pytest.approx(0.3)
    assert soften(torch.tensor([0.0, 1.0]), 1.0, 3.0).tolist() == [0.0, 1.0]
    for wrong in ((1.1, 1.0), (-0.1, 1.0), (0.5, 0.0)):
        with pytest.raises(HemError):
            soften(torch.tensor([0.3]), *wrong)
    with pytest.raises(HemError, match="soft_lambda"):
        Contract(soft_lambda=2.0)


def test_remap_scores():
    target, source = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(remap_scores(target, target, source), source)
    np.testing.assert_allclose(remap_scores(target, target, target), target)
    np.testing.assert_allclose(remap_scores(np.array([-5.0, 99.0]), target, source), [0.5, 0.9])
    ties = np.array([0.2, 0.2, 0.8])
    assert len(set(remap_scores(ties[:2], ties, source))) == 1
    assert remap_scores(np.zeros(0), target, source).shape == (0,)
    assert np.isfinite(remap_scores(np.array([0.3]), np.array([0.3]), np.array([0.7]))).all()
    with pytest.raises(HemError, match="at least one"):
        remap_scores(target, np.zeros(0), source)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_remap_keeps_order_and_range(target, source):
    moved = remap_scores(np.sort(target), np.array(target), np.array(source))
    assert (np.diff(moved) >= 0).all()
    assert moved.min() >= min(source) and moved.max() <= max(source)


def test_focal_is_torchvisions_and_soft_targets_have_their_own_minimum():
    from torchvision.ops import sigmoid_focal_loss

    logits, hard = torch.randn(50, 3), (torch.rand(50, 3) > 0.5).float()
    torch.testing.assert_close(focal(logits, hard), sigmoid_focal_loss(logits, hard))
    at = torch.logit(torch.tensor([0.7], dtype=torch.float64)).float().requires_grad_()
    focal(at, torch.tensor([0.7])).sum().backward()
    assert at.grad.abs().item() < 1e-6


def test_soft_cross_entropy():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, labels, torch.ones(6)), plain)
    background = torch.nn.functional.cross_entropy(logits, labels * 0, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, labels, torch.zeros(6)), background)


def test_soft_labels_are_each_of_their_own_class():
    """Two positives of two classes: each class is aimed at its own score, the others at none."""
    from hem.detectors.one_stage import _sigmoid_lesson

    labels = labels_of(
        boxes_xyxy=box((0, 0, 10, 10), (20, 20, 30, 30)),
        labels=torch.tensor([1, 2]),
        weights=torch.tensor([1.0, 0.5]),
        soft_scores=torch.tensor([0.6, 0.9]),
    )
    matched, nothing = torch.tensor([1, 0, -1]), torch.zeros(3, dtype=torch.bool)
    none = torch.zeros(0, 3, dtype=torch.bool)
    weights, wanted = _sigmoid_lesson(labels, matched, none, nothing, 4, Contract())
    torch.testing.assert_close(wanted, torch.tensor([[0, 0, 0.9, 0], [0, 0.6, 0, 0], [0, 0, 0, 0]]))
    assert weights[:, 0].tolist() == [0.5, 1, 1]
    half = _sigmoid_lesson(labels, matched, none, nothing, 4, Contract(soft_lambda=0.5))[1]
    torch.testing.assert_close(half[0, 2], torch.tensor(0.95))
    at = torch.tensor([[0.7, 1e-9, 0.3], [0.4, 0.6, 1e-9]]).log().requires_grad_()
    soft_cross_entropy(at, torch.tensor([2, 1]), torch.tensor([0.3, 0.6])).sum().backward()
    assert at.grad.abs().max() < 1e-6, "a softmax head's optimum: the score on its class, the rest background"


def test_ohem_keeps_everything_but_easy_background():
    losses = torch.tensor([[9.0], [1.0], [2.0], [3.0], [0.5], [4.0]])
    weights = torch.tensor([[1.0], [1.0], [1.0], [1.0], [1.0], [0.0]])
    matched = torch.tensor([-1, 0, -1, -1, -1, -1])
    pairs = torch.tensor([[False, False, False, False, True, False]])
    kept = mined(losses, weights, matched, pairs, 1.0, 0)[:, 0].tolist()
    assert kept == [9.0, 1.0, 0.5, 4.0]  # one background for one positive; ignored rows have loss 0 anyway
    assert mined(losses, weights, matched, pairs, 2.0, 0)[:, 0].tolist() == [9.0, 1.0, 3.0, 0.5, 4.0]
    assert len(mined(losses, weights, matched, pairs, 1.0, 3)) == 6  # the minimum wins


def test_hardest():
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0])
    candidates = torch.tensor([True, True, True, False])
    assert hardest(losses, candidates, 2).tolist() == [True, False, True, False]
    assert hardest(losses, candidates, 9).tolist() == candidates.tolist()
    assert not hardest(losses, candidates, 0).any()


def test_unknown_box_loss():
    with pytest.raises(ValueError, match="none of"):
        box_loss("l3", None, box(), box(), box())


def test_several_negatives_on_one_candidate_give_it_the_largest_weight():
    """Of one class, in either order, and of every class beside one: never their sum, never the last."""
    for weights, classes, expected in (
        ((3.0, 2.0), (2, 2), [0, 0, 3]),
        ((2.0, 3.0), (2, 2), [0, 0, 3]),
        ((5.0, 3.0), (0, 2), [5, 5, 5]),
        ((3.0, 5.0), (0, 2), [3, 3, 5]),
    ):
        labels = labels_of(
            negatives_xyxy=box((50, 50, 60, 60), (51, 51, 61, 61)),
            negative_labels=torch.tensor(classes),
            negative_weights=torch.tensor(weights),
        )
        matched, pairs = torch.tensor([-1]), torch.ones(2, 1, dtype=torch.bool)
        found, _ = channel_weights(labels, matched, pairs, torch.tensor([False]), 3)
        assert found.tolist() == [expected]
        assert negative_weight(pairs, labels["negative_weights"]).tolist() == [max(weights)]
