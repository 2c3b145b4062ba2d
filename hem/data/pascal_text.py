"""PASCAL Annotation Version 1.00 text, as Penn-Fudan Pedestrians comes in."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Unpack

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, need, read_text, whole_number
from hem.data.records import RawBox, RawImage
from hem.data.splits import split_by_group
from hem.errors import HemError

_FILE = re.compile(r'^Image filename : "([^"\n]*)"', re.M)
_SIZE = re.compile(r"^Image size \(X x Y x C\) : (\d{1,7}) x (\d{1,7}) x \d", re.M)
_COUNT = re.compile(r"^Objects with ground truth : (\d{1,7})\b", re.M)
_NUMBER = r"\s*([-+.\w]{1,40})\s*"
_BOX = re.compile(
    r'^Bounding box for object (\d{1,7}) "([^"\n]*)" \(Xmin, Ymin\) - \(Xmax, Ymax\) : '
    rf"\({_NUMBER},{_NUMBER}\) - \({_NUMBER},{_NUMBER}\)",
    re.M,
)
_MAX_FILE_BYTES = 1 << 20
_HUGE = 1 << 31
PERSON: Mapping[str, str] = MappingProxyType(
    {name: "person" for name in ("PASpersonWalking", "PASpersonStanding", "PASperson", "UprightPerson")}
)


class PascalText(DetectionDataset):
    """A folder of PASCAL 1.00 text files beside its images; Penn-Fudan by default.

    Corners are 1-based and inclusive in the files: (Xmin - 1, Ymin - 1, Xmax, Ymax) here. The image
    is looked for under the name the file gives, relative to ``root``, then without that name's
    first folder (Penn-Fudan's files begin with ``PennFudanPed/``, the folder they were packed in).

    Args:
        root: folder that holds ``PNGImages/`` and ``Annotation/``.
        annotations: folder of the text files, relative to ``root``.
        classes: class name of each object label in the files; another label is an error.
        options: see DetectionDataset.

    Raises:
        HemError: if a file is absent, damaged or truncated, or a box impossible.
    """

    how_to: ClassVar[str] = (
        "For Penn-Fudan: download PennFudanPed.zip from the University of Pennsylvania "
        "(www.cis.upenn.edu/~jshi/ped_html), unpack it, and set data.root to the folder that holds "
        "PNGImages/ and Annotation/"
    )

    def __init__(
        self,
        root: Path | str,
        annotations: str = "Annotation",
        classes: Mapping[str, str] = PERSON,
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        folder = need(inside(root, annotations), self.how_to, directory=True)
        names = tuple(dict.fromkeys(classes.values()))
        labels = {given: names.index(name) + 1 for given, name in classes.items()}
        super().__init__(root, _images(root, folder, labels), names, **options)


def penn_fudan(
    root: Path | str, test_share: float = 0.2, split_seed: int = 0, **options: Unpack[ReadOptions]
) -> DataBundle:
    """Return Penn-Fudan split into training and test photographs (it has no official split).

    Args:
        root: see PascalText.
        test_share: share of the photographs held out, in (0, 1).
        split_seed: another seed, another split.
        options: see DetectionDataset.
    """
    if not 0 < test_share < 1:
        raise HemError(f"data.test_share must lie between 0 and 1, got {test_share}")
    dataset = PascalText(root, **options)
    parts = split_by_group(dataset, {"train": 1 - test_share, "test": test_share}, split_seed)
    return DataBundle(parts["train"], parts["test"])


def _images(root: Path, folder: Path, labels: Mapping[str, int]) -> Iterator[RawImage]:
    for path in sorted(folder.glob("*.txt")):
        inside(root, path.relative_to(root).as_posix(), str(folder))
        yield _one(root, path, labels)


def _one(root: Path, path: Path, labels: Mapping[str, int]) -> RawImage:
    text = read_text(path, _MAX_FILE_BYTES)
    file, size, count = _FILE.search(text), _SIZE.search(text), _COUNT.search(text)
    if file is None or size is None or count is None:
        raise HemError(
            f"{path}: not a PASCAL 1.00 text file: 'Image filename', 'Image size' or "
            "'Objects with ground truth' is missing"
        )
    boxes = []
    for found in _BOX.finditer(text):
        number, label = found.group(1), found.group(2)
        if label not in labels:
            raise HemError(f"{path}, object {number}: unknown label {label!r}; known: {', '.join(labels)}")
        left, top, right, bottom = (
            whole_number(value, f"{path}, object {number}", -_HUGE, _HUGE) for value in found.groups()[2:]
        )
        boxes.append(RawBox(left - 1, top - 1, right, bottom, labels[label], False, f"object {number}"))
    if len(boxes) != int(count.group(1)):
        raise HemError(f"{path}: {count.group(1)} objects are announced, {len(boxes)} have a box; truncated?")
    name = _find(root, path, file.group(1))
    return RawImage(name, boxes, str(path), (int(size.group(1)), int(size.group(2))))


def _find(root: Path, path: Path, name: str) -> str:
    stripped = name.partition("/")[2]
    for candidate in (name, stripped):
        if candidate and inside(root, candidate, str(path)).is_file():
            return candidate
    return stripped or name
