"""Any callable mines: what it answers is checked and reaches mining unchanged."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError

FRAME = torch.zeros(3, 40, 60, dtype=torch.uint8)


def wrap(answer, **more):
    settings = {"class_names": ("cat", "dog"), "name": "test 1", **more}
    return WrappedDetector(answer, **settings)


def bright(images):
    """A detector of two fixed boxes, the second fainter than the first."""
    assert all(image.dtype == torch.float32 and image.max() <= 1 for image in images)
    boxes = [[1, 2, 11, 12], [20, 5, 30, 25]]
    return [{"boxes": boxes, "scores": [0.9, 0.2], "labels": [2, 1]} for _ in images]


def test_a_function_answers():
    found = wrap(bright).detect([FRAME, FRAME], floor_score=0.1)
    assert len(found) == 2
    assert found[0].boxes_xyxy.tolist() == [[1, 2, 11, 12], [20, 5, 30, 25]]
    assert found[0].labels.tolist() == [2, 1]
    assert found[0].scores.tolist() == pytest.approx([0.9, 0.2])
    assert len(wrap(bright).detect([FRAME], floor_score=0.5)[0]) == 1


def test_arrays_tensors_and_absent_labels():
    answer = {"boxes": np.array([[0, 0, 5, 5]]), "scores": torch.tensor([0.5])}
    (found,) = wrap(lambda images: [answer]).detect([FRAME])
    assert found.labels.tolist() == [1]
    (nothing,) = wrap(lambda images: [{"boxes": [], "scores": []}]).detect([FRAME])
    assert len(nothing) == 0


def test_a_torchvision_network_is_asked_as_it_is():
    torch.manual_seed(0)
    net = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    detector = wrap(net)
    net.train()
    plenty = detector.detect([FRAME], floor_score=0.0)[0]
    assert net.training  # left as it was
    assert len(plenty) > 0  # torchvision's own threshold of 0.05 was lowered
    net.eval()
    with torch.no_grad():
        (own,) = net([FRAME.float() / 255])
    assert sorted(plenty.scores.tolist()) == pytest.approx(sorted(own["scores"].double().tolist()))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "1 images must give as many answers, got 0"),
        (None, "got NoneType"),
        ([{"scores": []}], "with boxes and scores"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": []}], "1 boxes, 0 scores"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [3]}], "label 3, but class_names has 2"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [0]}], "label 0; labels begin at 1"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [float("nan")]}], "not finite"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [84.8]}], r"score of 84.8, but score_range is 0\.\.1"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [-0.1]}], r"score of -0.1, but score_range is 0\.\.1"),
        ([{"boxes": [[0, 0, float("inf"), 1]], "scores": [1.0]}], "not finite"),
        ([{"boxes": [[50, 50, 20, 90]], "scores": [1.0]}], "ends before it begins"),
        ([{"boxes": [[0, 0, 1, 1, 0.5]], "scores": [1.0]}], r"must be \(N, 4\), got \(1, 5\)"),
        ([{"boxes": [[0, 1], [2, 3], [4, 5], [6, 7]], "scores": [1.0, 1.0]}], r"got \(4, 2\)"),
        ([{"boxes": [0, 0, 1, 1], "scores": [1.0]}], r"got \(4,\)"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [None]}], "must be numbers"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": ["x"]}], "must be numbers"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": ["car"]}], "must be numbers"),
        ([{"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [1.7]}], "no whole number"),
    ],
)
def test_a_wrong_answer_is_named(answer, words):
    with pytest.raises(HemError, match=words):
        wrap(lambda images: answer).detect([FRAME])


@pytest.mark.parametrize("answer", [{"boxes": [], "scores": []}, {"boxes": np.zeros((0, 4)), "scores": []}])
def test_nothing_may_be_said_in_every_form(answer):
    assert len(wrap(lambda images: [answer]).detect([FRAME])[0]) == 0
    one = {"boxes": [[0, 0, 9, 9]], "scores": [0.5], "labels": None}
    assert wrap(lambda images: [one]).detect([FRAME])[0].labels.tolist() == [1]


def test_numbers_stay_as_they_are_given_and_the_floor_is_on_their_scale():
    answer = [{"boxes": [[0.1, 0.2, 5.3, 5.7]] * 2, "scores": [0.7, 0.69999999]}]
    (found,) = wrap(lambda images: answer).detect([FRAME], floor_score=0.7)
    assert found.scores.tolist() == [0.7] and found.boxes_xyxy.tolist() == [[0.1, 0.2, 5.3, 5.7]]
    percent = wrap(lambda images: [{**answer[0], "scores": [70.0, 4.9]}], score_range=(0.0, 100.0))
    assert len(percent.detect([FRAME], floor_score=5.0)[0]) == 1
    logit = wrap(lambda images: [{**answer[0], "scores": [-3.0, -7.0]}], score_range=(-9.0, 9.0))
    assert len(logit.detect([FRAME], floor_score=-5.0)[0]) == 1
    for detector, floor in ((wrap(bright), 5.0), (wrap(bright), -0.1), (percent, 101.0)):
        with pytest.raises(HemError, match="floor_score must lie in score_range"):
            detector.detect([FRAME], floor_score=floor)


def test_scores_lie_in_their_range_up_to_rounding():
    answer = [{"boxes": [[0, 0, 5, 5]] * 3, "scores": [1.000001, 99.0, 100.0]}]
    (found,) = wrap(lambda images: answer, score_range=(0.0, 100.0)).detect([FRAME])
    assert len(found) == 3
    answer[0]["scores"] = [0.0, 1.0, 1.000001]
    (found,) = wrap(lambda images: answer).detect([FRAME], floor_score=0.0)
    assert len(found) == 3


def test_identity_follows_name_and_weights():
    net = nn.Linear(2, 2)
    first = wrap(net).digest()
    assert wrap(net).digest() == first != wrap(net, name="test 2").digest()
    with torch.no_grad():
        net.weight += 1
    assert wrap(net).digest() != first
    assert wrap(bright).digest() == wrap(bright).digest()


def test_it_does_not_train_and_needs_a_name():
    with pytest.raises(HemError, match="cannot be trained"):
        wrap(bright)([FRAME], [])
    with pytest.raises(HemError, match="name"):
        wrap(bright, name="")
    with pytest.raises(HemError, match="a list of texts"):
        WrappedDetector(bright, class_names="person", name="test")
