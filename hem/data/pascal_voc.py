"""Pascal VOC XML. Source: the VOC development kit's documentation, sections on annotation files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Unpack
from xml.etree import ElementTree

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, need, number, read_lines, read_text, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_MAX_XML_BYTES = 4 << 20
_MAX_DEPTH = 32


class PascalVoc(DetectionDataset):
    """Pascal VOC, or any folder in its shape. Objects marked difficult become ignore regions.

    Corners are 1-based and inclusive in the files: (xmin - 1, ymin - 1, xmax, ymax) here. A file
    with a document type or entities is refused: no VOC file has any, and they can be abused.

    Args:
        root: the folder that holds ``VOC2007/`` and its like.
        sets: image sets as ``folder/name``: ``VOC2007/trainval`` reads
            ``VOC2007/ImageSets/Main/trainval.txt``; ``name`` alone where ``Annotations/`` lies in
            ``root`` itself; the name ``all`` reads every annotation file.
        classes: names to read, in the order of their labels; others are background.
        options: see DetectionDataset.
    """

    how_to: ClassVar[str] = (
        "Download VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar from "
        "host.robots.ox.ac.uk/pascal/VOC, unpack them, and set data.root to the VOCdevkit folder"
    )

    def __init__(
        self,
        root: Path | str,
        sets: Sequence[str] = ("VOC2007/trainval",),
        classes: Sequence[str] = CLASSES,
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        if isinstance(sets, str) or not sets or not classes or len(set(classes)) != len(classes):
            raise HemError(f"VOC: sets must be a list, classes distinct; got {sets!r} and {list(classes)}")
        labels = {name: label for label, name in enumerate(classes, 1)}
        super().__init__(root, _images(root, sets, labels, self.how_to), tuple(classes), **options)


def voc(
    root: Path | str,
    classes: Sequence[str] = CLASSES,
    train_sets: Sequence[str] = ("VOC2007/trainval",),
    test_sets: Sequence[str] = ("VOC2007/test",),
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return Pascal VOC as training and test images; arguments as for PascalVoc."""
    return DataBundle(
        PascalVoc(root, train_sets, classes, **options), PascalVoc(root, test_sets, classes, **options)
    )


def _images(root: Path, sets: Sequence[str], labels: Mapping[str, int], how_to: str) -> Iterator[RawImage]:
    for one in sets:
        folder, _, name = one.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        annotations = need(inside(root, f"{prefix}Annotations"), how_to, directory=True)
        if name == "all":
            stems = sorted(path.stem for path in annotations.glob("*.xml"))
        else:
            listing = need(inside(root, f"{prefix}ImageSets/Main/{name}.txt"), how_to)
            stems = [line.split()[0] for line in read_lines(listing) if line]
        for stem in stems:
            path = inside(root, f"{prefix}Annotations/{stem}.xml", one)
            yield _one(root, need(path, how_to), prefix, labels)


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root element of a small XML file without document type or entities.

    Raises:
        HemError: if it is too large, not UTF-8, not XML, nested too deeply, or holds a document type.
    """
    text = read_text(path, _MAX_XML_BYTES)
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise HemError(f"{path}: a document type or entity is not allowed in an annotation; remove it")
    parser: Any = ElementTree.XMLPullParser(events=("start", "end"))
    depth = 0
    root: ElementTree.Element | None = None
    try:
        for start in range(0, len(text), 1 << 16):
            parser.feed(text[start : start + (1 << 16)])
            for event, element in parser.read_events():
                root = element if root is None else root
                depth += 1 if event == "start" else -1
                if depth > _MAX_DEPTH:
                    raise HemError(f"{path}: elements are nested more than {_MAX_DEPTH} deep")
        parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        raise HemError(f"{path} is not readable XML: {error}") from None
    if root is None:
        raise HemError(f"{path} holds no XML element")
    return root


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    found = (element.findtext(name) or "").strip()
    if not found:
        raise HemError(f"{where}: <{name}> is missing or empty")
    return found


def _one(root: Path, path: Path, prefix: str, labels: Mapping[str, int]) -> RawImage:
    document = parse_xml(path)
    boxes = []
    for row, element in enumerate(document.iter("object"), 1):
        where = f"{path}, object {row}"
        label = labels.get(_text(element, "name", where))
        if label is None:
            continue
        box = element.find("bndbox")
        if box is None:
            raise HemError(f"{where}: <bndbox> is missing")
        left, top, right, bottom = (
            number(_text(box, name, where), where) for name in ("xmin", "ymin", "xmax", "ymax")
        )
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        boxes.append(RawBox(left - 1, top - 1, right, bottom, label, difficult, f"object {row}"))
    return RawImage(_file(root, path, prefix, document), boxes, str(path), _size(path, document))


def _size(path: Path, document: ElementTree.Element) -> tuple[int, int] | None:
    width, height = ((document.findtext(f"size/{name}") or "0").strip() for name in ("width", "height"))
    size = whole_number(width, f"{path}: width"), whole_number(height, f"{path}: height")
    return (size[0], size[1]) if min(size) > 0 else None  # some annotation tools leave it at 0


def _file(root: Path, path: Path, prefix: str, document: ElementTree.Element) -> str:
    stated = (document.findtext("filename") or "").strip()
    names = ([stated] if stated else []) + [f"{path.stem}{ending}" for ending in (".jpg", ".png", ".jpeg")]
    candidates = [f"{prefix}JPEGImages/{name}" for name in names]
    return next((name for name in candidates if inside(root, name, str(path)).is_file()), candidates[0])
