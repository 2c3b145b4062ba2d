"""Small pictures of mined examples: strips of neighbouring frames, and before beside after."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.structures import Detections, HardExample, Kind, Target

Pixels = NDArray[np.uint8]
COLOURS: dict[str, tuple[int, int, int]] = {  # RGB
    Kind.HARD_NEGATIVE.value: (230, 40, 40),
    Kind.HARD_POSITIVE.value: (40, 190, 70),
    Kind.PSEUDO_LABEL.value: (60, 120, 255),
    Kind.IGNORE.value: (175, 175, 175),
    "detection": (255, 220, 60),
}
_BACKGROUND, _GAP = (32, 32, 32), 2
_RIM = (225, 40, 225)  # magenta: seen on white and on dark pages, and the colour of no box
_QUALITIES = (80, 65, 50, 35, 25)
_SHRINK = 0.8
_LEAST_SIDE = 24  # pixels; below it a cell shows nothing


@dataclass(frozen=True)
class MarkedBox:
    """A box to draw: pixels of the frame, what it is (a Kind's value or ``detection``), its score if any."""

    box_xyxy: tuple[float, float, float, float]
    kind: str
    score: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in COLOURS:
            raise HemError(f"cannot draw a box of kind {self.kind!r}; known are {', '.join(COLOURS)}")


def marks_of_examples(examples: Sequence[HardExample]) -> list[MarkedBox]:
    """Return examples of one frame as boxes to draw."""
    return [MarkedBox(e.box_xyxy, e.kind.value, e.score) for e in examples]


def marks_of_detections(detections: Detections, score_threshold: float = 0.0) -> list[MarkedBox]:
    """Return detections with score >= ``score_threshold`` as boxes to draw."""
    kept = detections.above(score_threshold)
    return [
        MarkedBox((box[0], box[1], box[2], box[3]), "detection", score)
        for box, score in zip(kept.boxes_xyxy.tolist(), kept.scores.tolist(), strict=True)
    ]


def marks_of_target(target: Target) -> list[MarkedBox]:
    """Return what a training target teaches as boxes to draw: positives, negatives, ignore regions."""
    groups = (
        (target.boxes_xyxy, Kind.HARD_POSITIVE),
        (target.negatives_xyxy, Kind.HARD_NEGATIVE),
        (target.ignore_xyxy, Kind.IGNORE),
    )
    return [MarkedBox((b[0], b[1], b[2], b[3]), kind.value) for boxes, kind in groups for b in boxes.tolist()]


def strip_budget(n_strips: int, total_bytes: int = 18_000_000) -> int:
    """Return how many bytes each of ``n_strips`` may take so that all fit, 2,000 to 24,000."""
    return int(min(24_000, max(2_000, total_bytes * 3 / 4 / max(1, n_strips))))


def frame_strip(
    frames: Sequence[Tensor | None],
    marks: Sequence[Sequence[MarkedBox]],
    around_xyxy: tuple[float, float, float, float],
    *,
    focus: int | None = None,
    side: int = 112,
    context: float = 2.5,
    max_bytes: int = 12_000,
) -> bytes:
    """Return frames t-2..t+2 (any odd number) side by side as one JPEG, cut out round one place.

    The same square of every frame is shown, so what comes and goes is seen at a glance.

    Args:
        frames: uint8 (3, H, W) RGB each; None where the video has no such frame (shown as a cross).
        marks: the boxes of each frame.
        around_xyxy: the example's box, in pixels of the frames.
        focus: which frame is t; it gets a magenta rim. None = the middle one.
        side: pixels of a cell; made smaller if ``max_bytes`` asks for it.
        context: side of the square in multiples of the box's longer side, >= 1; raising it shows
            more surroundings and a smaller object.
        max_bytes: quality, then size, fall until the JPEG fits (or a cell would be under 24 pixels).

    Raises:
        HemError: if there are no frames, or not as many lists of marks.
    """
    if not frames or len(frames) != len(marks):
        raise HemError(f"a strip needs as many lists of boxes as frames, got {len(marks)} for {len(frames)}")
    focus = len(frames) // 2 if focus is None else focus
    while True:
        cells = [
            _cell(frame, boxes, around_xyxy, side, context, rim=index == focus)
            for index, (frame, boxes) in enumerate(zip(frames, marks, strict=True))
        ]
        data = _fitting_jpeg(_side_by_side(cells), max_bytes)
        smaller = int(side * _SHRINK)
        if len(data) <= max_bytes or smaller < _LEAST_SIDE:
            return data
        side = smaller


def _cell(
    frame: Tensor | None,
    marks: Sequence[MarkedBox],
    around: tuple[float, float, float, float],
    side: int,
    context: float,
    rim: bool,
) -> Pixels:
    if frame is None:
        cell = np.full((side, side, 3), _BACKGROUND, dtype=np.uint8)
        cv2.line(cell, (0, 0), (side, side), (90, 90, 90), 1)
        cv2.line(cell, (0, side), (side, 0), (90, 90, 90), 1)
    else:
        cell = _cut_out(frame, marks, around, side, context)
    if rim:
        cv2.rectangle(cell, (0, 0), (side - 1, side - 1), _RIM, 3)
    return cell


def _cut_out(
    frame: Tensor,
    marks: Sequence[MarkedBox],
    around: tuple[float, float, float, float],
    side: int,
    context: float,
) -> Pixels:
    height, width = int(frame.shape[-2]), int(frame.shape[-1])
    longest = max(around[2] - around[0], around[3] - around[1])
    extent = max(8.0, context * longest)
    # shifted inwards where it would leave the frame, so that few cells waste room on nothing
    left = _shifted((around[0] + around[2]) / 2 - extent / 2, extent, width)
    top = _shifted((around[1] + around[3]) / 2 - extent / 2, extent, height)
    scale = side / extent
    x1, y1 = max(0, int(left)), max(0, int(top))
    x2, y2 = min(width, int(np.ceil(left + extent))), min(height, int(np.ceil(top + extent)))
    if x2 <= x1 or y2 <= y1:  # a box that lies wholly outside the frame
        return np.full((side, side, 3), _BACKGROUND, dtype=np.uint8)
    piece = np.ascontiguousarray(frame[:, y1:y2, x1:x2].permute(1, 2, 0).cpu().numpy())
    matrix = np.array([[scale, 0, (x1 - left) * scale], [0, scale, (y1 - top) * scale]])
    if scale < 1:  # averaged first: plain warping would alias
        small = (max(1, round(piece.shape[1] * scale)), max(1, round(piece.shape[0] * scale)))
        factor = (small[0] / piece.shape[1], small[1] / piece.shape[0])
        piece = np.asarray(cv2.resize(piece, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix[0, 0], matrix[1, 1] = scale / factor[0], scale / factor[1]
    cell = np.asarray(
        cv2.warpAffine(piece, matrix, (side, side), borderValue=_BACKGROUND, flags=cv2.INTER_LINEAR),
        dtype=np.uint8,
    )
    for mark in marks:
        _draw(cell, mark, scale, left, top)
    return cell


def _shifted(start: float, extent: float, size: int) -> float:
    if extent >= size:
        return (size - extent) / 2
    return min(max(0.0, start), size - extent)


def _draw(image: Pixels, mark: MarkedBox, scale: float, left: float = 0, top: float = 0) -> None:
    corners = [
        round((value - origin) * scale)
        for value, origin in zip(mark.box_xyxy, (left, top, left, top), strict=True)
    ]
    first, second = (corners[0], corners[1]), (corners[2], corners[3])
    if mark.kind == Kind.IGNORE.value:  # there are many, and they must not hide what was mined
        cv2.rectangle(image, first, second, COLOURS[mark.kind], 1)
        return
    edge = 3 if mark.kind == "detection" else 4
    cv2.rectangle(image, first, second, (0, 0, 0), edge)  # a dark edge shows on any ground
    cv2.rectangle(image, first, second, COLOURS[mark.kind], 2)


def _side_by_side(cells: Sequence[Pixels]) -> Pixels:
    height = max(cell.shape[0] for cell in cells)
    gap = np.full((height, _GAP, 3), _BACKGROUND, dtype=np.uint8)
    row: list[Pixels] = []
    for cell in cells:
        row += [gap, cell] if row else [cell]
    return np.concatenate(row, axis=1)


def _fitting_jpeg(image: Pixels, max_bytes: int) -> bytes:
    """Return the best quality that fits, or the smallest there is."""
    data = b""
    for quality in _QUALITIES:
        done, encoded = cv2.imencode(
            ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        if not done:
            raise HemError(f"a picture of shape {image.shape} could not be encoded as JPEG")
        data = encoded.tobytes()
        if len(data) <= max_bytes:
            break
    return data


def annotated(frame: Tensor, marks: Sequence[MarkedBox], *, width: int = 480, scores: bool = True) -> Pixels:
    """Return a frame with its boxes drawn, uint8 (h, width, 3) RGB; scores stand at the boxes."""
    scale = width / int(frame.shape[-1])
    height = max(1, round(int(frame.shape[-2]) * scale))
    pixels = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(pixels, (width, height), interpolation=method), dtype=np.uint8)
    for mark in marks:
        _draw(image, mark, scale)
    for mark in marks:
        if scores and mark.score is not None:
            _write(image, f"{mark.score:.2f}", (mark.box_xyxy[0] * scale + 2, mark.box_xyxy[1] * scale - 3))
    return image


def _write(image: Pixels, text: str, place: tuple[float, float], size: float = 0.38) -> None:
    at = (round(place[0]), max(11, round(place[1])))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, at, font, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, at, font, size, (255, 255, 255), 1, cv2.LINE_AA)


def before_after(
    frame: Tensor,
    before: Sequence[MarkedBox],
    after: Sequence[MarkedBox],
    *,
    width: int = 480,
    max_bytes: int = 60_000,
) -> bytes:
    """Return one frame twice side by side as JPEG: boxes of the baseline left, of the retrained right."""
    while True:
        panels = [annotated(frame, marks, width=width) for marks in (before, after)]
        for panel, name in zip(panels, ("before", "after"), strict=True):
            _write(panel, name, (6, panel.shape[0] - 8), size=0.7)
        data = _fitting_jpeg(_side_by_side(panels), max_bytes)
        smaller = int(width * _SHRINK)
        if len(data) <= max_bytes or smaller < 4 * _LEAST_SIDE:
            return data
        width = smaller
