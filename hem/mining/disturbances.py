"""Small disturbances of a frame, each with the exact map of boxes there and back."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hem.errors import HemError


@dataclass(frozen=True)
class AxisMap:
    """Where a disturbance puts a point: x' = scale_x * x + shift_x, and the same in y.

    A negative scale mirrors. Coordinates are continuous pixels: the frame is [0, W] x [0, H].
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    def forward(self, boxes_xyxy: Tensor) -> Tensor:
        """Map boxes float64 (N, 4) of the original frame into the disturbed one."""
        scale = boxes_xyxy.new_tensor([self.scale_x, self.scale_y] * 2)
        shift = boxes_xyxy.new_tensor([self.shift_x, self.shift_y] * 2)
        return _ordered(boxes_xyxy * scale + shift)

    def inverse(self, boxes_xyxy: Tensor) -> Tensor:
        """Map boxes float64 (N, 4) of the disturbed frame back into the original one."""
        scale = boxes_xyxy.new_tensor([self.scale_x, self.scale_y] * 2)
        shift = boxes_xyxy.new_tensor([self.shift_x, self.shift_y] * 2)
        return _ordered((boxes_xyxy - shift) / scale)


def _ordered(boxes_xyxy: Tensor) -> Tensor:
    corners = boxes_xyxy.reshape(-1, 2, 2)
    return torch.cat([corners.amin(1), corners.amax(1)], 1)


@dataclass(frozen=True)
class Disturbance:
    """One way of disturbing a frame, with the exact map of boxes.

    Attributes:
        name: its name in ``DISTURBANCES``.
        pixels: uint8 (3, H, W) -> uint8 (3, H, W), pure, never writing into its argument.
        geometry: (H, W) -> where the points of a frame of that size go.
    """

    name: str
    pixels: Callable[[Tensor], Tensor]
    geometry: Callable[[int, int], AxisMap]

    def apply(self, frame: Tensor) -> Tensor:
        """Return the disturbed frame, uint8 (3, H, W), the size of ``frame``."""
        return self.pixels(frame)

    def to_original(self, boxes_xyxy: Tensor, height: int, width: int) -> Tensor:
        """Map boxes (N, 4) found in the disturbed frame to pixels of the (height, width) original."""
        return self.geometry(height, width).inverse(boxes_xyxy)

    def visible(self, boxes_xyxy: Tensor, height: int, width: int) -> Tensor:
        """Return bool (N,): which boxes of the original frame are still wholly in the disturbed one.

        What of a box lies outside the original frame cannot be lost, so boxes are clipped to the
        original frame first. Touching the border is inside.
        """
        limit = boxes_xyxy.new_tensor([width, height, width, height])
        seen = self.geometry(height, width).forward(boxes_xyxy.clamp(min=0).minimum(limit))
        slack = 1e-6 * max(height, width)  # a box on the border must not fall out by rounding
        return ((seen >= -slack) & (seen <= limit + slack)).all(1)


