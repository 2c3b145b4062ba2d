import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.data.augment import FILL, Augment, Flip, Mosaic, RandomCrop, ScaleJitter
from hem.data.geometry import Visible, flip, joined, place
from hem.data.photometric import Blur, Jpeg, Noise, Photometric
from hem.errors import HemError
from hem.structures import LabelledImage, Target

SIZE = (60, 44)  # width, height


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def box_strategy(width=SIZE[0], height=SIZE[1]):
    def build(values):
        left, top, wide, tall = values
        return [left, top, min(left + wide, width), min(top + tall, height)]

    return st.tuples(
        st.integers(0, width - 4), st.integers(0, height - 4), st.integers(3, width), st.integers(3, height)
    ).map(build)


@st.composite
def samples(draw, size=SIZE):
    """An image whose every labelled region is painted, on black, with a partly labelled target."""
    boxes = draw(st.lists(box_strategy(*size), max_size=3))
    negatives = draw(st.lists(box_strategy(*size), max_size=3))
    ignore = draw(st.lists(box_strategy(*size), max_size=2))
    labels = torch.tensor([1 + index % 2 for index in range(len(boxes))])
    negative_labels = torch.tensor([draw(st.integers(0, 2)) for _ in negatives])
    kept = []
    for row, negative in enumerate(negatives):
        try:
            Target(boxes, labels, negatives_xyxy=[negative], negative_labels=negative_labels[row : row + 1])
            kept.append(row)
        except HemError:
            continue
    target = Target(
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels,
        weights=torch.arange(len(boxes)) + 1.0,
        negatives_xyxy=torch.tensor([negatives[row] for row in kept], dtype=torch.float32).reshape(-1, 4),
        negative_labels=negative_labels[kept],
        negative_weights=torch.arange(len(kept)) + 10.0,
        ignore_xyxy=torch.tensor(ignore, dtype=torch.float32).reshape(-1, 4),
        soft_scores=torch.linspace(0.2, 0.9, len(boxes)) if draw(st.booleans()) else None,
        name="painted",
    )
    image = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    for left, top, right, bottom in regions(target).int().tolist():
        image[:, top:bottom, left:right] = 255
    return LabelledImage(image, target, "painted")


def regions(target):
    return torch.cat([target.boxes_xyxy, target.hard_negatives[0], target.ignore_xyxy])


def rows(target):
    soft = target.soft_scores if target.soft_scores is not None else torch.full((len(target.labels),), -1.0)
    positives = zip(target.labels.tolist(), target.box_weights.tolist(), soft.tolist(), strict=True)
    _, labels, weights = target.hard_negatives
    return set(positives), set(zip(labels.tolist(), weights.tolist(), strict=True))


