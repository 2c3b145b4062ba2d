"""Where the images of a mosaic come from: the draw's own kind, by the draw's own seed."""

from dataclasses import replace

import pytest
import torch

from hem.data.augment import Augment, Mosaic
from hem.training.datamodule import LabelledReplayData, PlannedSamples


class Joined:
    """Stands for a mosaic: names the image and three others."""

    needs_draw = True

    def __call__(self, sample, generator, draw):
        names = [sample.image_id, *(draw(generator).image_id for _ in range(3))]
        return replace(sample, image_id="+".join(names))


def names(samples, draws):
    return [samples[draw].image_id.split("+") for draw in draws]


def test_labelled_images_meet_labelled_ones_alone_whatever_was_mined(make_images) -> None:
    labelled, mined = make_images(10, "image"), make_images(4, "mined")
    without = PlannedSamples(labelled, None, Joined())
    mixed = PlannedSamples(labelled, mined, Joined(), [1.0] * 4)
    draws = [(False, index, 70 + index) for index in range(10)]
    assert names(without, draws) == names(mixed, draws)
    assert all(name.startswith("image") for one in names(mixed, draws) for name in one)
    assert len({tuple(one[1:]) for one in names(mixed, draws)}) > 5, "each seed draws its own"
    for one in names(mixed, [(True, index, 70 + index) for index in range(4)]):
        assert all(name.startswith("mined") for name in one)


def test_mined_frames_are_drawn_by_weight(make_images) -> None:
    samples = PlannedSamples(make_images(), make_images(4, "mined"), Joined(), [0.0, 1.0, 0.0, 3.0])
    others = [name for one in names(samples, [(True, 0, seed) for seed in range(100)]) for name in one[1:]]
    assert set(others) == {"mined-1", "mined-3"}
    assert 0.6 < others.count("mined-3") / len(others) < 0.9


def test_the_same_draw_gives_the_same_mosaic(make_images) -> None:
    samples = PlannedSamples(make_images(), None, Augment([], Mosaic(16, 1.0)))
    first, again, other = samples[False, 3, 8], samples[False, 3, 8], samples[False, 3, 9]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target.boxes_xyxy, again.target.boxes_xyxy)
    assert not torch.equal(first.image, other.image)
    assert first.image_id == "image-3", "messages and logs name the image that was drawn"


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_makes_mosaics_in_its_workers_too(make_images, workers: int) -> None:
    def batches(workers, replay):
        data = LabelledReplayData(make_images(), Augment([], Mosaic(16, 0.7)), 3, 2, seed=4, workers=workers)
        if replay:
            data.set_replay(make_images(4, "mined"), [1.0] * 4, 1)
        return list(data.train_dataloader())

    plain, mixed = batches(0, replay=False), batches(workers, replay=True)
    assert {tuple(sample.image.shape[1:]) for batch in mixed for sample in batch} == {(8, 8), (16, 16)}
    for one, other in zip(plain, mixed, strict=True):
        assert len(other) == 6
        for sample, same in zip(one, other[:3], strict=True):
            assert torch.equal(sample.image, same.image)
