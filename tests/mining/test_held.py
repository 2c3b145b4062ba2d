"""What is kept of a detector's answers for a batch."""

import numpy as np
import torch

from hem.mining.held import boxes_above
from hem.structures import Detections


def answers_of(*scores):
    """Return one answer a list of scores; each box tells its answer and its place there."""
    return [
        Detections(
            torch.tensor([[at, k, at + 1.0, k + 1.0] for k in range(len(one))], dtype=torch.float64).reshape(
                -1, 4
            ),
            torch.tensor(one, dtype=torch.float64),
            torch.arange(1, len(one) + 1),
        )
        for at, one in enumerate(scores)
    ]


def test_each_picture_keeps_its_own_from_the_floor_on():
    answers = answers_of([0.9, 0.5, 0.4], [], [0.1], [0.5, 0.6])
    found = boxes_above(answers, 0.5)
    assert [one.scores.tolist() for one in found] == [[0.9, 0.5], [], [], [0.5, 0.6]]
    assert [one.labels.tolist() for one in found] == [[1, 2], [], [], [1, 2]]
    assert [one.boxes_xyxy[:, :2].tolist() for one in found] == [[[0, 0], [0, 1]], [], [], [[3, 0], [3, 1]]]
    assert all(one.boxes_xyxy.shape == (len(one), 4) for one in found)
    assert boxes_above([], 0.5) == []


def test_one_answer_is_copied_too():
    answers = answers_of([0.9, 0.5])
    (found,) = boxes_above(answers, 0.0)
    kept = found.boxes_xyxy.copy(), found.scores.copy()
    answers[0].boxes_xyxy.zero_(), answers[0].scores.zero_()
    np.testing.assert_array_equal(found.boxes_xyxy, kept[0])
    np.testing.assert_array_equal(found.scores, kept[1])
