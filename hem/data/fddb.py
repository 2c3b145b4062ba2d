"""FDDB: faces as ellipses in ten folds. Source: the readme of FDDB-folds.tgz."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, need, number, read_lines, whole_number
from hem.data.records import RawBox, RawImage
from hem.data.wider_face import WiderFace
from hem.errors import HemError

_MAX_FACES = 10_000


class Fddb(DetectionDataset):
    """FDDB, class ``face``: the box round each ellipse, cut at the image's border.

    ``record(i).extra["ellipses"]`` keeps the ellipses: float64 (N, 5) rows (major radius, minor
    radius, angle of the major axis in radians, centre x, centre y) in pixels.

    Args:
        root: folder with ``FDDB-folds/`` and ``originalPics/``.
        folds: which of the folds 1..10.
        images: folder of the images, relative to ``root``.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download FDDB-folds.tgz and originalPics.tar.gz from the FDDB page "
        "(vis-www.cs.umass.edu/fddb), unpack them as FDDB-folds/ and originalPics/ into one folder, "
        "and set data.root to it"
    )
    overhang_px: ClassVar[float] = float("inf")  # an ellipse is drawn whole, beyond the border too

    def __init__(
        self,
        root: Path | str,
        folds: Sequence[int] = tuple(range(1, 11)),
        images: str = "originalPics",
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        if not folds or not all(1 <= fold <= 10 for fold in folds):
            raise HemError(f"FDDB has the folds 1..10, got {list(folds)}")
        paths = [
            need(inside(root, f"FDDB-folds/FDDB-fold-{fold:02d}-ellipseList.txt"), self.how_to)
            for fold in folds
        ]
        super().__init__(root, _images(paths, images.strip("/")), ("face",), **options)


def wider_face_fddb(root: Path | str, fddb_root: Path | str, **options: Unpack[ReadOptions]) -> DataBundle:
    """Return WIDER FACE's training images, and all of FDDB to test on."""
    return DataBundle(WiderFace(root, "train", **options), Fddb(fddb_root, **options))


def fddb(
    root: Path | str,
    train_folds: Sequence[int] = tuple(range(1, 10)),
    test_folds: Sequence[int] = (10,),
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return folds of FDDB to train on and folds to test on; they must differ.

    For a detector that was trained elsewhere all ten folds are the test: ``python -m hem.evaluate
    protocol=fddb`` reads them by itself.

    Raises:
        HemError: if a fold is in both, or as Fddb.
    """
    both = sorted(set(train_folds) & set(test_folds))
    if both:
        raise HemError(f"FDDB: folds {both} are in data.train_folds and in data.test_folds")
    return DataBundle(Fddb(root, train_folds, **options), Fddb(root, test_folds, **options))


def ellipse_boxes(ellipses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upright boxes (N, 4) xyxy round ellipses (N, 5), as Fddb describes them."""
    major, minor, angle, x, y = np.asarray(ellipses, dtype=np.float64).reshape(-1, 5).T
    wide = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    tall = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    return np.stack([x - wide, y - tall, x + wide, y + tall], axis=1)


def read_ellipses(path: Path) -> Iterator[tuple[str, NDArray[np.float64], int]]:
    """Yield (name, ellipses (N, 5), line of the name) for every image of one fold's file.

    Raises:
        HemError: if the file is damaged, naming the line.
    """
    lines = read_lines(path)
    row = 0
    while row < len(lines):
        name, named_at = lines[row], row + 1
        row += 1
        if not name:
            continue
        count = whole_number(
            lines[row] if row < len(lines) else "", f"{path}, line {row + 1}: count of faces", 0, _MAX_FACES
        )
        row += 1
        if row + count > len(lines):
            raise HemError(f"{path}, line {named_at}: {count} faces are announced, the file ends before")
        ellipses = np.zeros((count, 5))
        for index in range(count):
            tokens = lines[row + index].split()
            where = f"{path}, line {row + index + 1}"
            if len(tokens) != 6:
                raise HemError(f"{where}: an ellipse has 6 numbers, found {len(tokens)}")
            ellipses[index] = [number(token, where) for token in tokens[:5]]
            if (ellipses[index, :2] < 0).any():
                raise HemError(f"{where}: a radius of an ellipse cannot be negative")
        row += count
        yield name, ellipses, named_at


def _images(paths: Sequence[Path], folder: str) -> Iterator[RawImage]:
    for path in paths:
        for name, ellipses, line in read_ellipses(path):
            with np.errstate(invalid="ignore"):
                corners = ellipse_boxes(ellipses)
            boxes = [
                RawBox(box[0], box[1], box[2], box[3], 1, False, f"line {line + 2 + index}")
                for index, box in enumerate(corners.tolist())
            ]
            yield RawImage(f"{folder}/{name}.jpg", boxes, str(path), extra={"ellipses": ellipses})
