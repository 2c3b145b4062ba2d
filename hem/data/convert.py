"""Any labelled dataset as COCO JSON, for other programs."""

import json
from pathlib import Path
from typing import Any

from hem.artifacts import whole_file
from hem.data.base import DetectionDataset
from hem.errors import HemError


def to_coco_json(dataset: DetectionDataset, path: Path | str) -> dict[str, int]:
    """Write ``dataset`` as COCO JSON; images stay where they are, ``file_name`` is relative to its root.

    Ignore regions have ``iscrowd`` = 1. COCO gives every region a class, so one that holds for all
    classes is written once for each class, with ``ignore_all_classes`` = 1 (hem reads these as one).
    ``group`` keeps the video or scene. Weights are not written: a dataset's are all 1.

    Returns:
        Counts: ``images``, ``boxes``, ``ignore_regions`` (before repetition).
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    regions = 0
    for index in range(len(dataset)):
        record = dataset.record(index)
        image: dict[str, Any] = {"id": index + 1, "file_name": record.file}
        image.update(width=record.size[0], height=record.size[1])
        if record.group != record.image_id:
            image["group"] = record.group
        images.append(image)
        for box, label in zip(record.target.boxes_xyxy.tolist(), record.target.labels.tolist(), strict=True):
            annotations.append(_annotation(len(annotations) + 1, index + 1, box, label, 0))
        for box, label in zip(record.target.ignore_xyxy.tolist(), record.ignore_labels.tolist(), strict=True):
            regions += 1
            for one in [label] if label else range(1, len(dataset.class_names) + 1):
                annotations.append(_annotation(len(annotations) + 1, index + 1, box, one, 1))
                if not label:
                    annotations[-1]["ignore_all_classes"] = 1
    categories = [{"id": label, "name": name} for label, name in enumerate(dataset.class_names, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    with whole_file(Path(path)) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    boxes = sum(1 for annotation in annotations if not annotation["iscrowd"])
    return {"images": len(images), "boxes": boxes, "ignore_regions": regions}


def to_miss_rate_json(dataset: DetectionDataset, path: Path | str) -> int:
    """Write what the log-average miss rate needs: every pedestrian with height, vis_ratio and ignore.

    Images are numbered in the dataset's order, from 1; boxes are whole ones, whatever training makes of
    them. ``python -m hem.evaluate protocol=miss_rate ground_truth=`` reads it.

    Returns:
        How many pedestrians were written.

    Raises:
        HemError: if the dataset does not keep them (Caltech and CityPersons do).
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(len(dataset)):
        record = dataset.record(index)
        if "pedestrians" not in record.extra:
            raise HemError(
                f"{dataset.root}: {type(dataset).__name__} keeps no heights and visible shares, which the "
                "log-average miss rate needs; data=caltech and data=city_persons do"
            )
        width, height = record.size
        images.append({"id": index + 1, "file_name": record.file, "width": width, "height": height})
        for one in record.extra["pedestrians"]:
            row: dict[str, Any] = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": 1}
            box = [one.left, one.top, one.width, one.height]
            row |= {"bbox": box, "height": one.height, "vis_ratio": one.visible, "ignore": int(one.ignore)}
            annotations.append({**row, "iscrowd": 0})
    categories = [{"id": 1, "name": dataset.class_names[0]}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    with whole_file(Path(path)) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    return len(annotations)


def _annotation(number: int, image: int, box: list[float], label: int, crowd: int) -> dict[str, Any]:
    left, top, right, bottom = box
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": crowd,
    }
