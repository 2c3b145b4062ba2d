"""Changes of pixels that leave every box where it is."""

import math
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as kernels

from hem.errors import HemError
from hem.structures import LabelledImage

# Luma weights and the two chroma axes of YIQ: turning the chroma plane changes the hue, and being
# linear it joins brightness, contrast and saturation in one 3x3 matrix (one pass over the pixels).
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = torch.linalg.inv(_YIQ)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Return a number drawn evenly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def happens(generator: torch.Generator, probability: float) -> bool:
    """Return True with the given probability (never at 0, always at 1)."""
    return float(torch.rand((), generator=generator)) < probability


def check_range(name: str, value: tuple[float, float], lowest: float, highest: float = math.inf) -> None:
    """Raise HemError unless lowest <= value[0] <= value[1] <= highest."""
    if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
        raise HemError(f"{name} must be (low, high) with {lowest} <= low <= high <= {highest}, got {value}")


def check_probability(value: float) -> None:
    """Raise HemError unless value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise HemError(f"probability must lie in [0, 1], got {value}")


class Photometric:
    """Random brightness, contrast, saturation and hue, as one linear map of colours.

    Args:
        brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x], 0 <= x <= 1.
        hue: turn of the colour circle, drawn from [-x, x], 0 <= x <= 0.5 (0.5 is half a turn).
        probability: of changing an image at all.
    """

    def __init__(
        self,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.4,
        hue: float = 0.03,
        probability: float = 0.8,
    ) -> None:
        check_range("brightness, contrast and saturation", (0, max(brightness, contrast, saturation)), 0, 1)
        check_range("brightness, contrast and saturation", (min(brightness, contrast, saturation), 1), 0, 1)
        check_range("hue", (0, hue), 0, 0.5)
        check_probability(probability)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.probability = probability

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image with other colours and the same target."""
        if not happens(generator, self.probability):
            return sample
        brightness = uniform(generator, 1 - self.brightness, 1 + self.brightness)
        contrast = uniform(generator, 1 - self.contrast, 1 + self.contrast)
        saturation = uniform(generator, 1 - self.saturation, 1 + self.saturation)
        turn = 2 * math.pi * uniform(generator, -self.hue, self.hue)
        across, along = saturation * math.cos(turn), saturation * math.sin(turn)
        chroma = torch.tensor([[1, 0, 0], [0, across, -along], [0, along, across]])
        matrix = _RGB @ chroma @ _YIQ * (brightness * contrast)
        pixels = sample.image.flatten(1).float()
        mean = float(_YIQ[0] @ pixels.mean(1)) * brightness
        offset = torch.full((3, 1), (1 - contrast) * mean)
        out = torch.addmm(offset, matrix, pixels).round_().clamp_(0, 255).to(torch.uint8)
        return replace(sample, image=out.view_as(sample.image))


class Blur:
    """Gaussian blur with a standard deviation drawn from ``sigma`` (pixels)."""

    def __init__(self, sigma: tuple[float, float] = (0.4, 1.6), probability: float = 0.1) -> None:
        check_range("sigma", sigma, 0.05, 50)
        check_probability(probability)
        self.sigma, self.probability = sigma, probability

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image blurred, with the same target."""
        if not happens(generator, self.probability) or min(sample.image.shape[1:]) < 2:
            return sample
        sigma = uniform(generator, *self.sigma)
        reach = min(math.ceil(2.5 * sigma), min(sample.image.shape[1:]) - 1)
        out = kernels.gaussian_blur_image(sample.image, [2 * reach + 1] * 2, [sigma, sigma])
        return replace(sample, image=out)


class Noise:
    """Gaussian noise of each channel with a standard deviation drawn from ``sigma`` (grey levels)."""

    def __init__(self, sigma: tuple[float, float] = (2.0, 12.0), probability: float = 0.1) -> None:
        check_range("sigma", sigma, 0, 255)
        check_probability(probability)
        self.sigma, self.probability = sigma, probability

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image with noise, with the same target."""
        if not happens(generator, self.probability):
            return sample
        sigma = uniform(generator, *self.sigma)
        noise: Tensor = torch.randn(sample.image.shape, generator=generator)
        out = noise.mul_(sigma).add_(sample.image).round_().clamp_(0, 255).to(torch.uint8)
        return replace(sample, image=out)


class Jpeg:
    """JPEG compression with a quality drawn from ``quality`` (1 worst, 100 best)."""

    def __init__(self, quality: tuple[float, float] = (30, 90), probability: float = 0.1) -> None:
        check_range("quality", quality, 1, 100)
        check_probability(probability)
        self.quality, self.probability = quality, probability

    def __call__(self, sample: LabelledImage, generator: torch.Generator) -> LabelledImage:
        """Return the image after compression, with the same target."""
        if not happens(generator, self.probability):
            return sample
        quality = round(uniform(generator, *self.quality))
        # OpenCV, which orders channels blue first: torchvision's own codecs are on their way out
        pixels = np.ascontiguousarray(sample.image.flip(0).permute(1, 2, 0).numpy())
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = torch.from_numpy(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        return replace(sample, image=decoded.permute(2, 0, 1).flip(0).contiguous())
