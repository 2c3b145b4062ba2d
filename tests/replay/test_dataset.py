from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.replay import MixedBatches, ReplayDataset
from hem.structures import Kind, LabelledImage

NEGATIVE, POSITIVE, PSEUDO, IGNORE = Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL, Kind.IGNORE
OTHER = (40.0, 10.0, 60.0, 40.0)


@pytest.fixture
def rounds(write, example):
    first = write([example(1, weight=0.5), example(1, PSEUDO, OTHER, weight=0.9)], 1)
    second = write(
        [
            example(1, weight=0.25),
            example(1, NEGATIVE, OTHER, weight=0.5),
            example(3, POSITIVE, OTHER, weight=1.0),
        ],
        2,
    )
    return [second, first]


def test_items(rounds, image):
    data = ReplayDataset(rounds)
    assert len(data) == 3
    assert data.class_names == ("cat", "dog")
    item = data[0]
    assert isinstance(item, LabelledImage)
    assert item.image.dtype == torch.uint8
    assert torch.equal(item.image, image("a.mp4", 1))
    assert item.image_id == data.image_ids[0]
    assert data.image_ids[0].startswith("round_1/frames/")
    assert len(set(data.image_ids)) == 3
    assert item.target.boxes_xyxy.tolist() == [list(OTHER)]
    assert data.frame(2).frame_index == 3


@pytest.mark.parametrize(
    ("decay", "expected"),
    [(1.0, [0.5, 0.75, 1.0]), (0.5, [0.25, 0.75, 1.0]), (0.0, [0.0, 0.75, 1.0])],
)
def test_weights_sum_over_anchors_and_decay_with_age(rounds, decay, expected):
    data = ReplayDataset(rounds, decay=decay)
    assert data.weights.tolist() == pytest.approx(expected)
    assert data.weights.dtype == np.float64


def test_videos_are_evened_out_within_a_round(write, example):
    first = write(
        [example(1, weight=0.75), example(3, weight=0.75), example(1, video="b.mp4", weight=0.5)], 1
    )
    second = write([example(1, weight=0.5)], 2)
    data = ReplayDataset([first, second], decay=0.5, video_balance=1.0)
    assert data.weights.tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5])


def test_missing_rounds_count_as_age(write, example):
    data = ReplayDataset([write([example(1)], 1), write([example(1)], 4)], decay=0.5)
    assert data.weights.tolist() == [0.125, 1.0]


def test_kinds_of_another_arm(rounds):
    data = ReplayDataset(rounds, kinds=[NEGATIVE, PSEUDO, IGNORE])
    assert [data.frame(i).frame_index for i in range(len(data))] == [1, 1]
    only_pseudo = ReplayDataset(rounds, kinds=[PSEUDO])
    assert len(only_pseudo) == 1
    assert len(only_pseudo.target(0).ignore_xyxy) == 1  # its hard negative is not this arm's to use


def test_boxes_over_the_edge_are_cut(write, example):
    data = ReplayDataset([write([example(1, box=(-3, 40, 20, 60))])])
    assert data[0].target.negatives_xyxy.tolist() == [[0, 40, 20, 48]]


def test_soft_scores(write, example):
    one = write([example(1), example(1, PSEUDO, OTHER, score=0.75)])
    target = ReplayDataset([one], soft_scores=True)[0].target
    assert target.soft_scores is not None and target.soft_scores.tolist() == [0.75]


def test_cache_reads_once_within_its_size(rounds, monkeypatch):
    calls = []
    real = cv2.imread
    monkeypatch.setattr(cv2, "imread", lambda *a: calls.append(a[0]) or real(*a))
    size = 3 * 48 * 64
    data = ReplayDataset(rounds, cache_bytes=2 * size)
    first = [data[i].image.clone() for i in range(3)]
    data[0].image.zero_()  # a caller's own copy
    again = [data[i].image for i in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(calls) == 4  # the third does not fit and is read twice


def test_no_rounds():
    data = ReplayDataset([])
    assert (len(data), data.class_names, len(data.weights)) == (0, (), 0)
    assert MixedBatches(4, 2, data.weights).batch(0, 0).replay == ()


def test_refusals(rounds):
    with pytest.raises(HemError, match="decay"):
        ReplayDataset(rounds, decay=1.1)
    with pytest.raises(HemError, match="different class names"):
        ReplayDataset([rounds[0], replace(rounds[1], class_names=("cat",))])
    with pytest.raises(HemError, match="one index"):
        ReplayDataset([rounds[0], rounds[0]])


def test_image_of_another_size_is_refused(rounds):
    frame = replace(rounds[1].frames[0], width=65)
    data = ReplayDataset([replace(rounds[1], frames=(frame,))])
    with pytest.raises(HemError, match="64 x 48 pixels"):
        data[0]
