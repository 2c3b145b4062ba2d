"""Looking for the same picture on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hem.data.pictures import load_thumbnail
from hem.data.reading import inside
from hem.errors import HemError

_SIDE = 16
_FLAT = 1.0  # grey levels: a thumbnail that varies less is one tone and matches by tone alone
_CHUNK = 1024


class ImageFiles(Protocol):
    """A dataset whose images are files: ``root`` and names relative to it."""

    root: Path

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Names of the files."""
        ...


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that look the same.

    ``distance`` is the share of the 240 bits of their hashes that differ, ``correlation`` that of
    their 16x16 grey pictures.
    """

    first: str
    second: str
    distance: float
    correlation: float


def fingerprints(files: ImageFiles) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return hash bits as -1/+1 (N, 240), normalised grey pictures (N, 256) and mean tones (N,).

    A bit says whether a pixel of the 16x16 grey picture is brighter than its left neighbour.

    Raises:
        HemError: if an image cannot be read.
    """
    pictures = [load_thumbnail(inside(files.root, name), _SIDE, _SIDE) for name in files.image_ids]
    small = np.array(pictures, dtype=np.float32).reshape(-1, _SIDE, _SIDE)
    bits = np.where(np.diff(small, axis=2) > 0, 1.0, -1.0).astype(np.float32).reshape(len(small), -1)
    flat = small.reshape(len(small), -1)
    tones = flat.mean(1)
    centred = flat - tones[:, None]
    spread = np.sqrt((centred**2).mean(1, keepdims=True))
    normal = np.where(spread > _FLAT, centred / np.maximum(spread, _FLAT) / _SIDE, 0.0)
    return bits, normal.astype(np.float32), tones.astype(np.float32)


def find_near_duplicates(
    first: ImageFiles, second: ImageFiles, max_distance: float = 0.12, min_correlation: float = 0.97
) -> list[NearDuplicate]:
    """Return pairs of images, one of each set, that look the same: a leak between train and test.

    Finds copies that were resized, compressed again or a little brighter, and neighbouring frames
    of a video; not crops or mirrored copies. Sorted by distance.

    Args:
        first, second: two datasets; the same object twice looks for pairs within it.
        max_distance: share of hash bits that may differ, in [0, 0.5]. Raising it finds more changed
            copies and more pairs that only resemble each other.
        min_correlation: of the grey pictures, in [-1, 1]; lowering it does the same.
    """
    if not 0 <= max_distance <= 0.5 or not -1 <= min_correlation <= 1:
        raise HemError("max_distance must lie in [0, 0.5] and min_correlation in [-1, 1]")
    bits_a, grey_a, tone_a = fingerprints(first)
    bits_b, grey_b, tone_b = (bits_a, grey_a, tone_a) if second is first else fingerprints(second)
    found: list[NearDuplicate] = []
    for start in range(0, len(bits_a), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance: NDArray[np.float32] = 0.5 - bits_a[rows] @ bits_b.T / (2 * max(1, bits_a.shape[1]))
        likeness = grey_a[rows] @ grey_b.T
        plain = np.logical_and.outer(~grey_a[rows].any(1), ~grey_b.any(1))
        same_tone = np.abs(tone_a[rows, None] - tone_b[None]) <= 2 * _FLAT
        likeness = np.where(plain & same_tone, 1.0, likeness)
        near, alike = distance <= max_distance + 1e-6, likeness >= min_correlation
        hits = np.argwhere(np.logical_and(near, alike))
        for row, column in hits.tolist():
            if second is first and column <= start + row:
                continue
            found.append(
                _pair(first.image_ids, second.image_ids, start + row, column, distance[row], likeness[row])
            )
    return sorted(found, key=lambda pair: (pair.distance, -pair.correlation, pair.first, pair.second))


def _pair(
    first: Sequence[str],
    second: Sequence[str],
    row: int,
    column: int,
    distance: NDArray[np.float32],
    likeness: NDArray[np.float32],
) -> NearDuplicate:
    return NearDuplicate(
        first[row], second[column], max(0.0, float(distance[column])), float(likeness[column])
    )


def leak_report(train: ImageFiles, test: ImageFiles, **limits: float) -> str | None:
    """Return one line that names what train and test share (videos, near-duplicate images), or None."""
    parts = []
    groups = set(getattr(train, "groups", ())) & set(getattr(test, "groups", ()))
    alone = set(train.image_ids) | set(test.image_ids)
    shared = sorted(groups - alone) if train.root.resolve() == test.root.resolve() else []
    if shared:
        parts.append(f"{len(shared)} video(s) or scene(s) are in both, such as {', '.join(shared[:3])}")
    pairs = find_near_duplicates(train, test, **limits)
    if pairs:
        names = ", ".join(f"{pair.first} and {pair.second}" for pair in pairs[:3])
        parts.append(f"{len(pairs)} pair(s) of images look the same, such as {names}")
    return "train and test leak: " + "; ".join(parts) if parts else None
