"""Augmentation of partly labelled images: every part of a Target goes where its pixels go."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as kernels

from hem.data.geometry import DEFAULT_VISIBLE, Visible, flip, joined, place
from hem.data.photometric import check_probability, check_range, happens, uniform
from hem.errors import HemError
from hem.structures import LabelledImage, Target

Window = tuple[int, int, int, int]
Draw = Callable[[torch.Generator], LabelledImage]
FILL = 114  # grey of the empty part of a canvas: near the mean of photographs


@runtime_checkable
class Transform(Protocol):
    """A random change of one labelled image; all chance comes from the generator (on the CPU)."""

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the changed image; the given one is not changed."""
        ...


class Augment:
    """Transforms one after another, a mosaic first if there is one.

    Args:
        transforms: applied in order.
        mosaic: joins the image with three others before anything else; None for never.

    The same sample, generator state and (for a mosaic) ``draw`` give the same result, bit for bit.
    """

    def __init__(self, transforms: Sequence[Transform] = (), mosaic: "Mosaic | None" = None) -> None:
        self.transforms = tuple(transforms)
        self.mosaic = mosaic

    @property
    def needs_draw(self) -> bool:
        """True if calls need ``draw``, which gives the images that a mosaic joins."""
        return self.mosaic is not None and self.mosaic.probability > 0

    def __call__(
        self, sample: LabelledImage, generator: torch.Generator, draw: Draw | None = None
    ) -> LabelledImage:
        """Return the augmented image.

        Args:
            sample: image uint8 (3, H, W) with its target, on the CPU.
            generator: the only source of chance.
            draw: gives another labelled image; needed only with a mosaic.

        Raises:
            HemError: if a mosaic is wanted and there is no ``draw``.
        """
        if self.mosaic is not None:
            sample = self.mosaic(sample, generator, draw)
        for transform in self.transforms:
            sample = transform(sample, generator)
        return sample


class Flip:
    """Mirror left to right with the given probability."""

    def __init__(self, probability: float = 0.5) -> None:
        check_probability(probability)
        self.probability = probability

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image, mirrored or as it is."""
        if not happens(generator, self.probability):
            return sample
        width = int(sample.image.shape[2])
        return replace(sample, image=sample.image.flip(2), target=flip(sample.target, width))


class ScaleJitter:
    """Show the image larger (a part of it) or smaller (on a grey canvas), the size staying as it is.

    Args:
        scale: the factor is drawn from this range, evenly in its logarithm. A wide range trains for
            objects of other sizes; below about 0.5 small ones vanish.
        aspect: width grows and height shrinks by up to this factor, or the other way round; >= 1.
        probability: of changing an image at all.
        visible: what a cut box still counts as.
    """

    def __init__(
        self,
        scale: tuple[float, float] = (0.7, 1.5),
        aspect: float = 1.0,
        probability: float = 1.0,
        visible: Visible = DEFAULT_VISIBLE,
    ) -> None:
        check_range("scale", scale, 0.05, 20)
        check_range("aspect", (1.0, aspect), 1.0, 4.0)
        check_probability(probability)
        self.scale, self.aspect, self.probability, self.visible = scale, aspect, probability, visible

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image at another scale on a canvas of its own size."""
        if not happens(generator, self.probability):
            return sample
        height, width = sample.image.shape[1:]
        factor = math.exp(uniform(generator, math.log(self.scale[0]), math.log(self.scale[1])))
        stretch = math.exp(uniform(generator, -0.5, 0.5) * math.log(self.aspect))
        wide = max(1, round(width / factor / stretch))
        tall = max(1, round(height / factor * stretch))
        left = round(uniform(generator, min(0, width - wide), max(0, width - wide)))
        top = round(uniform(generator, min(0, height - tall), max(0, height - tall)))
        canvas = torch.full_like(sample.image, FILL)
        window = (left, top, left + wide, top + tall)
        target = _show(sample, window, canvas, (0, 0, width, height), self.visible)
        return replace(sample, image=canvas, target=target)


