"""Mosaic: no part of any of the four targets is lost or moved to where its pixels are not."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.compose import group_file
from hem.data.augment import Augment, Flip, Mosaic
from hem.data.geometry import Visible
from hem.instantiate import instantiate
from hem.structures import LabelledImage, Target

_SPEC = importlib.util.spec_from_file_location("augment_tests", Path(__file__).with_name("test_augment.py"))
assert _SPEC and _SPEC.loader
_AUGMENT = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_AUGMENT)
samples, regions, rows = _AUGMENT.samples, _AUGMENT.regions, _AUGMENT.rows

EVERYTHING = Visible(0, 0, 0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coloured(sample, index):
    """The sample with its painted pixels in a value of its own, so that tiles can be told apart."""
    image = torch.where(sample.image > 0, torch.tensor(90 + 50 * index, dtype=torch.uint8), sample.image)
    return LabelledImage(image, sample.target, f"{index}")


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(samples(), min_size=4, max_size=4),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([None, 48, 90]),
    visible=st.sampled_from([Visible(), EVERYTHING]),
)
def test_no_region_is_lost_or_moved_wrongly(parts, seed, size, visible):
    parts = [coloured(part, index) for index, part in enumerate(parts)]
    rest = iter(parts[1:])
    after = Mosaic(size, 1.0, scale=(1.0, 2.0), visible=visible)(
        parts[0], generator(seed), lambda _: next(rest)
    )
    side = after.image.shape[1]
    assert after.image.shape == (3, side, side) and side == (size or 60)
    out = regions(after.target)
    covered = torch.zeros(side, side, dtype=torch.bool)
    for left, top, right, bottom in out.tolist():
        assert left >= -1e-3 and top >= -1e-3 and right <= side + 1e-3 and bottom <= side + 1e-3
        covered[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = True
        inner = after.image[0, int(top + 0.999) : int(bottom), int(left + 0.999) : int(right)]
        if inner.numel():
            assert int(inner.max()) > 60, "a region lies where nothing was painted"
    assert not bool(((after.image[0] > 60) & ~covered).any()), "a labelled pixel became background"
    known = [rows(part.target) for part in parts]
    soft = after.target.soft_scores is not None
    for label, weight, score in rows(after.target)[0]:
        assert any(
            (label, weight) == (own[0], own[1]) and (not soft or score in (own[2], 1.0))
            for one in known
            for own in one[0]
        )
    assert rows(after.target)[1] <= set().union(*(one[1] for one in known))


@settings(max_examples=20, deadline=None)
@given(parts=st.lists(samples(), min_size=4, max_size=4), seed=st.integers(0, 10_000))
def test_negatives_and_ignore_regions_that_stay_in_sight_stay_themselves(parts, seed):
    """At scale 1 a tile cuts nothing along its longer side; whatever is in sight keeps its kind."""
    rest = iter(parts[1:])
    made = Mosaic(120, 1.0, scale=(1.0, 1.0), visible=EVERYTHING)
    after = made(parts[0], generator(seed), lambda _: next(rest)).target
    before = sum(len(part.target.negatives_xyxy) for part in parts)
    kinds = len(after.negatives_xyxy), len(after.ignore_xyxy), len(after.boxes_xyxy)
    assert kinds[0] <= before
    for part in parts:  # what was everywhere is in sight whatever the cut
        whole = Target(ignore_xyxy=torch.tensor([[0.0, 0, 60, 44]]), name="whole")
        rest = iter([LabelledImage(part.image, whole, "w")] * 3)
        all_ignored = made(
            LabelledImage(part.image, whole, "w"), generator(seed), lambda _, rest=rest: next(rest)
        )
        tiles = all_ignored.target.ignore_xyxy
        area = (tiles[:, 2:] - tiles[:, :2]).prod(1).sum()
        assert len(tiles) == 4 and float(area) == pytest.approx(120 * 120, rel=1e-4)


def test_size_none_is_the_longer_side_of_the_image_at_hand():
    wide = LabelledImage(torch.zeros(3, 20, 50, dtype=torch.uint8), Target(), "a")
    tiny = LabelledImage(torch.zeros(3, 2, 3, dtype=torch.uint8), Target(), "b")
    made = Mosaic(None, 1.0)
    assert made(wide, generator(), lambda _: tiny).image.shape == (3, 50, 50)
    assert made(tiny, generator(), lambda _: wide).image.shape == (3, 8, 8)


def test_it_says_when_it_needs_other_images():
    assert Augment([Flip()], Mosaic(64, 0.1)).needs_draw
    assert not Augment([Flip()], Mosaic(64, 0.0)).needs_draw
    assert not Augment([Flip()]).needs_draw


def test_by_name_alone():
    augment = instantiate(group_file("augment", "mosaic"), "augment")
    assert isinstance(augment, Augment) and augment.needs_draw
    image = torch.randint(0, 255, (3, 40, 60), dtype=torch.uint8, generator=generator())
    sample = LabelledImage(image, Target([[5, 5, 30, 30]], [1]), "a")
    asked = []

    def draw(source):
        asked.append(int(torch.randint(9, (), generator=source)))
        return sample

    sizes = {tuple(augment(sample, generator(seed), draw).image.shape) for seed in range(8)}
    assert sizes == {(3, 40, 60), (3, 60, 60)} and len(asked) % 3 == 0
