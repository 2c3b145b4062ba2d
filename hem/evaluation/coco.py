"""COCO average precision of stills and of labelled video frames.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014; computed by pycocotools.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hem.errors import HemError
from hem.evaluation.frames import LabelledFrame, frames_of_videos, still_frames
from hem.structures import Detections, Target, VideoDetections, VideoTruth

_AREAS = ("all", "small", "medium", "large")


def coco_figures(
    detections: Sequence[Detections], targets: Sequence[Target], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return COCO figures of stills, image k of one sequence being image k of the other.

    Ignore regions count for every class: a detection with intersection / its own area at least the
    IoU threshold in one neither counts nor hurts. At most 100 detections of an image count.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, ``AR`` (at most 100
        detections), each in [0, 1] or None where there is no object to measure it on; and
        ``per_class``: class name -> ``{"AP", "AP50", "AR"}``.

    Raises:
        HemError: if lengths differ or a label has no name.
    """
    return frame_figures(still_frames(detections, targets), class_names)


def video_coco_figures(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of coco_figures over every labelled and decoded frame of the videos."""
    return frame_figures(frames_of_videos(detections, truths), class_names)


def frame_figures(frames: Sequence[LabelledFrame], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of coco_figures for frames already paired with their truth."""
    for frame in frames:
        _check_labels(frame, len(class_names))
    images = [{"id": index + 1} for index in range(len(frames))]
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(class_names)]
    truth = indexed(images, categories, _truth_rows(frames, len(class_names)))
    found = indexed(images, categories, _detection_rows(frames))
    return figures_of(accumulated(truth, found), class_names)


def accumulated(truth: COCO, found: COCO) -> Mapping[str, Any]:
    """Run pycocotools over two indexed sets and return its ``eval`` arrays; prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return dict(evaluation.eval)


def figures_of(arrays: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of coco_figures from pycocotools' ``eval`` arrays, classes in their order."""
    # precision: (IoU threshold, recall step, class, area, limit); recall lacks the recall step.
    precision, recall = arrays["precision"][..., -1], arrays["recall"][..., -1]
    figures: dict[str, Any] = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        **{f"AP_{area}": _mean(precision[..., k]) for k, area in enumerate(_AREAS) if k},
        "AR": _mean(recall[..., 0]),
    }
    figures["per_class"] = {
        name: {
            "AP": _mean(precision[:, :, k, 0]),
            "AP50": _mean(precision[0, :, k, 0]),
            "AR": _mean(recall[:, k, 0]),
        }
        for k, name in enumerate(class_names)
    }
    return figures


def _mean(values: np.ndarray) -> float | None:
    """Return the mean without pycocotools' -1 (no object of that kind), or None if nothing is left."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None


def _check_labels(frame: LabelledFrame, n_classes: int) -> None:
    for what, labels in (("detection", frame.labels), ("true box", frame.true_labels)):
        if len(labels) and int(labels.max()) > n_classes:
            raise HemError(
                f"{frame.name}: a {what} has label {int(labels.max())}, "
                f"but only {n_classes} classes are named"
            )


def indexed(
    images: list[dict[str, Any]], categories: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> COCO:
    """Return a COCO object of these rows."""
    # Filled by hand: loadRes refuses an empty list of detections.
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": rows}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _row(number: int, image: int, label: int, box: np.ndarray, **more: object) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box)
    width, height = right - left, bottom - top
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
        **more,
    }


def _truth_rows(frames: Sequence[LabelledFrame], n_classes: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, frame in enumerate(frames, start=1):
        for box, label in zip(frame.true_boxes, frame.true_labels.tolist(), strict=True):
            rows.append(_row(len(rows) + 1, image, label, box))
        for box, label in zip(frame.ignore_boxes, frame.ignore_labels.tolist(), strict=True):
            for each in range(1, n_classes + 1) if label == 0 else [label]:
                rows.append(_row(len(rows) + 1, image, each, box, iscrowd=1))
    return rows


def _detection_rows(frames: Sequence[LabelledFrame]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, frame in enumerate(frames, start=1):
        for box, label, score in zip(frame.boxes, frame.labels.tolist(), frame.scores.tolist(), strict=True):
            rows.append(_row(len(rows) + 1, image, label, box, score=score))
    return rows
