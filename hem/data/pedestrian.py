"""What the Caltech and CityPersons readers share: which pedestrians count."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hem.artifacts.matlab import plain, read_mat
from hem.data.reading import Path, number
from hem.errors import HemError

_MAX_MAT_BYTES = 128 << 20


class Pedestrian(NamedTuple):
    """One annotation as the log-average miss rate wants it: whole, whatever training makes of it.

    Left, top, width and height are those of the whole pedestrian in pixels (corners 0-based), who may
    reach out of the picture; ``visible`` is the visible share in [0, 1] (of Caltech's occluded below 1, as
    its set-ups for the wholly visible want none of them); ``ignore`` says that
    no set-up counts it.
    """

    left: float
    top: float
    width: float
    height: float
    visible: float
    ignore: bool


@dataclass(frozen=True, slots=True)
class Reasonable:
    """Which pedestrians are trained on; the others become ignore regions, never background.

    Attributes:
        min_height: pixels; 50 in the Reasonable subset of Dollar et al., PAMI 2012. Lowering it
            adds small pedestrians, most of them hard to see.
        min_visible: visible share of the box; 0.65 there. Lowering it adds the hidden ones.
    """

    min_height: float = 50.0
    min_visible: float = 0.65

    def __post_init__(self) -> None:
        if not self.min_height >= 0 or not 0 <= self.min_visible <= 1:
            raise HemError(f"min_height must be >= 0 and min_visible in [0, 1], got {self}")

    def counts(self, height: float, visible: float) -> bool:
        """Whether a pedestrian of this height and visible share is a positive (both limits count)."""
        return height >= self.min_height and visible >= self.min_visible


def visible_share(box: tuple[float, ...], part: tuple[float, ...]) -> float:
    """Return area of ``part`` over area of ``box``, both (left, top, width, height); 0 if it has none."""
    area = box[2] * box[3]
    return min(1.0, max(0.0, part[2] * part[3] / area)) if area > 0 else 0.0


def load_mat(path: Path, *names: str) -> dict[str, object]:
    """Return the variables of a MATLAB file (up to version 7.2).

    Raises:
        HemError: if it is absent, too large, damaged, of version 7.3, or lacks one of ``names``.
    """
    found = {name: plain(value) for name, value in read_mat(path, _MAX_MAT_BYTES).items()}
    missing = [name for name in names if name not in found]
    if missing:
        raise HemError(f"{path}: variable {missing[0]!r} is missing")
    return found


def cells(value: object) -> list[object]:
    """Return the items of a squeezed MATLAB cell or struct array: none, one or many."""
    if isinstance(value, np.ndarray):
        return list(value.reshape(-1))
    return [value]


def four(value: object, where: str) -> tuple[float, float, float, float]:
    """Return a MATLAB row of four numbers."""
    row = np.asarray(value).reshape(-1)
    if row.shape != (4,) or row.dtype.kind not in "fiu":
        raise HemError(f"{where}: expected 4 numbers")
    left, top, width, height = (number(float(item), where) for item in row)
    return left, top, width, height