def check_whole(before, after):
    """No painted pixel is outside every region, no region is over plain background, rows keep together."""
    width, height = after.image.shape[2], after.image.shape[1]
    out = regions(after.target)
    covered = torch.zeros(height, width, dtype=torch.bool)
    for left, top, right, bottom in out.tolist():
        assert left >= -1e-3 and top >= -1e-3 and right <= width + 1e-3 and bottom <= height + 1e-3
        covered[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = True
        inner = after.image[0, int(top + 0.999) : int(bottom), int(left + 0.999) : int(right)]
        if inner.numel():
            assert int(inner.max()) > 200, "a region lies where nothing was painted"
    painted = after.image[0] > 200
    assert not bool((painted & ~covered).any()), "a labelled pixel became background"
    found, known = rows(after.target), rows(before.target)
    assert found[0] <= known[0] and found[1] <= known[1]


TRANSFORMS = [
    Flip(1.0),
    ScaleJitter((0.5, 2.0), aspect=1.5),
    ScaleJitter((0.3, 0.6)),
    RandomCrop((0.2, 1.0), probability=1.0),
    RandomCrop((0.1, 0.5), around=1.0, probability=1.0, visible=Visible(1.0, 1.0, 0)),
    Augment([Flip(), ScaleJitter((0.6, 1.6), visible=Visible(0, 0, 0)), RandomCrop(probability=1.0)]),
]


@settings(max_examples=60, deadline=None)
@given(sample=samples(), seed=st.integers(0, 10_000), which=st.integers(0, len(TRANSFORMS) - 1))
def test_nothing_is_lost_or_moved_wrongly(sample, seed, which):
    before = copy.deepcopy(sample)
    after = TRANSFORMS[which](sample, generator(seed))
    check_whole(sample, after)
    again = TRANSFORMS[which](sample, generator(seed))
    assert torch.equal(after.image, again.image)
    assert torch.equal(regions(after.target), regions(again.target))
    assert torch.equal(sample.image, before.image), "the given image was changed"
    assert torch.equal(regions(sample.target), regions(before.target)), "the given target was changed"


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(samples(), min_size=4, max_size=4), seed=st.integers(0, 10_000))
def test_mosaic_keeps_every_part(parts, seed):
    rest = iter(parts[1:])
    after = Mosaic(64, 1.0)(parts[0], generator(seed), lambda _: next(rest))
    assert after.image.shape == (3, 64, 64)
    out = regions(after.target)
    covered = torch.zeros(64, 64, dtype=torch.bool)
    for left, top, right, bottom in out.tolist():
        covered[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = True
    assert not bool(((after.image[0] > 200) & ~covered).any())
    if any(part.target.soft_scores is not None for part in parts):
        assert after.target.soft_scores is not None
    assert after.target.name == " + ".join(["painted"] * 4)


@settings(max_examples=150, deadline=None)
@given(
    left=st.floats(0, 40),
    wide=st.floats(4, 60),
    shift=st.floats(0.1, 40),
    start=st.integers(0, 50),
    part=st.integers(4, 60),
    scale=st.floats(0.3, 3),
)
def test_a_cut_never_makes_a_conflict(left, wide, shift, start, part, scale):
    try:
        target = Target(
            [[left, 5, left + wide, 30]], [1], negatives_xyxy=[[left + shift, 5, left + shift + wide, 30]]
        )
    except HemError:
        return
    window = (0, 0, part, 44)
    for visible in (Visible(), Visible(0, 0, 0)):
        placed = place(target, (scale, 1.0), (-start * scale, 0.0), window, (200, 44), visible)
        assert len(placed.boxes_xyxy) <= 1 and len(placed.negatives_xyxy) <= 1
        mirrored = flip(target, 200)
        assert len(mirrored.boxes_xyxy) == 1 and len(mirrored.negatives_xyxy) == 1


def test_where_a_cut_joins_them_the_positive_stands_and_the_negative_becomes_ignore():
    target = Target([[0, 0, 20, 10]], [1], negatives_xyxy=[[0, 0, 10, 4]], negative_labels=torch.tensor([1]))
    after = place(target, (1, 1), (0, 0), (0, 0, 10, 5), (20, 10), Visible(0.25, 0.5, 0))
    assert after.boxes_xyxy.tolist() == [[0, 0, 10, 5]]
    assert len(after.negatives_xyxy) == 0 and after.ignore_xyxy.tolist() == [[0, 0, 10, 4]]
    other = Target([[0, 0, 20, 10]], [1], negatives_xyxy=[[0, 0, 10, 4]], negative_labels=torch.tensor([2]))
    after = place(other, (1, 1), (0, 0), (0, 0, 10, 5), (20, 10), Visible(0.25, 0.5, 0))
    assert len(after.negatives_xyxy) == 1, "another class is no conflict"


@pytest.mark.parametrize(("limit", "kept"), [(0.5, True), (0.501, False)])
def test_visible_share_is_inclusive_for_both(limit, kept):
    target = Target([[0, 0, 10, 10]], [1], negatives_xyxy=[[0, 20, 10, 30]])
    after = place(target, (1, 1), (-5, 0), (0, 0, 50, 50), (60, 50), Visible(limit, limit, 0))
    assert len(after.boxes_xyxy) == len(after.negatives_xyxy) == kept
    assert len(after.ignore_xyxy) == (0 if kept else 2)


@pytest.mark.parametrize(("side", "kept"), [(5, True), (5.01, False)])
def test_min_side_is_inclusive(side, kept):
    target = Target([[0, 0, 5, 10]], [1])
    after = place(target, (1, 1), (0, 0), (0, 0, 50, 50), (50, 50), Visible(0.3, 0.5, side))
    assert (len(after.boxes_xyxy), len(after.ignore_xyxy)) == ((1, 0) if kept else (0, 1))


def test_what_lay_beyond_the_source_was_never_visible():
    target = Target([[-10, 0, 10, 10]], [1])
    after = place(target, (2, 2), (0, 0), (0, 0, 100, 100), (50, 50), Visible(1.0, 1.0, 0))
    assert after.boxes_xyxy.tolist() == [[0, 0, 20, 20]]


def test_flip_by_hand_and_twice_is_nothing():
    target = Target([[1, 2, 5, 6]], [3], ignore_xyxy=[[0, 0, 2, 2]], negatives_xyxy=[[6, 0, 9, 4]])
    once = flip(target, 10)
    assert once.boxes_xyxy.tolist() == [[5, 2, 9, 6]]
    assert once.ignore_xyxy.tolist() == [[8, 0, 10, 2]] and once.negatives_xyxy.tolist() == [[1, 0, 4, 4]]
    assert torch.equal(regions(flip(once, 10)), regions(target))


def test_scale_jitter_keeps_the_size_and_fills_with_grey():
    sample = LabelledImage(torch.full((3, 40, 60), 200, dtype=torch.uint8), Target(), "a")
    small = ScaleJitter((0.5, 0.5))(sample, generator())
    assert small.image.shape == (3, 40, 60)
    assert int((small.image[0] == 200).sum()) == 30 * 20 and int((small.image[0] == FILL).sum()) == 1800
    assert bool((ScaleJitter((2, 2))(sample, generator()).image == 200).all())


def test_crop_round_a_box_holds_its_centre():
    target = Target([[50, 30, 58, 40]], [1])
    sample = LabelledImage(torch.zeros(3, 44, 60, dtype=torch.uint8), target, "a")
    crop = RandomCrop((0.3, 0.5), around=1.0, probability=1.0, visible=Visible(0.2, 0.2, 0))
    for seed in range(50):
        assert len(crop(sample, generator(seed)).target.boxes_xyxy) == 1


def test_joined_fills_soft_scores_and_keeps_the_larger_conflict_limit():
    hard = Target([[0, 0, 5, 5]], [1], conflict_iou=0.5)
    soft = Target([[6, 6, 9, 9]], [2], soft_scores=[0.25], conflict_iou=0.7)
    both = joined([hard, soft], "x")
    assert both.soft_scores.tolist() == [1.0, 0.25] and both.conflict_iou == 0.7
    assert joined([hard, hard], "x").soft_scores is None


@pytest.mark.parametrize(
    "transform",
    [Photometric(probability=1.0), Blur(probability=1.0), Noise(probability=1.0), Jpeg(probability=1.0)],
)
def test_photometric_changes_pixels_and_never_labels(transform):
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8, generator=generator())
    sample = LabelledImage(image, Target([[1, 1, 5, 5]], [1]), "a")
    kept = image.clone()
    after = transform(sample, generator(3))
    assert after.target is sample.target and torch.equal(image, kept)
    assert after.image.shape == image.shape and not torch.equal(after.image, image)
    assert torch.equal(after.image, transform(sample, generator(3)).image)
    transform.probability = 0.0
    assert transform(sample, generator(3)) is sample


