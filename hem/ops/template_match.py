"""Zero-mean normalised cross-correlation: where a small picture is found again in a larger one.

Convention (OpenCV's): a constant template correlates as 1 everywhere, a constant window as 0 with any
template that is not constant. Of equal maxima the first in row-major order is taken.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError

Grey = NDArray[np.uint8]
Backend = Literal["auto", "opencv", "torch"]


def best_match_opencv(template: Grey, region: Grey) -> tuple[float, int, int]:
    """Return (best NCC, x, y) of ``template`` in ``region``, by OpenCV (off by up to 3.4e-4)."""
    scores = cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED)
    _, best, _, place = cv2.minMaxLoc(scores)
    return float(best), int(place[0]), int(place[1])


def ncc_of(one: Grey, other: Grey) -> float:
    """Return the NCC of two pictures of one size, to 1e-12; 0 where one has hardly any contrast.

    Hardly any: a standard deviation below two grey levels, where OpenCV's own error is no longer small.
    """
    total = cv2.sumElems(one)[0], cv2.sumElems(other)[0]
    # added up as whole numbers and rounded once; the product follows from three of them
    squares = cv2.norm(one, cv2.NORM_L2SQR), cv2.norm(other, cv2.NORM_L2SQR)
    product = (squares[0] + squares[1] - cv2.norm(one, other, cv2.NORM_L2SQR)) / 2
    energy = squares[0] - total[0] ** 2 / one.size, squares[1] - total[1] ** 2 / one.size
    if min(energy) < 4.0 * one.size:
        return 0.0
    return float((product - total[0] * total[1] / one.size) / (energy[0] * energy[1]) ** 0.5)


def ncc_maps(templates: Tensor, regions: Tensor) -> Tensor:
    """Return the NCC of each template at every place of its region.

    Args:
        templates: (B, h, w), uint8 or floating, values as in 8-bit grey pictures.
        regions: (B, H, W), H >= h, W >= w, on the same device.

    Returns:
        float64 (B, H - h + 1, W - w + 1), within 1e-5 of direct summation.
    """
    if templates.shape[1] > regions.shape[1] or templates.shape[2] > regions.shape[2]:
        raise HemError(f"templates {tuple(templates.shape)} do not fit into regions {tuple(regions.shape)}")
    sizes = torch.tensor([templates.shape[1:]] * len(templates), device=templates.device)
    return _ncc_maps(templates.double(), sizes, regions.double())


def _ncc_maps(templates: Tensor, sizes: Tensor, regions: Tensor) -> Tensor:
    """Padded templates (B, h, w) of true ``sizes`` (B, 2); places beyond a region's end mean nothing."""
    count, height, width = regions.shape
    pixels = (sizes[:, 0] * sizes[:, 1]).double()[:, None, None]
    rows = torch.arange(templates.shape[1], device=templates.device)
    columns = torch.arange(templates.shape[2], device=templates.device)
    inside = (rows[None, :, None] < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])
    mean = (templates * inside).sum((1, 2), keepdim=True) / pixels
    zero_mean = (templates - mean) * inside
    template_energy = zero_mean.square().sum((1, 2), keepdim=True)

    centred = regions - 128.0  # a smaller constant part keeps the transform's rounding small
    shape = (height, width)
    product = torch.fft.rfft2(centred, s=shape) * torch.fft.rfft2(zero_mean, s=shape).conj()
    places_y = height - int(sizes[:, 0].min()) + 1
    places_x = width - int(sizes[:, 1].min()) + 1
    correlation = torch.fft.irfft2(product, s=shape)[:, :places_y, :places_x]

    total = _window_sums(centred, sizes, places_y, places_x)
    squares = _window_sums(centred.square(), sizes, places_y, places_x)
    window_energy = squares - total.square() / pixels
    # Sums of integers are exact, so a constant window has (nearly) no energy; one grey level in one
    # pixel already gives (1 - 1/pixels) >= 0.5.
    flat = window_energy < 0.25
    scores = correlation / (window_energy.clamp(min=0.25) * template_energy.clamp(min=1e-12)).sqrt()
    scores = torch.where(flat, torch.zeros_like(scores), scores.clamp(-1.0, 1.0))
    constant = (template_energy < 0.25).expand_as(scores)
    return torch.where(constant, torch.ones_like(scores), scores).reshape(count, places_y, places_x)


