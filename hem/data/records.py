"""What a reader finds in an annotation file, and the one judgement of boxes that all readers share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures import Target

OnBadBox = Literal["error", "clip", "skip"]
OnBadImage = Literal["error", "skip"]

_PLAUSIBLE = 1e6  # pixels; no coordinate of a real dataset comes near


class RawBox(NamedTuple):
    """One box as written: corners in pixels (may be nonsense), label (0 = any, only if ignored)."""

    left: float
    top: float
    right: float
    bottom: float
    label: int
    ignore: bool
    where: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image as its annotation file describes it.

    ``file`` is a POSIX path relative to the root; ``size`` (width, height) if the annotations say;
    ``group`` the video or scene it belongs to ("" if it stands alone); ``where`` names the
    annotation file; ``extra`` is kept as it is for ImageRecord.extra; with ``relative`` the boxes are
    shares of the image's width and height instead of pixels.
    """

    file: str
    boxes: Sequence[RawBox]
    where: str
    size: tuple[int, int] | None = None
    group: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    relative: bool = False


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image of a dataset without its pixels.

    Attributes:
        file: POSIX path relative to the dataset's root.
        image_id: stable name; the same as ``file`` unless the dataset names its images otherwise.
        size: (width, height) in pixels, as the image is given to training.
        target: its labels.
        group: video or scene; images of one group must stay on one side of a split.
        ignore_labels: int64 (K,) class of each ignore region of ``target``; 0 = every class.
        extra: what the format says beyond boxes (attributes, ellipses).
    """

    file: str
    image_id: str
    size: tuple[int, int]
    target: Target
    group: str
    ignore_labels: NDArray[np.int64]
    extra: Mapping[str, Any]


class Skips:
    """Counts of what was left out or changed, by reason, with the first five names of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one more ``reason`` and keep ``name`` if it is among the first five."""
        self.counts[reason] += 1
        if self.counts[reason] <= 5:
            self.examples.setdefault(reason, []).append(name)

    def __str__(self) -> str:
        return "; ".join(
            f"{count} x {reason} (such as {', '.join(self.examples[reason][:2])})"
            for reason, count in sorted(self.counts.items())
        )


@dataclass(frozen=True, slots=True)
class BoxRules:
    """How boxes are judged against their image.

    Attributes:
        on_bad_box: what happens to an impossible box (not finite, right < left, bottom < top, wholly
            outside its image, or further over the edge than ``overhang_px``). ``error`` stops and
            names it. ``clip`` keeps what lies in the image and drops the rest. ``skip`` does not
            trust it: what lies in the image becomes an ignore region.
        overhang_px: a box may reach so far over the edge and is clipped. Raising it hides labels
            made on a picture of another size; lowering it stops at rounding. Infinite where a
            dataset draws the whole object beyond the picture on purpose.
        outside: ``error`` or, where such boxes are normal, ``skip``: a box wholly outside its image.
        min_box_side: positives narrower or lower than this many pixels become ignore regions.
            Raising it spares a detector objects it cannot see; too high and it unlearns small ones.
        max_bad_boxes: above so many impossible boxes reading stops whatever ``on_bad_box`` says.
    """

    on_bad_box: OnBadBox = "error"
    overhang_px: float = 2.0
    outside: Literal["error", "skip"] = "error"
    min_box_side: float = 0.0
    max_bad_boxes: int = 1000

    def __post_init__(self) -> None:
        if self.on_bad_box not in ("error", "clip", "skip"):
            raise HemError(f"on_bad_box must be error, clip or skip, got {self.on_bad_box!r}")
        if not self.min_box_side >= 0 or not self.overhang_px >= 0 or self.max_bad_boxes < 0:
            raise HemError("min_box_side, overhang_px and max_bad_boxes must be >= 0")

    def judge(
        self, image: RawImage, size: tuple[int, int], skips: Skips
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Return the boxes that stand, float32 (N, 4), with labels (N,) and ignore flags (N,).

        Raises:
            HemError: naming annotation file, place, box and way out, as ``on_bad_box`` says.
        """
        if not image.boxes:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
        corners = np.array([box[:4] for box in image.boxes], dtype=np.float64)
        labels = np.array([box.label for box in image.boxes], dtype=np.int64)
        ignore = np.array([box.ignore for box in image.boxes], dtype=np.bool_)
        width, height = size
        if image.relative:
            with np.errstate(over="ignore"):
                corners *= (width, height, width, height)
        limits = np.array([width, height, width, height], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(corners) <= _PLAUSIBLE).all(1)
            bad |= (corners[:, 2:] < corners[:, :2]).any(1)
            flat = (corners[:, 2:] == corners[:, :2]).any(1) & ~bad
            beyond = ((corners[:, 2:] <= 0) | (corners[:, :2] >= limits[:2])).any(1) & ~bad & ~flat
            over = np.maximum(-corners[:, :2], corners[:, 2:] - limits[:2]).max(1)
            clipped = np.clip(corners, 0, limits).astype(np.float32)
        keep = ~bad & ~flat & ~beyond
        for row in _rows(bad):
            self._bad(image, row, size, "is not (left, top, right, bottom) in order", skips)
        for row in _rows(flat):
            skips.add("box without width or height", _place(image, row))
        for row in _rows(beyond):
            if self.outside == "error" and not ignore[row]:
                self._bad(image, row, size, "lies wholly outside its image", skips)
            else:
                skips.add("box outside its image", _place(image, row))
        for row in _rows(keep & (over > self.overhang_px)):
            self._bad(image, row, size, "reaches out of its image", skips)
            ignore[row] |= self.on_bad_box == "skip"
        extent = (clipped[:, 2:] > clipped[:, :2]).all(1)
        for row in _rows(keep & ~extent):  # too thin for single precision
            skips.add("box without width or height", _place(image, row))
        keep &= extent
        small = keep & ~ignore & ((clipped[:, 2:] - clipped[:, :2]).min(1) < self.min_box_side)
        for row in _rows(small):
            skips.add("small box made an ignore region", _place(image, row))
        return clipped[keep], labels[keep], (ignore | small)[keep]

    def _bad(self, image: RawImage, row: int, size: tuple[int, int], what: str, skips: Skips) -> None:
        box = image.boxes[row]
        corners = ", ".join(f"{value:g}" for value in box[:4])
        message = (
            f"{image.where}, {box.where}: box ({corners}) {what} ({image.file}, {size[0]}x{size[1]} pixels). "
        )
        if self.on_bad_box == "error":
            raise HemError(message + "Correct it, or set on_bad_box=clip or on_bad_box=skip")
        skips.add(f"impossible box: it {what}", f"{image.where}, {box.where}")
        total = sum(count for reason, count in skips.counts.items() if reason.startswith("impossible box"))
        if total > self.max_bad_boxes:
            raise HemError(
                message + f"More than max_bad_boxes={self.max_bad_boxes} are like this: "
                "the labels probably belong to other images"
            )


def _rows(mask: NDArray[np.bool_] | np.bool_) -> list[int]:
    return [int(row) for row in np.flatnonzero(mask)]


def _place(image: RawImage, row: int) -> str:
    return f"{image.where}, {image.boxes[row].where}"
