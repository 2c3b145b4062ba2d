"""Log-average miss rate of pedestrian detection: CityPersons and Caltech set-ups.

Source: Dollár et al., "Pedestrian Detection: An Evaluation of the State of the Art", PAMI 2012 (the
measure, the Caltech set-ups), and Zhang et al., "CityPersons", CVPR 2017 (the CityPersons set-ups and
their program). The miss rate is read at nine counts of false positives per image, evenly spaced in
logarithm from 1e-2 to 1, and averaged in logarithm.

Pedestrians outside a set-up's height or visibility, and those marked ``ignore``, neither count nor
hurt: a detection on one is left out, the overlap then being intersection / the detection's own area.
Detections more than ``_SLACK`` times too small or too tall for the set-up are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.evaluation.readers import box_of, number_of, read_any_json, records, whole_number_of
from hem.ops.boxes import ioa_matrix, iou_matrix

FALSE_POSITIVES_PER_IMAGE = np.array([0.0100, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0])
_SLACK = 1.25
_IOU = 0.5
_MOST = 1000  # detections of an image


@dataclass(frozen=True)
class Setup:
    """Which pedestrians count.

    Attributes:
        height: lowest and greatest height in pixels, both ends in.
        visibility: lowest and greatest visible share of the area, both ends in.
        aspect: width / height that every box is given before matching, centre and height kept (Caltech
            0.41); None leaves boxes alone.
        floor: a miss rate below it is raised to it before the logarithm (0: a single miss rate of 0
            makes the average 0).
    """

    name: str
    height: tuple[float, float]
    visibility: tuple[float, float]
    aspect: float | None = None
    floor: float = 0.0


CITYPERSONS = (
    Setup("reasonable", (50, inf), (0.65, inf)),
    Setup("reasonable_small", (50, 75), (0.65, inf)),
    Setup("reasonable_heavy", (50, inf), (0.2, 0.65)),
    Setup("all", (20, inf), (0.2, inf)),
)
CALTECH = (
    Setup("reasonable", (50, inf), (0.65, inf), 0.41, 1e-10),
    Setup("all", (20, inf), (0.2, inf), 0.41, 1e-10),
    Setup("near", (80, inf), (1.0, inf), 0.41, 1e-10),
    Setup("medium", (30, 80), (1.0, inf), 0.41, 1e-10),
)


@dataclass(frozen=True, eq=False)
class PedestrianTruth:
    """Pedestrians of one image: boxes (N, 4) as x1, y1, x2, y2, heights (N,), visible shares (N,)."""

    boxes_xyxy: NDArray[np.float64]
    heights: NDArray[np.float64]
    visibility: NDArray[np.float64]
    ignore: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PedestrianDetections:
    """Detections of one image: boxes (N, 4) as x1, y1, x2, y2, heights (N,), scores (N,).

    Heights are kept as they were given, so that one exactly at a limit stays there.
    """

    boxes_xyxy: NDArray[np.float64]
    heights: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MissRate:
    """One set-up's figure and curve.

    Attributes:
        log_average: in [0, 1], None if no pedestrian counts.
        false_positives_per_image, miss_rate: float64 (K,), by falling score.
        pedestrians: how many count.
    """

    log_average: float | None
    false_positives_per_image: NDArray[np.float64]
    miss_rate: NDArray[np.float64]
    pedestrians: int


def evaluate(
    detections: Mapping[int, PedestrianDetections], truth: Mapping[int, PedestrianTruth], setup: Setup
) -> MissRate:
    """Return the miss rate of detections by image id; images without detections count as empty.

    Raises:
        HemError: if a detection is of an image that has no truth entry.
    """
    unknown = sorted(set(detections) - set(truth))
    if unknown:
        raise HemError(f"detections of image {unknown[0]}, which the ground truth does not list")
    scores, hits = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    pedestrians = 0
    for image in sorted(truth):
        ignore = _outside(truth[image], setup)
        pedestrians += int((~ignore).sum())
        if image in detections and len(detections[image].scores):
            found = _suited(detections[image], setup)
            hit, counts = _matched(found, truth[image].boxes_xyxy, ignore, setup)
            scores.append(found.scores[counts])
            hits.append(hit[counts])
    joined = np.concatenate(scores)
    hit = np.concatenate(hits)[np.argsort(-joined, kind="stable")]
    per_image = np.cumsum(~hit) / max(len(truth), 1)
    missed = 1 - np.cumsum(hit) / max(pedestrians, 1)
    average = _log_average(per_image, missed, setup.floor) if pedestrians else None
    return MissRate(average, per_image, missed, pedestrians)


def _log_average(per_image: NDArray[np.float64], missed: NDArray[np.float64], floor: float) -> float:
    # Row 0: nothing admitted, everything missed.
    rows = np.searchsorted(per_image, FALSE_POSITIVES_PER_IMAGE, side="right")
    rates = np.maximum(np.concatenate([[1.0], missed])[rows], floor)
    return float(np.exp(np.log(rates).mean())) if (rates > 0).all() else 0.0


def _outside(truth: PedestrianTruth, setup: Setup) -> NDArray[np.bool_]:
    low, high = setup.height
    least, most = setup.visibility
    return np.asarray(
        truth.ignore
        | (truth.heights < low)
        | (truth.heights > high)
        | (truth.visibility < least)
        | (truth.visibility > most)
    )


def _suited(found: PedestrianDetections, setup: Setup) -> PedestrianDetections:
    """Return the best ``_MOST`` detections of fitting height, by falling score."""
    order = np.argsort(-found.scores, kind="stable")[:_MOST]
    heights = found.heights[order]
    order = order[(heights >= setup.height[0] / _SLACK) & (heights < setup.height[1] * _SLACK)]
    return PedestrianDetections(found.boxes_xyxy[order], found.heights[order], found.scores[order])


def with_aspect(boxes_xyxy: NDArray[np.float64], aspect: float | None) -> NDArray[np.float64]:
    """Return boxes with width = aspect · height, centre and height kept; unchanged for None."""
    if aspect is None:
        return boxes_xyxy
    centre = (boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2
    half = (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]) * aspect / 2
    return np.stack([centre - half, boxes_xyxy[:, 1], centre + half, boxes_xyxy[:, 3]], axis=1)


def _matched(
    found: PedestrianDetections, boxes: NDArray[np.float64], ignore: NDArray[np.bool_], setup: Setup
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool (N,) each: found a pedestrian that counts; counts at all (is not left out).

    Each detection takes the free counting pedestrian of greatest overlap (the later one of equals, as
    the program does), and only without any looks at the others, which are never used up.
    """
    detected = with_aspect(found.boxes_xyxy, setup.aspect)
    regular = with_aspect(boxes[~ignore], setup.aspect)
    overlap = iou_matrix(detected, regular)
    hidden = (ioa_matrix(detected, with_aspect(boxes[ignore], setup.aspect)) >= _IOU).any(axis=1)
    hit = np.zeros(len(detected), dtype=bool)
    for row in range(len(detected)) if len(regular) else ():
        best = len(regular) - 1 - int(np.argmax(overlap[row, ::-1]))
        if overlap[row, best] >= _IOU:
            hit[row] = True
            overlap[:, best] = -1.0
    return hit, hit | ~hidden


