"""A folder of images read as a video: the images in order of their names."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hem.errors import HemError
from hem.video.reader import FrameReader, RawFrame, RawGap, Selection

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def images_of(folder: Path) -> list[Path]:
    """Return the images directly in a folder, numbers inside names compared as numbers (2 before 10)."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted((path for path in found if not path.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts], path.name


class ImageFolderReader(FrameReader):
    """Image k of the folder is frame k, at k / fps seconds. EXIF orientation is applied.

    An image that cannot be read, or whose size differs from the first one's, is a gap of one frame.

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
        size: tuple[int, ...] | None = None
        for index, path in enumerate(self._images):
            if self.selection.is_past(index):
                return
            if not self.selection.wants(index):
                yield RawFrame(index, index / self.fps, None)
                continue
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                self._lose(index, f"{path.name} cannot be read ({error})")
                continue
            size = size or pixels.shape
            if pixels.shape != size:
                self._lose(
                    index, f"{path.name} is {pixels.shape[1]}x{pixels.shape[0]}, the first is another size"
                )
                continue
            yield RawFrame(index, index / self.fps, pixels)
        self.n_frames = len(self._images)

    def _lose(self, index: int, reason: str) -> None:
        if self.gaps and self.gaps[-1].end_frame == index:
            self.gaps[-1] = self.gaps[-1]._replace(end_frame=index + 1)
        else:
            self.gaps.append(RawGap(index, index + 1, reason))