def _window_sums(values: Tensor, sizes: Tensor, places_y: int, places_x: int) -> Tensor:
    integral = torch.nn.functional.pad(values.cumsum(1).cumsum(2), (1, 0, 1, 0))
    height, width = values.shape[1:]
    top = torch.arange(places_y, device=values.device).expand(len(values), -1)
    left = torch.arange(places_x, device=values.device).expand(len(values), -1)
    bottom = (top + sizes[:, :1]).clamp(max=height)
    right = (left + sizes[:, 1:]).clamp(max=width)
    item = torch.arange(len(values), device=values.device)[:, None, None]

    def at(y: Tensor, x: Tensor) -> Tensor:
        return integral[item, y[:, :, None], x[:, None, :]]

    return at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)


def best_matches_torch(templates: Sequence[Tensor], regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the best place of each template in its region; sizes may differ from item to item.

    Args:
        templates: B tensors (h_i, w_i), uint8 or floating.
        regions: B tensors (H_i, W_i), H_i >= h_i, W_i >= w_i, all on one device.

    Returns:
        (best NCC float64 (B,), places int64 (B, 2) as x, y).
    """
    if len(templates) != len(regions):
        raise HemError(f"{len(templates)} templates need as many regions, got {len(regions)}")
    if not templates:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, 2, dtype=torch.int64)
    device = regions[0].device
    for template, region in zip(templates, regions, strict=True):
        if template.shape[0] > region.shape[0] or template.shape[1] > region.shape[1]:
            raise HemError(f"template {tuple(template.shape)} does not fit into {tuple(region.shape)}")
    sizes = torch.tensor([tuple(t.shape) for t in templates], device=device)
    limits = torch.tensor([tuple(r.shape) for r in regions], device=device)
    scores = _ncc_maps(_stack(templates), sizes, _stack(regions))
    rows = torch.arange(scores.shape[1], device=device)[None, :, None]
    columns = torch.arange(scores.shape[2], device=device)[None, None, :]
    last = (limits - sizes)[:, :, None, None]
    scores = scores.masked_fill((rows > last[:, 0]) | (columns > last[:, 1]), -2.0).flatten(1)
    best = scores.amax(1)
    # equal up to the transform's rounding counts as equal, so that the first of equal maxima is found
    place = (scores >= best[:, None] - 1e-10).to(torch.uint8).argmax(1)
    span = columns.shape[2]
    return best, torch.stack((place % span, place // span), dim=1)


def _stack(items: Sequence[Tensor]) -> Tensor:
    height = max(item.shape[0] for item in items)
    width = max(item.shape[1] for item in items)
    out = torch.zeros(len(items), height, width, dtype=torch.float64, device=items[0].device)
    for index, item in enumerate(items):
        out[index, : item.shape[0], : item.shape[1]] = item
    return out


def match_templates(
    templates: Sequence[Tensor | Grey], regions: Sequence[Tensor | Grey], backend: Backend = "auto"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (best NCC (B,), places (B, 2) as x, y) of each template in its region.

    Args:
        templates, regions: as for best_matches_torch; numpy arrays or tensors, grey, uint8.
        backend: ``opencv`` (CPU), ``torch`` (wherever the regions are), or ``auto``: torch for
            tensors on a GPU, else OpenCV, which experiments/benchmarks/template_match.py measured as
            the faster on a CPU.
    """
    on_gpu = any(isinstance(region, Tensor) and region.device.type != "cpu" for region in regions)
    if backend == "auto":
        backend = "torch" if on_gpu else "opencv"
    if backend == "torch":
        best, places = best_matches_torch(
            [torch.as_tensor(t) for t in templates], [torch.as_tensor(r) for r in regions]
        )
        return best.cpu().numpy(), places.cpu().numpy()
    if backend != "opencv":
        raise HemError(f"backend must be auto, opencv or torch, got {backend!r}")
    found = [
        best_match_opencv(_as_grey(template), _as_grey(region))
        for template, region in zip(templates, regions, strict=True)
    ]
    rows = np.array(found, dtype=np.float64).reshape(-1, 3)
    return rows[:, 0], rows[:, 1:].astype(np.int64)


def _as_grey(picture: Tensor | Grey) -> Grey:
    array = picture.cpu().numpy() if isinstance(picture, Tensor) else picture
    return np.ascontiguousarray(array, dtype=np.uint8)
