"""COCO JSON, with any subset of its classes. Source: the data format page of cocodataset.org."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Unpack

from hem.data.base import DetectionDataset, ReadOptions
from hem.data.bundle import DataBundle
from hem.data.reading import inside, mapping_of, need, number, one_of, read_json_file, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError

_MAX_SIDE = 1_000_000


class CocoJson(DetectionDataset):
    """Images and boxes of a COCO JSON file.

    ``iscrowd`` = 1 and ``ignore`` = 1 become ignore regions; annotations of other classes than
    ``classes`` are left out, so their objects are background. So are those of a category that the file
    does not list, which are counted among ``skips``.

    Args:
        root: folder that holds everything.
        annotations: JSON file, relative to ``root``.
        images: folder of the images, relative to ``root``.
        classes: names to read, in the order of their labels 1, 2, …; None for all, by category id.
        options: see DetectionDataset.

    Raises:
        HemError: if a file is absent or damaged, a class is unknown, or a box impossible.
    """

    how_to: ClassVar[str] = (
        "For COCO itself: download train2017.zip, val2017.zip and annotations_trainval2017.zip from "
        "cocodataset.org and unpack them into one folder, so that it holds train2017/, val2017/ and "
        "annotations/instances_*.json; then set data.root to that folder"
    )

    def __init__(
        self,
        root: Path | str,
        annotations: str = "annotations/instances_train2017.json",
        images: str = "train2017",
        classes: Sequence[str] | None = None,
        **options: Unpack[ReadOptions],
    ) -> None:
        root = need(Path(root), self.how_to, directory=True)
        path = need(inside(root, annotations), self.how_to)
        document = read_json_file(path)
        names, label_of = _classes(document, path, classes)
        self._path, self._folder = path, images.strip("/")
        self.category_ids = tuple(sorted(label_of, key=label_of.__getitem__))
        unlisted: list[str] = []
        raw = _images(document, path, self._folder, label_of, unlisted)
        super().__init__(root, raw, names, **options)
        for where in unlisted:
            self.skips.add("annotation of a category that is not listed", where)

    def as_given(self) -> dict[str, Any]:
        """Return the file's own rows of these images and classes, as pycocotools would read them.

        Ids, boxes (not clipped), areas and crowd flags are those of the file, where a dataset's boxes
        are single precision and their areas forgotten; ``ignore`` alone is nothing to pycocotools. Boxes
        that ``min_box_side`` makes ignore regions are crowds here too, and boxes that are not numbers or
        have a negative side (``on_bad_box`` let them pass) are left out.

        Returns:
            COCO's ``images`` (``id`` and ``file_name`` relative to the root, in the order of this
            dataset), ``annotations`` and ``categories`` (in the order of the labels).

        Raises:
            HemError: if the file is gone or was damaged since.
        """
        document = read_json_file(self._path)
        ids = {
            _file(one_of(one, "file_name", str, str(self._path)), self._folder): _id(
                one, "id", str(self._path)
            )
            for one in one_of(document, "images", list, str(self._path))
        }
        gone = next((file for file in self.image_ids if file not in ids), None)
        if gone is not None:
            raise HemError(f"{self._path} no longer lists {gone}; it was changed while it was in use")
        images = [{"id": ids[file], "file_name": file} for file in self.image_ids]
        wanted, least = {image["id"] for image in images}, self._options.min_box_side
        annotations = []
        for row, one in enumerate(one_of(document, "annotations", list, str(self._path))):
            given = _given(one, f"{self._path}, annotations[{row}]")
            sides = given["bbox"][2:]
            sound = all(isfinite(value) for value in given["bbox"]) and min(sides) >= 0
            if given["image_id"] in wanted and given["category_id"] in self.category_ids and sound:
                annotations.append(given | ({"iscrowd": 1} if min(sides) < least else {}))
        categories = [
            {"id": number, "name": name}
            for number, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}


def coco(
    root: Path | str,
    classes: Sequence[str] | None = None,
    train_annotations: str = "annotations/instances_train2017.json",
    train_images: str = "train2017",
    test_annotations: str = "annotations/instances_val2017.json",
    test_images: str = "val2017",
    train_empty: bool = False,
    **options: Unpack[ReadOptions],
) -> DataBundle:
    """Return COCO, or any pair of COCO JSON files, as training and test images.

    Args:
        root, classes: see CocoJson.
        train_annotations, test_annotations: JSON files, relative to ``root``.
        train_images, test_images: folders of their images, relative to ``root``.
        train_empty: train on images without any of the classes too; test images are all kept, so
            that false alarms on them count.
        options: see DetectionDataset.
    """
    kept: ReadOptions = {**options, "keep_empty": True}
    test = CocoJson(root, test_annotations, test_images, classes, **kept)
    wanted: ReadOptions = {**options, "keep_empty": train_empty}
    train = CocoJson(root, train_annotations, train_images, classes, **wanted)
    return DataBundle(train, test)


def _classes(
    document: object, path: Path, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return class names in label order, and the label of each wanted category id."""
    ids: dict[str, int] = {}
    for row, category in enumerate(one_of(document, "categories", list, str(path))):
        where = f"{path}, categories[{row}]"
        name = one_of(category, "name", str, where)
        if name in ids:
            raise HemError(f"{where}: category name {name!r} appears twice")
        ids[name] = _id(category, "id", where)
    if len(set(ids.values())) != len(ids):
        raise HemError(f"{path}: two categories have the same id")
    names = tuple(wanted) if wanted is not None else tuple(sorted(ids, key=ids.__getitem__))
    missing = [name for name in names if name not in ids]
    if missing or not names or len(set(names)) != len(names):
        known = ", ".join(sorted(ids)[:100])
        raise HemError(f"{path}: classes {list(names)} must be distinct names out of: {known}")
    return names, {ids[name]: label for label, name in enumerate(names, 1)}