def _resized(frame: Tensor, height: int, width: int) -> Tensor:
    shrinks = height < frame.shape[1] or width < frame.shape[2]
    if frame.device.type == "cpu":
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(frame.permute(1, 2, 0).numpy(), (width, height), interpolation=method)
        return torch.from_numpy(pixels).permute(2, 0, 1)
    scaled = functional.interpolate(
        frame[None].float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return scaled[0].round().clamp(0, 255).to(torch.uint8)


def _shrunk_size(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, round(height * factor)), max(1, round(width * factor))


def _identity(height: int, width: int) -> AxisMap:
    return AxisMap()


def _mirror() -> Disturbance:
    return Disturbance(
        "mirror",
        lambda frame: frame.flip(2),
        lambda height, width: AxisMap(scale_x=-1.0, shift_x=float(width)),
    )


def _shrink(name: str, factor: float) -> Disturbance:
    """Shrink the frame and pad it with mid-grey on all four sides to its old size."""

    def place(height: int, width: int) -> tuple[int, int, int, int]:
        small_h, small_w = _shrunk_size(height, width, factor)
        return small_h, small_w, (height - small_h) // 2, (width - small_w) // 2

    def pixels(frame: Tensor) -> Tensor:
        small_h, small_w, top, left = place(frame.shape[1], frame.shape[2])
        padded = torch.full_like(frame, 114)
        padded[:, top : top + small_h, left : left + small_w] = _resized(frame, small_h, small_w)
        return padded

    def geometry(height: int, width: int) -> AxisMap:
        small_h, small_w, top, left = place(height, width)
        return AxisMap(small_w / width, small_h / height, float(left), float(top))

    return Disturbance(name, pixels, geometry)


def _corner(name: str, factor: float, right: bool, bottom: bool) -> Disturbance:
    """Enlarge one corner of the frame to the whole frame."""

    def window(height: int, width: int) -> tuple[int, int, int, int]:
        crop_h, crop_w = _shrunk_size(height, width, 1.0 / factor)
        return crop_h, crop_w, (height - crop_h) * bottom, (width - crop_w) * right

    def pixels(frame: Tensor) -> Tensor:
        height, width = frame.shape[1], frame.shape[2]
        crop_h, crop_w, top, left = window(height, width)
        return _resized(frame[:, top : top + crop_h, left : left + crop_w], height, width)

    def geometry(height: int, width: int) -> AxisMap:
        crop_h, crop_w, top, left = window(height, width)
        scale_x, scale_y = width / crop_w, height / crop_h
        return AxisMap(scale_x, scale_y, -left * scale_x, -top * scale_y)

    return Disturbance(name, pixels, geometry)


def _shift(name: str, across: int, down: int) -> Disturbance:
    """Move the picture by whole pixels, repeating its border; what leaves the frame is lost."""

    def pixels(frame: Tensor) -> Tensor:
        rows = (torch.arange(frame.shape[1], device=frame.device) - down).clamp(0, frame.shape[1] - 1)
        columns = (torch.arange(frame.shape[2], device=frame.device) - across).clamp(0, frame.shape[2] - 1)
        return frame[:, rows][:, :, columns]

    return Disturbance(
        name, pixels, lambda height, width: AxisMap(shift_x=float(across), shift_y=float(down))
    )


def _gain(name: str, factor: float) -> Disturbance:
    def pixels(frame: Tensor) -> Tensor:
        return (frame.float() * factor).round().clamp(0, 255).to(torch.uint8)

    return Disturbance(name, pixels, _identity)


def _contrast(name: str, factor: float) -> Disturbance:
    def pixels(frame: Tensor) -> Tensor:
        return ((frame.float() - 128) * factor + 128).round().clamp(0, 255).to(torch.uint8)

    return Disturbance(name, pixels, _identity)


def _grey() -> Disturbance:
    def pixels(frame: Tensor) -> Tensor:
        weights = torch.tensor([0.299, 0.587, 0.114], device=frame.device).reshape(3, 1, 1)
        grey = (frame.float() * weights).sum(0, keepdim=True).round().clamp(0, 255).to(torch.uint8)
        return grey.expand(3, -1, -1).contiguous()

    return Disturbance("grey", pixels, _identity)


def _noise(name: str, sigma: float) -> Disturbance:
    """Add Gaussian noise, seeded from the frame's content: the same frame always gets the same noise."""

    def pixels(frame: Tensor) -> Tensor:
        sample = frame[:, ::8, ::8].contiguous().cpu().numpy()
        generator = np.random.default_rng(zlib.crc32(sample.tobytes()))
        # one plane of noise for three channels: a third of the time, and sensor noise of a grey world
        noise = generator.standard_normal(tuple(frame.shape[1:]), dtype=np.float32) * np.float32(sigma)
        return (
            (frame.float() + torch.from_numpy(noise).to(frame.device)).round().clamp(0, 255).to(torch.uint8)
        )

    return Disturbance(name, pixels, _identity)


def _blur() -> Disturbance:
    def pixels(frame: Tensor) -> Tensor:
        kernel = frame.new_tensor([1, 2, 1], dtype=torch.float32) / 4
        padded = functional.pad(frame.float()[:, None], (1, 1, 1, 1), mode="replicate")
        smooth = functional.conv2d(
            functional.conv2d(padded, kernel.reshape(1, 1, 1, 3)), kernel.reshape(1, 1, 3, 1)
        )
        return smooth[:, 0].round().clamp(0, 255).to(torch.uint8)

    return Disturbance("blur", pixels, _identity)


def _jpeg(quality: int) -> Disturbance:
    def pixels(frame: Tensor) -> Tensor:
        packed = frame.permute(1, 2, 0).flip(2).contiguous().cpu().numpy()
        _, code = cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, quality])
        back = torch.from_numpy(cv2.imdecode(code, cv2.IMREAD_COLOR))
        return back.flip(2).permute(2, 0, 1).contiguous().to(frame.device)

    return Disturbance("jpeg", pixels, _identity)


def _table() -> dict[str, Disturbance]:
    corners = [
        _corner(f"zoom_{'bottom' if bottom else 'top'}_{'right' if right else 'left'}", 1.25, right, bottom)
        for bottom in (False, True)
        for right in (False, True)
    ]
    others = [
        _mirror(),
        _shrink("shrink", 0.8),
        _shrink("shrink_more", 0.65),
        _gain("darker", 0.8),
        _gain("brighter", 1.25),
        _contrast("flatter", 0.7),
        _grey(),
        _noise("noise", 6.0),
        _noise("noise_more", 14.0),
        _blur(),
        _shift("shift", 5, 3),
        _shift("shift_back", -4, -5),
        _jpeg(40),
    ]
    return {one.name: one for one in (*others[:3], *corners, *others[3:])}


DISTURBANCES: Mapping[str, Disturbance] = MappingProxyType(_table())
"""Every disturbance by name, in a fixed order."""

DEFAULT_VARIANTS: tuple[str, ...] = ("zoom_top_right", "zoom_bottom_left", "noise", "mirror")
"""Four passes, of all sets of four the one that ranked false alarms best; each set of three loses somewhere.

See experiments/studies/elicited_disturbances.md.
"""


def disturbances(names: Sequence[str]) -> tuple[Disturbance, ...]:
    """Return disturbances by name, in the order given.

    Raises:
        HemError: if a name is unknown or given twice.
    """
    for name in names:
        if name not in DISTURBANCES:
            known = ", ".join(DISTURBANCES)
            raise HemError(f"collect.variants: disturbance {name!r} is unknown; choose from {known}")
    if len(set(names)) < len(names):
        raise HemError(f"collect.variants: disturbances {list(names)} name one twice; each may be asked once")
    return tuple(DISTURBANCES[name] for name in names)
