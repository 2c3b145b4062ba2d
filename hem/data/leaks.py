"""Looking for the same picture, the same file or the same video on both sides of a split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hem.artifacts import sha256_file
from hem.data.pictures import load_thumbnail
from hem.data.reading import inside
from hem.errors import HemError

_SIDE = 16
_BITS = _SIDE * (_SIDE - 1)
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


@dataclass(frozen=True, eq=False)
class Looks:
    """What pictures look like, small enough to compare all with all.

    Attributes:
        names: of the pictures, N.
        bits: -1/+1 float32 (N, 240): whether a pixel of the 16x16 grey picture is brighter than its left
            neighbour.
        grey: float32 (N, 256), the grey pictures with mean 0 and length 1 (all 0 if of one tone).
        tones: float32 (N,), mean grey.
    """

    names: tuple[str, ...]
    bits: NDArray[np.float32]
    grey: NDArray[np.float32]
    tones: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)


def looks_of_images(files: ImageFiles, most: int | None = None) -> Looks:
    """Return how images look: all of them, or ``most`` of them evenly spread.

    With ``most``, images that cannot be read are passed over (training says so of them).

    Raises:
        HemError: if an image cannot be read and ``most`` is None.
    """
    names = files.image_ids
    if most is None or len(names) <= most:
        chosen = list(names)
    else:
        chosen = [names[index] for index in np.linspace(0, len(names) - 1, most).astype(int).tolist()]
    pictures, kept = [], []
    for name in chosen:
        try:
            pictures.append(load_thumbnail(inside(files.root, name), _SIDE, _SIDE))
        except HemError:
            if most is None:
                raise
            continue
        kept.append(name)
    return _looks(kept, pictures)


def looks_of_frames(named: Iterable[tuple[str, NDArray[np.uint8]]]) -> Looks:
    """Return how frames look; each comes with its name as RGB, uint8 (H, W, 3)."""
    names, pictures = [], []
    for name, frame in named:
        grey = Image.fromarray(frame).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        names.append(name)
        pictures.append(np.asarray(grey, dtype=np.float32))
    return _looks(names, pictures)


def _looks(names: Sequence[str], pictures: Sequence[NDArray[np.float32]]) -> Looks:
    small = np.array(pictures, dtype=np.float32).reshape(-1, _SIDE, _SIDE)
    bits = np.where(np.diff(small, axis=2) > 0, 1.0, -1.0).astype(np.float32).reshape(len(small), _BITS)
    flat = small.reshape(len(small), _SIDE * _SIDE)
    tones = flat.mean(1)
    centred = flat - tones[:, None]
    spread = np.sqrt((centred**2).mean(1, keepdims=True))
    normal = np.where(spread > _FLAT, centred / np.maximum(spread, _FLAT) / _SIDE, 0.0)
    return Looks(tuple(names), bits, normal.astype(np.float32), tones.astype(np.float32))


def find_near_duplicates(
    first: ImageFiles, second: ImageFiles, max_distance: float = 0.12, min_correlation: float = 0.97
) -> list[NearDuplicate]:
    """Return pairs of images, one of each set, that look the same; every image is read.

    The same object twice looks for pairs within it. Arguments and result as for ``alike``.

    Raises:
        HemError: if an image cannot be read.
    """
    looks = looks_of_images(first)
    return alike(looks, looks if second is first else looks_of_images(second), max_distance, min_correlation)


def alike(
    first: Looks, second: Looks, max_distance: float = 0.12, min_correlation: float = 0.97
) -> list[NearDuplicate]:
    """Return pairs of pictures, one of each set, that look the same: a leak between train and test.

    Finds copies that were resized, compressed again or a little brighter, and neighbouring frames
    of a video; not crops or mirrored copies. Sorted by distance.

    Args:
        first, second: two sets; the same object twice looks for pairs within it.
        max_distance: share of hash bits that may differ, in [0, 0.5]. Raising it finds more changed
            copies and more pairs that only resemble each other.
        min_correlation: of the grey pictures, in [-1, 1]; lowering it does the same.

    Raises:
        HemError: if a limit is out of its range.
    """
    if not 0 <= max_distance <= 0.5 or not -1 <= min_correlation <= 1:
        raise HemError("max_distance must lie in [0, 0.5] and min_correlation in [-1, 1]")
    found: list[NearDuplicate] = []
    for start in range(0, len(first), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = np.asarray(0.5 - first.bits[rows] @ second.bits.T / (2 * _BITS))
        likeness = first.grey[rows] @ second.grey.T
        plain = np.logical_and.outer(~first.grey[rows].any(1), ~second.grey.any(1))
        same_tone = np.abs(first.tones[rows, None] - second.tones[None]) <= 2 * _FLAT
        likeness = np.where(plain & same_tone, 1.0, likeness)
        near, near_enough = distance <= max_distance + 1e-6, likeness >= min_correlation
        for row, column in np.argwhere(np.logical_and(near, near_enough)).tolist():
            if second is first and column <= start + row:
                continue
            apart = max(0.0, float(distance[row, column]))
            names = first.names[start + row], second.names[column]
            found.append(NearDuplicate(*names, apart, float(likeness[row, column])))
    return sorted(found, key=lambda pair: (pair.distance, -pair.correlation, pair.first, pair.second))


def equal_files(first: ImageFiles, second: ImageFiles) -> list[tuple[str, str]]:
    """Return pairs of files with the same content; only files of equal length are read."""
    sizes = {name: _length(first, name) for name in first.image_ids}
    wanted = set(sizes.values()) - {None}
    candidates = [(name, size) for name in second.image_ids if (size := _length(second, name)) in wanted]
    lengths = {size for _, size in candidates}
    by_content: dict[str, str] = {}
    for name, size in sizes.items():
        if size in lengths:
            by_content.setdefault(sha256_file(inside(first.root, name)), name)
    pairs = [(by_content.get(sha256_file(inside(second.root, name))), name) for name, _ in candidates]
    return [(one, other) for one, other in pairs if one is not None]


def _length(files: ImageFiles, name: str) -> int | None:
    try:
        return inside(files.root, name).stat().st_size
    except OSError:
        return None


def shared_groups(first: ImageFiles, second: ImageFiles) -> list[str]:
    """Return the videos or scenes that have images in both of two datasets of one folder."""
    groups = set(getattr(first, "groups", ())) & set(getattr(second, "groups", ()))
    alone = set(first.image_ids) | set(second.image_ids)
    return sorted(groups - alone) if first.root.resolve() == second.root.resolve() else []


def leak_report(train: ImageFiles, test: ImageFiles, most: int | None = None, **limits: float) -> str | None:
    """Return one line that names what train and test share, or None if nothing was found.

    Looked for: videos or scenes with images in both, equal files, near-duplicate pictures.

    Args:
        train, test: two datasets.
        most: near-duplicates are looked for among so many images of each, evenly spread; None: all of
            them, at some milliseconds an image.
        limits: see ``alike``.
    """
    parts = []
    shared = shared_groups(train, test)
    if shared:
        parts.append(f"{len(shared)} video(s) or scene(s) are in both, such as {', '.join(shared[:3])}")
    equal = equal_files(train, test)
    if equal:
        parts.append(f"{len(equal)} pair(s) of files are equal, such as {' and '.join(equal[0])}")
    pairs = alike(looks_of_images(train, most), looks_of_images(test, most), **limits)
    pairs = [pair for pair in pairs if (pair.first, pair.second) not in set(equal)]
    if pairs:
        names = ", ".join(f"{pair.first} and {pair.second}" for pair in pairs[:3])
        parts.append(f"{len(pairs)} pair(s) of images look the same, such as {names}")
    return "train and test leak: " + "; ".join(parts) if parts else None