def _images(
    document: object, path: Path, folder: str, label_of: Mapping[int, int], unlisted: list[str]
) -> Iterator[RawImage]:
    """Yield the images with their boxes; ``unlisted`` takes where annotations name no listed category."""
    boxes = _boxes(document, path, label_of, unlisted)
    known: set[int] = set()
    rows = one_of(document, "images", list, str(path))
    for row, image in enumerate(rows):
        known.add(_id(image, "id", f"{path}, images[{row}]"))
    if len(known) != len(rows):
        raise HemError(f"{path}: two images have the same id")
    stray = next((key for key in boxes if key not in known), None)
    if stray is not None:
        raise HemError(f"{path}, {boxes[stray][0].where}: its image_id {stray} is not among the images")
    for row, entry in enumerate(rows):
        where = f"{path}, images[{row}]"
        image = mapping_of(entry, where)
        name = one_of(image, "file_name", str, where)
        size = None
        if image.get("width") and image.get("height"):
            size = (
                whole_number(image["width"], f"{where}: width", 1, _MAX_SIDE),
                whole_number(image["height"], f"{where}: height", 1, _MAX_SIDE),
            )
        file = _file(name, folder)
        group = image.get("group", "")
        yield RawImage(file, boxes.get(_id(image, "id", where), ()), str(path), size, str(group))


def _given(entry: object, where: str) -> dict[str, Any]:
    """Return what pycocotools reads of an annotation, as numbers."""
    one = mapping_of(entry, where)
    row: dict[str, Any] = {
        key: _id(one, key, where) for key in ("id", "image_id", "category_id") if key in one
    }
    row["bbox"] = [number(value, f"{where}: bbox") for value in one_of(one, "bbox", list, where)]
    if one.get("area") is not None:
        row["area"] = number(one["area"], f"{where}: area")
    return row | {"iscrowd": int(bool(one.get("iscrowd")))}


def _file(name: str, folder: str) -> str:
    return name if folder in ("", ".") else f"{folder}/{name}"


def _id(mapping: object, key: str, where: str) -> int:
    return whole_number(one_of(mapping, key, object, where), f"{where}: {key}", -(1 << 53))


def _boxes(
    document: object, path: Path, label_of: Mapping[int, int], unlisted: list[str]
) -> dict[int, list[RawBox]]:
    boxes: dict[int, list[RawBox]] = {}
    at = str(path)
    listed = {_id(one, "id", at) for one in one_of(document, "categories", list, at)}
    for row, entry in enumerate(one_of(document, "annotations", list, at)):
        where = f"{path}, annotations[{row}]"
        annotation = mapping_of(entry, where)
        category = _id(annotation, "category_id", where)
        label = label_of.get(category)
        if label is None:
            if category not in listed:
                unlisted.append(where)
            continue
        bbox = one_of(annotation, "bbox", list, where)
        if len(bbox) != 4:
            raise HemError(f"{where}: bbox must be [left, top, width, height], got {len(bbox)} values")
        left, top, width, height = (number(value, f"{where}: bbox") for value in bbox)
        ignore = bool(annotation.get("iscrowd") or annotation.get("ignore"))
        # an ignore region of every class is written once for each class: read it once
        every_class = ignore and bool(annotation.get("ignore_all_classes"))
        box = RawBox(
            left, top, left + width, top + height, 0 if every_class else label, ignore, f"annotations[{row}]"
        )
        found = boxes.setdefault(_id(annotation, "image_id", where), [])
        if not (every_class and any(other[:4] == box[:4] and other.label == 0 for other in found)):
            found.append(box)
    return boxes
