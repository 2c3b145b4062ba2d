"""WIDER FACE easy / medium / hard average precision.

Source: Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016, and its evaluation program
(ground truth ``wider_{easy,medium,hard}_val.mat``). Points that change results: boxes are left, top,
width, height with right = left + width, and IoU counts both end pixels; scores are min-max normalised
over the whole set, then read at 1000 thresholds; a detection takes its best face whether or not a
better one took it already; detections on faces outside the setting are left out, but second ones on a
face that counts are not false; images without any annotated face or without detections add none.
"""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hem.artifacts.matlab import read_mat
from hem.errors import HemError
from hem.evaluation.readers import count_of, number_rows, read_bytes, text_lines

SETTINGS = ("easy", "medium", "hard")
_THRESHOLDS = 1 - np.arange(1, 1001) / 1000
_COLUMNS = ("event_list", "file_list", "face_bbx_list", "gt_list")
_IOU = 0.5
_LARGEST_TEXT = 64 * 1024 * 1024  # one image's detections are never that long

Image = tuple[str, str]  # event, image name without suffix


@dataclass(frozen=True, eq=False)
class WiderTruth:
    """Faces of the validation images.

    Attributes:
        faces: image -> float64 (N, 4), left, top, width, height.
        counted: setting -> image -> rows of ``faces`` that count (0-based).
    """

    faces: Mapping[Image, NDArray[np.float64]]
    counted: Mapping[str, Mapping[Image, NDArray[np.int64]]]


@dataclass(frozen=True, eq=False)
class WiderResult:
    """Average precision and curve by setting.

    Attributes:
        average_precision: setting -> AP in [0, 1], None where no face counts.
        curves: setting -> (recall, precision), float64 (1000,) each, by falling threshold.
        images: images with ground truth; missing: how many of them had no prediction file (they count
            as images in which nothing was detected, as in the official program).
    """

    average_precision: dict[str, float | None]
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    images: int
    missing: int


def read_truth(folder: Path) -> WiderTruth:
    """Read ``wider_easy_val.mat``, ``wider_medium_val.mat`` and ``wider_hard_val.mat`` of a folder.

    Raises:
        HemError: if one is absent or damaged.
    """
    counted: dict[str, dict[Image, NDArray[np.int64]]] = {}
    faces: dict[Image, NDArray[np.float64]] = {}
    for setting in SETTINGS:
        path = folder / f"wider_{setting}_val.mat"
        if not path.is_file():
            raise HemError(
                f"{path} is not there; it belongs to the evaluation tools of the WIDER FACE home page "
                "(eval_tools/ground_truth)"
            )
        try:
            faces, counted[setting] = _from_mat(read_mat(path))
        except HemError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:  # another shape
            raise HemError(f"{path} is not a readable WIDER FACE ground truth: {str(error)[:120]}") from None
        _check_rows(path, faces, counted[setting])
    return WiderTruth(faces, counted)


def _from_mat(
    mat: Mapping[str, np.ndarray],
) -> tuple[dict[Image, NDArray[np.float64]], dict[Image, NDArray[np.int64]]]:
    faces: dict[Image, NDArray[np.float64]] = {}
    counted: dict[Image, NDArray[np.int64]] = {}
    columns = (mat[name][:, 0] for name in _COLUMNS)
    for event, files, boxes, rows in zip(*columns, strict=True):
        for k in range(len(files)):
            image = (str(event), str(files[k, 0]))
            faces[image] = np.asarray(boxes[k, 0], dtype=np.float64).reshape(-1, 4)
            counted[image] = np.asarray(rows[k, 0], dtype=np.int64).reshape(-1) - 1
    return faces, counted


def _check_rows(
    path: Path, faces: Mapping[Image, NDArray[np.float64]], counted: Mapping[Image, NDArray[np.int64]]
) -> None:
    for image, rows in counted.items():
        if not np.isfinite(faces[image]).all():
            raise HemError(f"{path}: a face of {'/'.join(image)} is not a finite number")
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(faces[image])):
            raise HemError(f"{path}: {'/'.join(image)} counts a face that is not in its list")


def read_predictions(path: Path) -> dict[Image, NDArray[np.float64]]:
    """Read ``<event>/<image>.txt`` files from a folder or a tar archive of it (never unpacked).

    Each file is the image's name, a count, and ``left top width height score`` lines.

    Returns:
        Image -> float64 (N, 5) in the file's order.

    Raises:
        HemError: if there is none, or one is damaged (file and line are named).
    """
    if path.is_dir():
        found = {
            (file.parent.name, file.stem): read_prediction(read_bytes(file), str(file))
            for file in sorted(path.glob("*/*.txt"))
        }
    elif path.is_file():
        found = _read_archive(path)
    else:
        raise HemError(f"{path} is not there; give the folder with one folder of .txt files for each event")
    if not found:
        raise HemError(f"{path} holds no <event>/<image>.txt; give the folder that holds the event folders")
    return found


