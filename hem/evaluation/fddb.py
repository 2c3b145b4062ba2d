"""FDDB discrete and continuous ROC: true-positive rate against the count of false positives.

Source: Jain and Learned-Miller, "FDDB: A Benchmark for Face Detection in Unconstrained Settings",
UM-CS-2010-009, and its evaluation program. At every score of an image, its detections and faces are
paired one to one so that the sum of overlaps is greatest; a pair gives 1 to the discrete score when its
overlap is above 0.5, and its overlap to the continuous one. A false positive is a detection without
such a pair, for both curves. Overlap is intersection over union of the face's ellipse and the
detection's rectangle.

The program draws both regions as pixels of the image, from half axes cut to integers, centres and
corners rounded. Here the same rounded regions have exact areas: pixel k covers [k - 0.5, k + 0.5], and
a rectangle includes the pixels of both ends. Regions are clipped to the image; where its size is not
known, to the 450 px that no FDDB image exceeds on a side. On published detections this stays within 0.3
points of the program's own curves at every count of false positives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hem.errors import HemError
from hem.evaluation.readers import named_blocks, number_rows, read_bytes, text_lines

FIXED_COUNTS = (50, 100, 200, 500, 1000, 2000)
_MATCH = 0.5
_LARGEST_SIDE = 450  # pixels; the images were scaled to it when the set was made


@dataclass(frozen=True, eq=False)
class FddbResult:
    """Both curves; entry k admits every detection with score >= ``thresholds[k]``.

    Attributes:
        thresholds: float64 (K,), falling.
        false_positives: int64 (K,).
        discrete, continuous: true-positive rate, float64 (K,) in [0, 1].
        faces: annotated faces; images: annotated images; missing: images without a block of detections
            (they count as images in which nothing was detected).
    """

    thresholds: NDArray[np.float64]
    false_positives: NDArray[np.int64]
    discrete: NDArray[np.float64]
    continuous: NDArray[np.float64]
    faces: int
    images: int
    missing: int

    def rate_at(self, count: int, continuous: bool = False) -> float | None:
        """Return the true-positive rate with at most ``count`` false positives.

        None if the curve ends before: the detector's own lowest score cut it off, and what it would
        reach is not known.
        """
        if not len(self.thresholds) or self.false_positives[-1] < count or not self.faces:
            return None
        rates = self.continuous if continuous else self.discrete
        within = rates[self.false_positives <= count]
        return float(within.max()) if len(within) else 0.0


def read_ellipses(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Read ``FDDB-fold-*-ellipseList.txt`` of a folder or of its ``FDDB-folds``.

    Returns:
        Image name -> float64 (N, 5): half axis, other half axis, angle of the first to the horizontal
        in radians, centre x, centre y; lengths in pixels.

    Raises:
        HemError: if there is none, or one is damaged (file and line are named).
    """
    files = [
        file
        for place in (folder, folder / "FDDB-folds")
        for file in sorted(place.glob("FDDB-fold-*-ellipseList.txt"))
    ]
    if not files:
        raise HemError(
            f"{folder} holds no FDDB-fold-*-ellipseList.txt; they come as FDDB-folds from the FDDB home page"
        )
    faces = _read(files, 5, "half axis, half axis, angle, centre x, centre y")
    for name, rows in faces.items():
        if (rows[:, :2] <= 0).any():
            raise HemError(f"{folder}: a face of {name} has a half axis that is not above 0")
    return faces


