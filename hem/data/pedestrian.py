"""What the Caltech and CityPersons readers share: which pedestrians count."""

from dataclasses import dataclass

import numpy as np
from scipy.io import loadmat

from hem.data.reading import Path, number
from hem.errors import HemError

_MAX_MAT_BYTES = 32 << 20


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
    try:
        if path.stat().st_size > _MAX_MAT_BYTES:
            raise HemError(f"{path} is larger than the {_MAX_MAT_BYTES} bytes expected of annotations")
        found = loadmat(path, squeeze_me=True, struct_as_record=False, verify_compressed_data_integrity=True)
    except HemError:
        raise
    except Exception as error:  # the reader raises whatever a damaged file leads it into
        text = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise HemError(f"{path} is not a readable MATLAB file: {text}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise HemError(f"{path}: variable {missing[0]!r} is missing")
    return dict(found)


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