class RandomCrop:
    """Cut out a part; the result is smaller and nothing is resampled.

    Args:
        fraction: width and height are drawn, each for itself, from this range of the image's.
        around: probability of a cut that holds the centre of one of the image's positives or hard
            negatives; raising it loses fewer of them, lowering it shows more plain background.
        probability: of cutting at all.
        visible: what a cut box still counts as.
    """

    def __init__(
        self,
        fraction: tuple[float, float] = (0.6, 1.0),
        around: float = 0.7,
        probability: float = 0.5,
        visible: Visible = DEFAULT_VISIBLE,
    ) -> None:
        check_range("fraction", fraction, 0.01, 1.0)
        check_probability(around)
        check_probability(probability)
        self.fraction, self.around, self.probability = fraction, around, probability
        self.visible = visible

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return a part of the image with what is left of its target."""
        if not happens(generator, self.probability):
            return sample
        height, width = sample.image.shape[1:]
        wide = max(1, round(width * uniform(generator, *self.fraction)))
        tall = max(1, round(height * uniform(generator, *self.fraction)))
        centre = self._anchor(sample.target, generator)
        left = _start(generator, width, wide, centre and centre[0])
        top = _start(generator, height, tall, centre and centre[1])
        image = sample.image[:, top : top + tall, left : left + wide].contiguous()
        target = place(
            sample.target,
            (1.0, 1.0),
            (-left, -top),
            (0, 0, wide, tall),
            (width, height),
            self.visible,
        )
        return replace(sample, image=image, target=target)

    def _anchor(self, target: Target, generator: torch.Generator) -> tuple[float, float] | None:
        boxes = torch.cat([target.boxes_xyxy, target.hard_negatives[0]])
        if not happens(generator, self.around) or not len(boxes):
            return None
        row = int(torch.randint(len(boxes), (), generator=generator))
        left, top, right, bottom = boxes[row].tolist()
        return (left + right) / 2, (top + bottom) / 2


def _start(generator: torch.Generator, length: int, part: int, point: float | None) -> int:
    """Return where a part of a line begins, so that it holds ``point`` if one is given."""
    low, high = 0, length - part
    if point is not None:
        low, high = max(low, min(high, math.ceil(point) - part)), min(high, max(0, math.floor(point)))
    return low + int(torch.randint(high - low + 1, (), generator=generator))


class Mosaic:
    """Four images in the quarters of one canvas: more objects and more scales in each step.

    Args:
        size: side of the square canvas in pixels; None: the longer side of the image at hand, so
            that objects come out about half as large as they were.
        probability: of making one; 0 never asks for other images.
        scale: each image covers its quarter and is enlarged by a factor drawn from this range.
        visible: what a cut box still counts as.
    """

    def __init__(
        self,
        size: int | None = 640,
        probability: float = 0.5,
        scale: tuple[float, float] = (1.0, 1.6),
        visible: Visible = DEFAULT_VISIBLE,
    ) -> None:
        if size is not None and not 8 <= size <= 8192:
            raise HemError(f"mosaic size must lie in 8..8192 pixels, got {size}")
        check_probability(probability)
        check_range("scale", scale, 1.0, 20)
        self.size, self.probability, self.scale, self.visible = size, probability, scale, visible

    def __call__(self, sample: LabelledImage, generator: torch.Generator, draw: Draw | None) -> LabelledImage:
        """Return the mosaic, or the sample as it is; ``draw`` gives the other three images."""
        if self.probability == 0 or not happens(generator, self.probability):
            return sample
        if draw is None:
            raise HemError("a mosaic joins four images: give draw, or set its probability to 0")
        samples = [sample, *(draw(generator) for _ in range(3))]
        side = max(8, *sample.image.shape[1:]) if self.size is None else self.size
        middle_x = round(side * uniform(generator, 0.35, 0.65))
        middle_y = round(side * uniform(generator, 0.35, 0.65))
        spans_x, spans_y = ((0, middle_x), (middle_x, side)), ((0, middle_y), (middle_y, side))
        canvas = torch.empty((3, side, side), dtype=torch.uint8)
        targets = []
        for index, one in enumerate(samples):
            (left, right), (top, bottom) = spans_x[index % 2], spans_y[index // 2]
            tile = (left, top, right, bottom)
            targets.append(_show(one, self._window(one, tile, generator), canvas, tile, self.visible))
        name = " + ".join(one.target.name or one.image_id for one in samples)
        return replace(sample, image=canvas, target=joined(targets, name))

    def _window(self, sample: LabelledImage, tile: Window, generator: torch.Generator) -> Window:
        height, width = sample.image.shape[1:]
        tile_wide, tile_tall = tile[2] - tile[0], tile[3] - tile[1]
        factor = max(tile_wide / width, tile_tall / height) * uniform(generator, *self.scale)
        wide = min(width, max(1, round(tile_wide / factor)))
        tall = min(height, max(1, round(tile_tall / factor)))
        left = _start(generator, width, wide, None)
        top = _start(generator, height, tall, None)
        return left, top, left + wide, top + tall


def _show(sample: LabelledImage, window: Window, canvas: Tensor, tile: Window, visible: Visible) -> Target:
    """Draw ``window`` of an image into ``tile`` of ``canvas`` and return its target there.

    The window may reach beyond the image; that part of the tile is left as it is. Boxes are moved
    by the very factors that the pixels were, after rounding to whole pixels.
    """
    height, width = sample.image.shape[1:]
    spans = []
    for axis, length in ((0, width), (1, height)):
        first, end = max(window[axis], 0), min(window[axis + 2], length)
        factor = (tile[axis + 2] - tile[axis]) / (window[axis + 2] - window[axis])
        to_first = tile[axis] + round((first - window[axis]) * factor)
        to_end = max(to_first + 1, tile[axis] + round((end - window[axis]) * factor))
        if to_end > tile[axis + 2]:
            to_first, to_end = tile[axis + 2] - (to_end - to_first), tile[axis + 2]
        spans.append((first, end, to_first, to_end))
    (x0, x1, left, right), (y0, y1, top, bottom) = spans
    part = sample.image[:, y0:y1, x0:x1]
    if part.shape[1:] != (bottom - top, right - left):
        part = kernels.resize_image(part, [bottom - top, right - left], antialias=True)
    canvas[:, top:bottom, left:right] = part
    scale = ((right - left) / (x1 - x0), (bottom - top) / (y1 - y0))
    shift = (left - x0 * scale[0], top - y0 * scale[1])
    return place(sample.target, scale, shift, (left, top, right, bottom), (width, height), visible)
