"""COCO figures of files: ground truth and results as COCO JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from hem.errors import HemError
from hem.evaluation.coco import indexed
from hem.evaluation.readers import box_of, number_of, read_any_json, records, whole_number_of


def read_truth(path: Path) -> tuple[COCO, tuple[str, ...]]:
    """Read COCO ground truth and the class names in the order of their category ids.

    An annotation without ``area`` gets its box's. ``iscrowd`` marks ignore regions.

    Raises:
        HemError: if the file is damaged, or names an image or category that it does not list.
    """
    document = read_any_json(path)
    if not isinstance(document, dict):
        raise HemError(f"{path} must hold an object with images, annotations and categories (COCO style)")
    images, annotations, categories = (
        records(document.get(key), path, key) for key in ("images", "annotations", "categories")
    )
    image_ids = [whole_number_of(one, "id", f"{path}: images[{k}]") for k, one in enumerate(images)]
    names = {
        whole_number_of(one, "id", f"{path}: categories[{k}]"): str(one.get("name", one.get("id")))
        for k, one in enumerate(categories)
    }
    rows, known = [], set(image_ids)
    for k, one in enumerate(annotations):
        row = _row(one, f"{path}: annotations[{k}]", known, names)
        box_area = row["bbox"][2] * row["bbox"][3]
        row |= {"id": k + 1, "area": number_of(one, "area", f"{path}: annotations[{k}]", box_area)}
        row["iscrowd"] = int(number_of(one, "iscrowd", f"{path}: annotations[{k}]", 0) != 0)
        rows.append(row)
    ordered = sorted(names)
    coco = indexed(
        [{"id": number} for number in image_ids],
        [{"id": number, "name": names[number]} for number in ordered],
        rows,
    )
    return coco, tuple(names[number] for number in ordered)


def read_results(path: Path, truth: COCO) -> COCO:
    """Read COCO results: a list of ``image_id``, ``category_id``, ``bbox``, ``score`` (may be empty).

    Raises:
        HemError: if the file is damaged, or names an image or category that the truth does not list.
    """
    known, names = set(truth.getImgIds()), {one["id"]: one["name"] for one in truth.dataset["categories"]}
    rows = []
    for k, one in enumerate(records(read_any_json(path), path, "results")):
        where = f"{path}: results[{k}]"
        row = _row(one, where, known, names)
        row |= {"id": k + 1, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        rows.append(row | {"score": number_of(one, "score", where)})
    return indexed(truth.dataset["images"], truth.dataset["categories"], rows)


def _row(one: Mapping[str, Any], where: str, images: set[int], names: Mapping[int, str]) -> dict[str, Any]:
    image, category = (whole_number_of(one, key, where) for key in ("image_id", "category_id"))
    if image not in images:
        raise HemError(f"{where}: image {image} is not among the ground truth's images")
    if category not in names:
        raise HemError(f"{where}: category {category} is not among the ground truth's categories")
    return {"image_id": image, "category_id": category, "bbox": list(box_of(one, where))}
