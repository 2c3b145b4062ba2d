"""Decoding image files: 8-bit RGB, orientation the same as in the labels, damage named."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from hem.errors import HemError

Orientation = Literal["ignore", "apply"]

MAX_PIXELS = 100_000_000
# Only formats that are decoded in this process, by code made for untrusted input.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
_ORIENTATION_TAG = 0x0112


def open_image(path: Path) -> Image.Image:
    """Open an image lazily; the caller closes it.

    Raises:
        HemError: if it is absent, no image, of an unsupported kind, or of more than 100 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise HemError(f"{path}: image is not there") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them into
        raise HemError(f"{path}: not a readable image ({_short(error)})") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise HemError(f"{path}: {image.width}x{image.height} pixels are too many")
    if image.mode[0] in "IF":
        image.close()
        raise HemError(f"{path}: mode {image.mode} is not 8-bit; convert the image to 8 bits a channel")
    return image


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _turns(image: Image.Image, orientation: Orientation, declared: tuple[int, int] | None) -> bool:
    """Whether the orientation tag is to be applied, so that pixels lie as the labels do.

    Labels were made on the picture either as stored or as displayed. A declared size that fits only
    one of the two decides; otherwise the custom of the dataset (``orientation``) does.
    """
    try:
        tag = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata says nothing about orientation
        return False
    if tag not in range(2, 9):
        return False
    if declared is not None and tag >= 5 and image.width != image.height:
        if declared == image.size:
            return False
        if declared == (image.height, image.width):
            return True
    return orientation == "apply"


def size_of(path: Path, orientation: Orientation = "ignore") -> tuple[int, int]:
    """Return (width, height) in pixels as load_rgb would give them, from the file's header alone."""
    with open_image(path) as image:
        swaps = _turns(image, orientation, None) and image.getexif().get(_ORIENTATION_TAG, 1) >= 5
        return (image.height, image.width) if swaps else (image.width, image.height)


def _decode(
    path: Path, orientation: Orientation, declared: tuple[int, int] | None, draft: int | None
) -> Image.Image:
    with open_image(path) as image:
        try:
            turns = _turns(image, orientation, declared)
            if draft is not None:
                image.draft("L", (draft, draft))
            image.load()
            shown = ImageOps.exif_transpose(image) if turns else image
            return shown.convert("RGB" if draft is None else "L")
        except Exception as error:  # as in open_image
            raise HemError(f"{path}: image is damaged ({_short(error)})") from None


def load_rgb(
    path: Path, orientation: Orientation = "ignore", declared: tuple[int, int] | None = None
) -> Tensor:
    """Return an image as uint8 (3, H, W), RGB.

    Args:
        path: a JPEG, PNG, BMP, WebP, PPM, TIFF or GIF file.
        orientation: what to do with an EXIF orientation tag when ``declared`` does not decide.
        declared: (width, height) that the labels speak of, if they say.

    Raises:
        HemError: if the file is absent, damaged or truncated, or its size is not ``declared``.
    """
    pixels = np.asarray(_decode(path, orientation, declared, None))
    height, width = pixels.shape[:2]
    if declared is not None and declared != (width, height):
        raise HemError(
            f"{path}: the image is {width}x{height}, but its labels speak of {declared[0]}x{declared[1]}"
        )
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def load_thumbnail(path: Path, width: int, height: int) -> NDArray[np.float32]:
    """Return the image as a small grey picture, float32 (height, width) in 0..255 (fast for JPEG)."""
    grey = _decode(path, "ignore", None, 4 * max(width, height))
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