def test_photometric_by_hand():
    sample = LabelledImage(torch.tensor([100, 50, 200], dtype=torch.uint8).reshape(3, 1, 1), Target(), "a")
    still = Photometric(0, 0, 0, 0, probability=1.0)(sample, generator())
    assert (still.image.int() - sample.image.int()).abs().max() <= 1, "no change asked for, none made"
    grey = LabelledImage(torch.full((3, 2, 2), 90, dtype=torch.uint8), Target(), "a")
    turned = Photometric(0, 0, 1.0, 0.5, probability=1.0)(grey, generator())
    assert (turned.image.int() - 90).abs().max() <= 1, "grey has no hue to turn"


def test_one_pixel_images_pass_through_everything():
    sample = LabelledImage(torch.zeros(3, 1, 1, dtype=torch.uint8), Target(), "a")
    pipeline = Augment(
        [
            *(Flip(1.0), ScaleJitter(), RandomCrop(probability=1.0), Photometric(probability=1.0)),
            *(Blur(probability=1.0), Noise(probability=1.0), Jpeg(probability=1.0)),
        ],
        Mosaic(16, 1.0),
    )
    assert pipeline(sample, generator(), lambda _: sample).image.shape[0] == 3


def test_mosaic_needs_other_images_only_when_it_is_made():
    sample = LabelledImage(torch.zeros(3, 8, 8, dtype=torch.uint8), Target(), "a")
    assert Augment(mosaic=Mosaic(16, 0.0))(sample, generator()) is sample
    with pytest.raises(HemError, match="four images"):
        Augment(mosaic=Mosaic(16, 1.0))(sample, generator())


@pytest.mark.parametrize(
    "build",
    [
        lambda: Flip(1.1),
        lambda: ScaleJitter((0, 1)),
        lambda: ScaleJitter((2, 1)),
        lambda: ScaleJitter(aspect=0.5),
        lambda: RandomCrop((0.5, 1.5)),
        lambda: Mosaic(4),
        lambda: Visible(1.5),
        lambda: Photometric(brightness=2),
        lambda: Photometric(contrast=-0.1),
        lambda: Jpeg((0, 50)),
    ],
)
def test_settings_out_of_range_are_refused(build):
    with pytest.raises(HemError):
        build()