def _read_archive(path: Path) -> dict[Image, NDArray[np.float64]]:
    found: dict[Image, NDArray[np.float64]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                stream = archive.extractfile(member) if member.isreg() and name.suffix == ".txt" else None
                if stream is not None and name.parent.name:
                    content = stream.read(_LARGEST_TEXT)
                    found[name.parent.name, name.stem] = read_prediction(content, f"{path}:{name}")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise HemError(f"{path} is neither a folder nor a readable tar archive: {error}") from None
    return found


def read_prediction(content: bytes, name: str) -> NDArray[np.float64]:
    """Return one image's detections, float64 (N, 5), from the text of its file.

    Raises:
        HemError: naming the line that is wrong.
    """
    lines = text_lines(content, name)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 2:
        raise HemError(
            f"{name}: expected the image's name, a count, then boxes; it ends after {len(lines)} lines"
        )
    count, rows = count_of(lines[1], name, 2), lines[2:]
    if len(rows) != count:
        raise HemError(f"{name} line 2: {count} boxes announced, {len(rows)} lines follow")
    return number_rows(rows, 3, name, 5, "left top width height score")


def evaluate(predictions: Mapping[Image, NDArray[np.float64]], truth: WiderTruth) -> WiderResult:
    """Return the official figures of predictions (float64 (N, 5): left, top, width, height, score).

    Predictions for images that are not in the ground truth are left out of everything.

    Raises:
        HemError: if no prediction is of an image in the ground truth.
    """
    known = {image: predictions[image] for image in truth.faces if image in predictions}
    if not known:
        raise HemError("no prediction is of an image in the ground truth; compare event and image names")
    low, high = _score_range(known)
    counts = {setting: np.zeros((len(_THRESHOLDS), 2)) for setting in SETTINGS}
    for image, rows in known.items():
        faces = truth.faces[image]
        if not len(rows) or not len(faces):
            continue
        ordered = rows[np.argsort(-rows[:, 4], kind="stable")]
        scores = (ordered[:, 4] - low) / (high - low) if high > low else np.ones(len(ordered))
        # Last detection admitted by each threshold, -1 for none.
        last = np.searchsorted(-scores, -_THRESHOLDS, side="right") - 1
        overlap = _inclusive_iou(ordered[:, :4], faces)
        best = overlap.argmax(axis=1)
        hit = overlap[np.arange(len(best)), best] >= _IOU
        for setting in SETTINGS:
            counts[setting] += _admitted(best, hit, truth.counted[setting][image], len(faces))[last + 1]
    average_precision: dict[str, float | None] = {}
    curves = {}
    for setting in SETTINGS:
        total = sum(len(rows) for rows in truth.counted[setting].values())
        proposals, recalled = counts[setting].T
        precision = np.divide(recalled, proposals, out=np.zeros_like(recalled), where=proposals > 0)
        recall = recalled / max(total, 1)
        curves[setting] = (recall, precision)
        average_precision[setting] = _area(recall, precision) if total else None
    return WiderResult(average_precision, curves, len(truth.faces), len(truth.faces) - len(known))


def _score_range(predictions: Mapping[Image, NDArray[np.float64]]) -> tuple[float, float]:
    scores = np.concatenate([rows[:, 4] for rows in predictions.values()])
    # 0 is the official program's starting maximum (realmin), so all-negative scores keep it.
    return (float(scores.min()), max(float(scores.max()), 0.0)) if len(scores) else (0.0, 1.0)


def _inclusive_iou(first_xywh: NDArray[np.float64], second_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(first_xywh[:, None, :2], second_xywh[None, :, :2])
    first_end, second_end = (box[:, :2] + box[:, 2:] for box in (first_xywh, second_xywh))
    sides = np.maximum(np.minimum(first_end[:, None], second_end[None]) - low + 1, 0)
    common = sides.prod(axis=2)
    first_area, second_area = ((box[:, 2:] + 1).prod(axis=1) for box in (first_xywh, second_xywh))
    union = first_area[:, None] + second_area[None] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def _admitted(
    best: NDArray[np.int64], hit: NDArray[np.bool_], counted: NDArray[np.int64], n_faces: int
) -> NDArray[np.int64]:
    """Return int64 (N + 1, 2): proposals and faces found among the first 0..N detections."""
    counts = np.zeros(n_faces, dtype=bool)
    counts[counted] = True
    on_counted = hit & counts[best]
    proposals = ~hit | on_counted
    first_of_face = np.zeros(len(best), dtype=bool)
    rows = np.flatnonzero(on_counted)
    first_of_face[rows[np.unique(best[rows], return_index=True)[1]]] = True
    steps = np.cumsum(np.stack([proposals, first_of_face], axis=1), axis=0)
    return np.concatenate([np.zeros((1, 2), dtype=np.int64), steps])


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the area under precision made non-increasing, over every step of recall (PASCAL VOC 2010)."""
    steps = np.concatenate([[0.0], recall, [1.0]])
    heights = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float((np.diff(steps) * heights[1:]).sum())