def read_detections(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read ``fold-*-out.txt`` of a folder, or one file: ``name / count / left top width height score``.

    Returns:
        Image name -> float64 (N, 5).

    Raises:
        HemError: if there is none, or one is damaged (file and line are named).
    """
    files = [path] if path.is_file() else sorted(path.glob("fold-*-out.txt"))
    if not files:
        raise HemError(f"{path} holds no fold-*-out.txt; give the folder of the ten folds, or one file")
    found = _read(files, 5, "left top width height score (rectangles; ellipses are not read)", exact=True)
    for name, rows in found.items():
        if (rows[:, 2:4] < 0).any():
            raise HemError(f"{path}: a detection of {name} has a negative side")
    return found


def _read(files: list[Path], columns: int, what: str, exact: bool = False) -> dict[str, NDArray[np.float64]]:
    blocks: dict[str, NDArray[np.float64]] = {}
    for file in files:
        for name, first_line, rows in named_blocks(text_lines(read_bytes(file), str(file)), str(file)):
            if name in blocks:
                raise HemError(f"{file} line {first_line - 2}: image {name} came before")
            for k, row in enumerate(rows if exact else ()):
                if len(row.split()) != columns:
                    raise HemError(f"{file} line {first_line + k}: expected {what}, got {row[:60]!r}")
            blocks[name] = number_rows(rows, first_line, str(file), columns, what)
    return blocks


def evaluate(
    detections: Mapping[str, NDArray[np.float64]],
    ellipses: Mapping[str, NDArray[np.float64]],
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
) -> FddbResult:
    """Return both curves of detections (N, 5) against ellipses (M, 5), as the readers give them.

    Args:
        image_sizes: image name -> (width, height) in pixels, where known.

    Raises:
        HemError: if a detection is of an image without annotation.
    """
    unknown = sorted(set(detections) - set(ellipses))
    if unknown:
        raise HemError(f"detections of {len(unknown)} images that no fold lists, first {unknown[0]!r}")
    steps: list[NDArray[np.float64]] = [np.zeros((0, 4))]
    for name, rows in detections.items():
        size = (image_sizes or {}).get(name)
        if len(rows):
            steps.append(_image_steps(rows, ellipses[name], size))
    changes = np.concatenate(steps)
    changes = changes[np.argsort(-changes[:, 0], kind="stable")]
    totals = np.cumsum(changes[:, 1:], axis=0)
    ends: NDArray[np.int64] = np.flatnonzero(np.append(np.diff(changes[:, 0]) != 0, len(changes) > 0))
    admitted, discrete, continuous = totals[ends].T
    faces = sum(len(rows) for rows in ellipses.values())
    return FddbResult(
        thresholds=changes[ends, 0],
        false_positives=np.rint(admitted - discrete).astype(np.int64),
        discrete=discrete / max(faces, 1),
        continuous=continuous / max(faces, 1),
        faces=faces,
        images=len(ellipses),
        missing=len(set(ellipses) - set(detections)),
    )


def _image_steps(
    rows: NDArray[np.float64], ellipses: NDArray[np.float64], size: tuple[int, int] | None
) -> NDArray[np.float64]:
    """Return float64 (S, 4): each score of an image and what admitting it adds: count, hits, overlap.

    Pairing anew may take from one face what it gives another, so an addition may be below 0.
    """
    corners = np.rint(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1))
    drawn = ellipses.copy()
    drawn[:, :2] = np.maximum(np.floor(ellipses[:, :2]), 1.0)
    drawn[:, 3:5] = np.rint(ellipses[:, 3:5])
    overlap = overlaps(drawn, corners, size or (_LARGEST_SIDE, _LARGEST_SIDE))
    touching = overlap.any(axis=0)
    result = []
    before = np.zeros(3)
    for score in np.unique(rows[:, 4])[::-1]:
        admitted = rows[:, 4] >= score
        now = np.array([admitted.sum(), *before[1:]])
        if (touching & (rows[:, 4] == score)).any():  # others change no pair
            part = overlap[:, admitted & touching]
            pairs = part[linear_sum_assignment(part, maximize=True)]
            now[1:] = (pairs > _MATCH).sum(), pairs.sum()
        result.append(np.concatenate([[score], now - before]))
        before = now
    return np.array(result)


def overlaps(
    ellipses: NDArray[np.float64], corners: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return intersection over union, float64 (M, N), within an image of ``size`` (width, height).

    Args:
        ellipses: float64 (M, 5) as read_ellipses gives them.
        corners: float64 (N, 4), first and last pixel of each rectangle: left, top, right, bottom.
    """
    edge = np.array(size, dtype=np.float64) - 0.5
    low = np.clip(corners[:, :2] - 0.5, -0.5, edge)
    high = np.clip(corners[:, 2:] + 0.5, -0.5, edge)
    image = np.array([[-0.5, -0.5, *edge]])
    visible = _common_areas(ellipses, image)
    common = _common_areas(ellipses, np.concatenate([low, high], axis=1))
    union = visible + np.prod(high - low, axis=1)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _common_areas(ellipses: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas that ellipses (M, 5) share with boxes (N, 4), float64 (M, N).

    Turned and scaled so that the ellipse is the unit circle, the box is a parallelogram; its common
    area with the circle is the sum over its edges of what they and the centre enclose of the circle.
    """
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    offset = corners[None] - ellipses[:, None, None, 3:5]
    cosine, sine = (f(ellipses[:, 2])[:, None, None] for f in (np.cos, np.sin))
    along = (offset[..., 0] * cosine + offset[..., 1] * sine) / ellipses[:, 0, None, None]
    across = (offset[..., 1] * cosine - offset[..., 0] * sine) / ellipses[:, 1, None, None]
    points = np.stack([along, across], axis=-1)
    area = _circle_parts(points, np.roll(points, -1, axis=2)).sum(axis=-1)
    area = np.where(area > 1e-12, area, 0.0)  # regions that are apart leave rounding errors only
    return np.asarray(area * (ellipses[:, 0] * ellipses[:, 1])[:, None])


def _circle_parts(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signed area that triangles (0, start, end) share with the unit circle; points (..., 2)."""
    step = end - start
    square = (step**2).sum(axis=-1)
    half = (start * step).sum(axis=-1)
    root = np.sqrt(np.maximum(half**2 - square * ((start**2).sum(axis=-1) - 1), 0.0))
    safe = np.where(square > 0, square, 1.0)
    enter = start + np.clip((-half - root) / safe, 0, 1)[..., None] * step
    leave = start + np.clip((-half + root) / safe, 0, 1)[..., None] * step

    def cross(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0])

    def sector(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.arctan2(cross(p, q), (p * q).sum(axis=-1)))

    return np.asarray((sector(start, enter) + cross(enter, leave) + sector(leave, end)) / 2)
