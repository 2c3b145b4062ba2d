import cv2
import numpy as np
import pytest
import torch

from hem.errors import HemError
from hem.reporting.strips import (
    COLOURS,
    MarkedBox,
    annotated,
    before_after,
    frame_strip,
    marks_of_detections,
    marks_of_examples,
    marks_of_target,
    strip_budget,
)
from hem.structures import Detections, HardExample, Kind, Target

GREY = torch.full((3, 120, 200), 128, dtype=torch.uint8)
NOISE = torch.randint(0, 256, (3, 240, 320), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BOX = (80.0, 40.0, 120.0, 80.0)


def decode(data):
    assert data.startswith(b"\xff\xd8\xff")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def near(image, colour, tolerance=70):
    return np.abs(image - np.array(colour)).sum(-1) < tolerance


@pytest.mark.parametrize("kind", list(COLOURS))
def test_colours(kind):
    data = frame_strip([GREY], [[MarkedBox(BOX, kind)]], BOX, side=100, focus=-1, max_bytes=99_999)
    image = decode(data)
    # 2.5 x 40 px of frame fill 100 px: the box runs from 30 to 70
    edge = image[48:52, 28:33]
    assert near(edge, COLOURS[kind], 160).any()
    for other in COLOURS:
        distance = np.abs(edge - np.array(COLOURS[other])).sum(-1).min()
        assert other == kind or distance >= np.abs(edge - np.array(COLOURS[kind])).sum(-1).min()


def test_red_green_blue_grey():
    ranks = {kind: np.argmax(COLOURS[kind]) for kind in ("hard_negative", "hard_positive", "pseudo_label")}
    assert ranks == {"hard_negative": 0, "hard_positive": 1, "pseudo_label": 2}
    assert len(set(COLOURS["ignore"])) == 1


def test_five_cells_of_one_place_and_the_middle_marked():
    frames = [GREY.clone() for _ in range(5)]
    for t, frame in enumerate(frames):
        frame[:, 55:65, 95:105] = t * 50
    image = decode(frame_strip(frames, [[]] * 5, BOX, side=100, max_bytes=99_999))
    assert image.shape == (100, 5 * 100 + 4 * 2, 3)
    centres = [image[50, 102 * t + 50].mean() for t in range(5)]
    assert centres == pytest.approx([0, 50, 100, 150, 200], abs=12)
    corners = [bool(near(image[1, 102 * t + 1], (225, 40, 225), 120)) for t in range(5)]
    assert corners == [False, False, True, False, False]


def test_absent_frame_is_a_cross():
    image = decode(frame_strip([None, GREY, GREY], [[], [], []], BOX, side=60, max_bytes=99_999))
    assert image[30, 50].mean() < 60 < image[30, 62 + 50].mean()


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (180, 100, 200, 120), (-30, -30, 5, 5), (0, 0, 200, 120)])
def test_box_at_the_edge_stays_in_view(box):
    image = decode(frame_strip([GREY], [[MarkedBox(box, "hard_negative")]], box, side=80, max_bytes=99_999))
    assert image.shape == (80, 80, 3)
    assert (image[..., 0] - image[..., 2] > 90).any()


def test_box_outside_the_frame_does_not_fail():
    assert decode(frame_strip([GREY], [[]], (500, 500, 520, 520))).size > 0


@pytest.mark.parametrize("limit", [24_000, 9_000, 4_000, 2_000])
def test_size_is_bounded(limit):
    data = frame_strip([NOISE] * 5, [[]] * 5, (100, 80, 220, 200), max_bytes=limit)
    assert len(data) <= limit
    decode(data)


def test_smaller_limit_gives_a_smaller_picture():
    sizes = [decode(frame_strip([NOISE] * 5, [[]] * 5, BOX, max_bytes=m)).shape[0] for m in (40_000, 2_500)]
    assert sizes[0] == 112 > sizes[1] >= 24


@pytest.mark.parametrize(("count", "budget"), [(0, 13_500_000), (1, 24_000), (5000, 2700), (100_000, 2000)])
def test_strip_budget(count, budget):
    assert strip_budget(count) == min(budget, 24_000)
    if count == 5000:
        assert count * strip_budget(count) * 4 / 3 <= 18_000_000


def test_marks():
    example = HardExample("v", "d", 0, 0.0, BOX, 1, Kind.HARD_NEGATIVE, 0.7, 1.0, "r")
    assert marks_of_examples([example]) == [MarkedBox(BOX, "hard_negative", 0.7)]
    found = Detections(torch.tensor([BOX, BOX]), torch.tensor([0.5, 0.49]), torch.tensor([1, 1]))
    assert marks_of_detections(found, 0.5) == [MarkedBox(BOX, "detection", 0.5)]
    target = Target(torch.tensor([BOX]), torch.tensor([1]), ignore_xyxy=torch.tensor([[0.0, 0, 5, 5]]))
    assert [mark.kind for mark in marks_of_target(target)] == ["hard_positive", "ignore"]


def test_before_after():
    marks = [MarkedBox(BOX, "hard_negative", 0.91)]
    image = decode(before_after(GREY, marks, [], width=200, max_bytes=99_999))
    assert image.shape == (120, 402, 3)
    red = image[..., 0] - image[..., 2] > 90
    assert red[:, :200].any() and not red[:, 202:].any()
    assert len(before_after(NOISE, [], [], max_bytes=5_000)) <= 5_000


def test_annotated_leaves_the_frame_alone():
    frame = GREY.clone()
    image = annotated(frame, [MarkedBox(BOX, "pseudo_label", 0.5)], width=400)
    assert image.shape == (240, 400, 3)
    assert torch.equal(frame, GREY)
    assert (image != 128).any()


def test_refusals():
    with pytest.raises(HemError, match="kind 'nothing'"):
        MarkedBox(BOX, "nothing")
    with pytest.raises(HemError, match="got 1 for 2"):
        frame_strip([GREY, GREY], [[]], BOX)
    with pytest.raises(HemError, match="got 0 for 0"):
        frame_strip([], [], BOX)
