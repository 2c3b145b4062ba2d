"""Splits by video or scene; in time only when asked for, and then marked."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from hem.data.base import DetectionDataset
from hem.errors import HemError

SAME_SCENE = "same scene"
"""What every table must say of a split in time: its test frames show what training saw."""

_Dataset = TypeVar("_Dataset", bound=DetectionDataset)


def split_by_group(dataset: _Dataset, parts: Mapping[str, float], seed: int = 0) -> dict[str, _Dataset]:
    """Split a dataset so that all images of one video or scene are in one part.

    Groups are shuffled by ``seed``; each goes to the part that is furthest below its share of the
    images, so with few large groups the shares are met only roughly. Order within a part is kept.

    Args:
        dataset: what to split; its ``groups`` decide. Images that stand alone are groups of one.
        parts: share of the images for each part by name, each > 0; shares are normalised.
        seed: another seed, another split.

    Raises:
        HemError: if a share is not positive, or there are fewer groups than parts.
    """
    if not parts or not all(np.isfinite(share) and share > 0 for share in parts.values()):
        raise HemError(f"shares of a split must be positive numbers, got {dict(parts)}")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(dataset.groups):
        members.setdefault(group, []).append(index)
    if len(members) < len(parts):
        raise HemError(
            f"{dataset.root}: {len(members)} video(s) or scene(s) cannot be split into {len(parts)} parts "
            f"({', '.join(parts)}); frames of one video are never divided"
        )
    names = list(parts)
    wanted = np.array([parts[name] for name in names]) / sum(parts.values()) * len(dataset)
    rows: list[list[int]] = [[] for _ in names]
    order = np.random.default_rng(seed).permutation(len(members))
    groups = [members[group] for group in sorted(members)]
    for position, group in enumerate(order):
        filled = np.array([len(part) for part in rows])
        empty = filled == 0
        # the last groups go to parts that have none yet, so that no part stays empty
        must = len(order) - position <= int(empty.sum())
        lack = np.where(empty if must else True, 1 - filled / wanted, -np.inf)
        rows[int(lack.argmax())].extend(groups[group])
    return {name: dataset.subset(sorted(part)) for name, part in zip(names, rows, strict=True)}


def part_of(dataset: _Dataset, part: str, parts: Mapping[str, float], seed: int = 0) -> _Dataset:
    """Return one part of split_by_group, for datasets without an official split.

    Raises:
        HemError: as split_by_group, or if ``part`` is not one of ``parts``.
    """
    if part not in parts:
        raise HemError(f"part {part!r} is not among {', '.join(parts)}")
    return split_by_group(dataset, parts, seed)[part]


def split_in_time(dataset: _Dataset, test_share: float, gap: int = 0) -> tuple[_Dataset, _Dataset]:
    """Return the beginning and the end of every video of a dataset, as training and test images.

    Figures on such a split flatter every arm: say SAME_SCENE beside them (``DataBundle.note``).

    Args:
        dataset: frames in order; its ``groups`` say which belong to one video.
        test_share: share of each video's frames that is tested on, in (0, 1).
        gap: frames dropped between the two; more makes neighbouring frames less alike.

    Raises:
        HemError: if the share is not in (0, 1), or leaves either side without a frame.
    """
    if not 0 < test_share < 1 or gap < 0:
        raise HemError(f"a split in time needs a share in (0, 1) and a gap >= 0, got {test_share}, {gap}")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(dataset.groups):
        members.setdefault(group, []).append(index)
    first: list[int] = []
    last: list[int] = []
    for rows in members.values():
        tested = round(len(rows) * test_share)
        first += rows[: max(0, len(rows) - tested - gap)]
        last += rows[len(rows) - tested :]
    if not first or not last:
        raise HemError(
            f"{dataset.root}: a split in time with share {test_share} and gap {gap} leaves one side empty"
        )
    return dataset.subset(sorted(first)), dataset.subset(sorted(last))
