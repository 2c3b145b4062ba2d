"""YOLO text: one file of relative boxes for each image. Source: the format page of docs.ultralytics.com."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Unpack

import yaml

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.pictures import Orientation
from hem.data.reading import inside, need, number, read_lines, read_text, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_MAX_NUMBERS = 10_000
_MAX_YAML_BYTES = 1 << 20


class YoloText(DetectionDataset):
    """A folder of images and a folder of label files with the same names.

    A row is ``class x_centre y_centre width height`` in shares of the image, or ``class`` and the
    corners of a polygon, of which the box is taken. An image without a label file has no objects; a
    label file without an image is counted among ``skips``.
    Images are turned as their EXIF orientation says, as the format's own trainers do.

    Args:
        root: the dataset's folder.
        images: folder of images, relative to ``root``; searched with its subfolders. Labels are
            looked for under the same path with its first ``images`` replaced by ``labels``.
        classes: names of classes 0, 1, …; None reads them from ``data.yaml``, ``dataset.yaml`` or
            ``classes.txt`` in ``root``.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "The folder must hold images/<split>/ and labels/<split>/ and data.yaml or classes.txt with "
        "the class names; set data.root to it"
    )
    orientation: ClassVar[Orientation] = "apply"

    def __init__(
        self,
        root: Path | str,
        images: str = "images/train",
        classes: Sequence[str] | None = None,
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        folder = need(inside(root, images), self.how_to, directory=True)
        names = tuple(classes) if classes is not None else _class_names(root, self.how_to)
        super().__init__(root, _images(root, folder, len(names)), names, **options)
        for path in _without_images(root, folder):
            self.skips.add("label file without an image", str(path))


def yolo(
    root: Path | str,
    train_images: str = "images/train",
    test_images: str = "images/val",
    classes: Sequence[str] | None = None,
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return a YOLO folder as training and test images; arguments as for YoloText."""
    return DataBundle(
        YoloText(root, train_images, classes, **options), YoloText(root, test_images, classes, **options)
    )


def _class_names(root: Path, how_to: str) -> tuple[str, ...]:
    for name in ("data.yaml", "dataset.yaml"):
        path = inside(root, name)
        if path.is_file():
            return _yaml_names(path)
    path = need(inside(root, "classes.txt"), how_to)
    names = tuple(line for line in read_lines(path) if line)
    return _distinct(names, path)


def _yaml_names(path: Path) -> tuple[str, ...]:
    try:
        document = yaml.safe_load(read_text(path, _MAX_YAML_BYTES))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise HemError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise HemError(f"{path}: names must be numbered 0, 1, … without a gap")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise HemError(f"{path}: 'names' must be a list of class names")
    return _distinct(tuple(str(name) for name in names), path)


def _distinct(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise HemError(f"{path}: class names must be given and differ from each other")
    return names


def _images(root: Path, folder: Path, classes: int) -> Iterator[RawImage]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _ENDINGS:
            continue
        name = path.relative_to(root).as_posix()
        labels = inside(root, _of_labels(path.relative_to(root).with_suffix(".txt")), name)
        boxes = _boxes(labels, classes) if labels.is_file() else []
        yield RawImage(name, boxes, str(labels), relative=True)


def _of_labels(place: Path) -> str:
    """Return where the labels lie of what lies at a place below the root."""
    parts = list(place.parts)
    if "images" in parts:
        parts[parts.index("images")] = "labels"
    return "/".join(parts)


def _without_images(root: Path, folder: Path) -> list[Path]:
    """Return label files that belong to no image of the folder, as after a rename of one of both."""
    place = _of_labels(folder.relative_to(root))
    labels = inside(root, place) if place else root
    if not labels.is_dir():
        return []
    images = (path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    known = {path.relative_to(folder).with_suffix("") for path in images}
    found = (path for path in labels.rglob("*.txt") if path != root / "classes.txt")
    return sorted(path for path in found if path.relative_to(labels).with_suffix("") not in known)


def _boxes(path: Path, classes: int) -> list[RawBox]:
    boxes = []
    for row, line in enumerate(read_lines(path), 1):
        tokens = line.split()
        if not tokens:
            continue
        where = f"{path}, line {row}"
        if not (len(tokens) == 5 or (7 <= len(tokens) <= _MAX_NUMBERS and len(tokens) % 2 == 1)):
            raise HemError(
                f"{where}: expected 'class x y width height' or a polygon, found {len(tokens)} numbers"
            )
        label = whole_number(tokens[0], f"{where}: class", 0, classes - 1) + 1
        values = [number(token, where) for token in tokens[1:]]
        if len(values) == 4:
            x, y, width, height = values
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            xs, ys = values[0::2], values[1::2]
            corners = (min(xs), min(ys), max(xs), max(ys))
        boxes.append(RawBox(*corners, label, False, f"line {row}"))
    return boxes
