"""A folder of images read as a video: the images in order of their names."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from hem.errors import HemError
from hem.video.reader import FrameReader, RawFrame, RawGap, Selection

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def images_of(folder: Path) -> list[Path]:
    """Return the images directly in a folder, numbers inside names compared as numbers (2 before 10)."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted((path for path in found if not path.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts], path.name


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return one image as uint8 (H, W, 3) RGB, EXIF orientation applied; of 16 bits the upper 8 are kept.

    Raises:
        HemError: naming the file and the cause, if it cannot be read, has more pixels than Pillow
            takes for safe, or has values that 8 bits cannot show (floating point, more than 16 bits).
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.split(";")[0] in ("I", "F"):
            return _eight_bit(path, upright)
        return np.asarray(upright.convert("RGB"))


def _eight_bit(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """Return a grey image of 16 bits as RGB; Pillow's own conversion would make all above 255 white."""
    values = np.asarray(image)
    if image.mode == "F" or values.size == 0 or values.min() < 0 or values.max() > 0xFFFF:
        raise HemError(f"{path.name} has Pillow's mode {image.mode} and values other than 0, 1, … 65535")
    return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except _BROKEN as error:
        raise HemError(f"{path.name} cannot be read as an image ({error})") from None


def _header_size(path: Path) -> tuple[int, int]:
    """Return (height, width) as displayed without decoding; HemError as in read_image."""
    with _opened(path) as image:
        turned = False
        if image.format != "TIFF":  # Pillow gives the size of a TIFF as displayed
            # a PNG's own getexif decodes it, to find what may come after the pixels
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


class ImageFolderReader(FrameReader):
    """Image k of the folder is frame k, at k / fps seconds. EXIF orientation is applied.

    An image that cannot be read (see read_image), or whose size differs from that of the first one that
    can, is a gap of one frame. Of images not selected only the header is read.

    Raises:
        HemError: if the folder holds no image.
    """

    def __init__(self, path: str, fps: float, selection: Selection) -> None:
        super().__init__(path, fps if fps > 0 else 25.0, selection)
        self._images = images_of(Path(path))
        if not self._images:
            raise HemError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)})")

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames."""
        size = self._size()
        for index, path in enumerate(self._images):
            if self.selection.is_past(index):
                return
            try:
                pixels = read_image(path) if self.selection.wants(index) else None
                found = _header_size(path) if pixels is None else pixels.shape[:2]
                if pixels is None and found != size:
                    found = read_image(path).shape[:2]  # not all that turns a picture is in its header
            except HemError as error:
                self._lose(index, str(error))
                continue
            if found != size:
                self._lose(index, f"{path.name} is {found[1]}x{found[0]}, the first is another size")
                continue
            yield RawFrame(index, index / self.fps, pixels)
        self.n_frames = len(self._images)

    def _size(self) -> tuple[int, ...] | None:
        """Return (height, width) of the first image that can be read, selected or not; None without one."""
        for path in self._images:
            try:
                return read_image(path).shape[:2]
            except HemError:
                continue  # a gap, once its turn comes
        return None

    def _lose(self, index: int, reason: str) -> None:
        if self.gaps and self.gaps[-1].end_frame == index:
            self.gaps[-1] = self.gaps[-1]._replace(end_frame=index + 1)
        else:
            self.gaps.append(RawGap(index, index + 1, reason))
