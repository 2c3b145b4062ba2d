"""WIDER FACE. Source: wider_face_{train,val}_bbx_gt.txt and the readme of the official package."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, Unpack

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, need, number, read_lines, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

_MAX_FACES = 100_000  # of one image; the official set has at most about 2,000
_COLUMNS = 10  # x y w h blur expression illumination invalid occlusion pose


class WiderFace(DetectionDataset):
    """One split of WIDER FACE, class ``face``.

    Faces marked invalid become ignore regions. The official files' quirks are read as meant: an
    image of 0 faces is followed by one row of zeros, and boxes without width or height are left out,
    counted.

    Args:
        root: folder with ``WIDER_train/images`` and ``wider_face_split/``, or with
            ``train/images`` and the text files beside it.
        split: ``train`` or ``val``.
        options: see DetectionDataset; ``min_box_side`` turns tiny faces into ignore regions.

    Raises:
        HemError: if a file is absent or damaged, naming the line, or a box impossible.
    """

    how_to: ClassVar[str] = (
        "Download WIDER_train.zip, WIDER_val.zip and wider_face_split.zip from the WIDER FACE page "
        "(shuoyang1213.me/WIDERFACE), unpack them into one folder, and set data.root to it"
    )
    # a face cut by the border is sometimes boxed as if whole
    overhang_px: ClassVar[float] = 64.0

    def __init__(
        self, root: Path | str, split: Literal["train", "val"] = "train", **options: Unpack[ReadOptions]
    ) -> None:
        if split not in ("train", "val"):
            raise HemError(f"WIDER FACE split must be train or val, got {split!r}; test has no labels")
        root = need(Path(root), self.how_to, directory=True)
        name = f"wider_face_{split}_bbx_gt.txt"
        path = inside(root, f"wider_face_split/{name}")
        path = need(path if path.is_file() else inside(root, name), self.how_to)
        official = f"WIDER_{split}/images"
        folder = official if inside(root, official).is_dir() else f"{split}/images"
        super().__init__(root, _images(path, folder), ("face",), **options)


def wider_face(root: Path | str, **options: Unpack[ReadOptions]) -> DataBundle:
    """Return WIDER FACE train and val as training and test images."""
    return DataBundle(WiderFace(root, "train", **options), WiderFace(root, "val", **options))


def _images(path: Path, folder: str) -> Iterator[RawImage]:
    lines = read_lines(path)
    row = 0
    while row < len(lines):
        name = lines[row]
        row += 1
        if not name:
            continue
        where = f"{path}, line {row}"
        if not name.lower().endswith((".jpg", ".jpeg", ".png")):
            raise HemError(f"{where}: {name[:60]!r} is not an image name; a count above is wrong")
        if row >= len(lines):
            raise HemError(f"{where}: the file ends after an image name; truncated?")
        count = whole_number(lines[row], f"{path}, line {row + 1}: count of faces", 0, _MAX_FACES)
        row += 1
        end = row + count
        if count == 0 and row < len(lines) and _is_zeros(lines[row]):
            end = row = row + 1
        if end > len(lines):
            raise HemError(f"{where}: {count} faces are announced, the file ends before; truncated?")
        boxes = [_box(lines[at], f"{path}, line {at + 1}", f"line {at + 1}") for at in range(row, end)]
        row = end
        yield RawImage(f"{folder}/{name}", boxes, str(path))


def _is_zeros(line: str) -> bool:
    return bool(line) and all(token == "0" for token in line.split())


def _box(line: str, where: str, short: str) -> RawBox:
    tokens = line.split()
    if len(tokens) not in (4, _COLUMNS):
        raise HemError(f"{where}: a face has 4 or {_COLUMNS} numbers, found {len(tokens)}")
    left, top, width, height = (number(token, where) for token in tokens[:4])
    invalid = len(tokens) == _COLUMNS and whole_number(tokens[7], f"{where}: invalid", 0, 1) == 1
    return RawBox(left, top, left + width, top + height, 1, invalid, short)