def read_truth(path: Path, category: int = 1) -> dict[int, PedestrianTruth]:
    """Read COCO-style ground truth whose annotations have ``height``, ``vis_ratio`` and ``ignore``.

    Other categories than ``category`` are left out. Absent fields mean the box's own height, wholly
    visible, not ignored; ``iscrowd`` alone ignores nothing, as in the CityPersons program.

    Raises:
        HemError: if the file is damaged (the annotation is named), or all annotations are of others.
    """
    document = read_any_json(path)
    if not isinstance(document, dict) or "images" not in document or "annotations" not in document:
        raise HemError(f"{path} must hold an object with images and annotations (COCO style)")
    rows: dict[int, list[tuple[float, ...]]] = {}
    for index, image in enumerate(records(document["images"], path, "images")):
        rows[whole_number_of(image, "id", f"{path}: images[{index}]")] = []
    for index, one in enumerate(records(document["annotations"], path, "annotations")):
        where = f"{path}: annotations[{index}]"
        image_id = whole_number_of(one, "image_id", where)
        if image_id not in rows:
            raise HemError(f"{where}: image {image_id} is not among the images")
        left, top, width, height = box_of(one, where)
        if whole_number_of(one, "category_id", where) == category:
            rows[image_id].append(
                (
                    *(left, top, left + width, top + height),
                    number_of(one, "height", where, height),
                    number_of(one, "vis_ratio", where, 1.0),
                    float(number_of(one, "ignore", where, 0.0) != 0),
                )
            )
    if rows and document["annotations"] and not any(rows.values()):
        raise HemError(f"{path}: no annotation has category_id {category}, which pedestrians have here")
    tables = {image: np.array(values).reshape(-1, 7) for image, values in rows.items()}
    return {
        image: PedestrianTruth(table[:, :4], table[:, 4], table[:, 5], table[:, 6] > 0)
        for image, table in tables.items()
    }


def read_detections(path: Path, category: int = 1) -> dict[int, PedestrianDetections]:
    """Read COCO results: a list of ``image_id``, ``category_id``, ``bbox``, ``score``.

    Raises:
        HemError: if the file is damaged (the entry is named).
    """
    return detections_of(records(read_any_json(path), path, "results"), path, category)


def detections_of(
    rows: Sequence[Mapping[str, Any]], path: Path, category: int
) -> dict[int, PedestrianDetections]:
    """Return COCO results by image; entries of other categories are left out, but not all of them."""
    grouped: dict[int, list[tuple[float, ...]]] = {}
    for index, one in enumerate(rows):
        where = f"{path}: results[{index}]"
        left, top, width, height = box_of(one, where)
        score = number_of(one, "score", where)
        if whole_number_of(one, "category_id", where, category) == category:
            image = whole_number_of(one, "image_id", where)
            grouped.setdefault(image, []).append((left, top, left + width, top + height, height, score))
    if rows and not grouped:
        raise HemError(f"{path}: no result has category_id {category}, which pedestrians have here")
    tables = {image: np.array(values) for image, values in grouped.items()}
    return {
        image: PedestrianDetections(table[:, :4], table[:, 4], table[:, 5]) for image, table in tables.items()
    }
