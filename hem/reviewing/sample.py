"""Which example to show next: a stratified random sample that can stop and go on at any time."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hem.structures import HardExample, Kind
from hem.structures.rulings import JUDGED_KINDS

BANDS = 3  # terciles of the score; more would leave strata that few answers reach
NO_SCORE = BANDS


@dataclass(frozen=True, order=True)
class Group:
    """What a purity is stated for: examples of one kind found by one rule."""

    kind: Kind
    rule: str


@dataclass(frozen=True, order=True)
class Stratum:
    """A group's examples of one band of scores (0 = lowest tercile; NO_SCORE = without a score)."""

    group: Group
    band: int


def strata_of(examples: Sequence[HardExample]) -> dict[str, Stratum]:
    """Return each judged example's stratum by example id; ignore regions have none."""
    groups: dict[Group, list[HardExample]] = {}
    for example in examples:
        if example.kind in JUDGED_KINDS:
            groups.setdefault(Group(example.kind, example.rule), []).append(example)
    found: dict[str, Stratum] = {}
    for group, members in groups.items():
        scores = np.array([e.score for e in members if e.score is not None], dtype=np.float64)
        edges = np.quantile(scores, np.arange(1, BANDS) / BANDS) if len(scores) else np.zeros(0)
        for example in members:
            band = NO_SCORE
            if example.score is not None:
                band = int(np.searchsorted(edges, example.score, side="right"))
            found[example.example_id] = Stratum(group, band)
    return found


class Sample:
    """The order in which examples are shown.

    Within a stratum the order is random (by a digest of the seed and the id, so it stays the same when
    the set of examples changes). Strata of one group are taken in proportion to their size; groups
    take turns, those that need no more answers last.

    Args:
        examples: mined ones; each id counts once.
        seed: which random order.
    """

    def __init__(self, examples: Sequence[HardExample], seed: int = 0) -> None:
        self.examples: dict[str, HardExample] = {}
        for example in examples:
            self.examples.setdefault(example.example_id, example)
        self.strata = strata_of(list(self.examples.values()))
        self._order: dict[Stratum, list[str]] = {}
        for example_id in sorted(self.strata, key=lambda one: _shuffled(seed, one)):
            self._order.setdefault(self.strata[example_id], []).append(example_id)
        self.sizes: Mapping[Stratum, int] = {stratum: len(ids) for stratum, ids in self._order.items()}

    @property
    def groups(self) -> list[Group]:
        """All groups, sorted."""
        return sorted({stratum.group for stratum in self.sizes})

    def upcoming(self, seen: Collection[str], enough: Collection[Group] = ()) -> Iterator[str]:
        """Yield the ids still to be shown, in order, as if each were answered when it is yielded.

        Args:
            seen: ids answered or being looked at.
            enough: groups that need no more answers.
        """
        seen = set(seen)
        left = {stratum: [i for i in ids if i not in seen] for stratum, ids in self._order.items()}
        shown = {stratum: size - len(left[stratum]) for stratum, size in self.sizes.items()}
        while any(left.values()):
            stratum = min(
                (one for one, ids in left.items() if ids), key=lambda s: self._rank(s, shown, enough)
            )
            shown[stratum] += 1
            yield left[stratum].pop(0)

    def _rank(
        self, stratum: Stratum, shown: Mapping[Stratum, int], enough: Collection[Group]
    ) -> tuple[object, ...]:
        group = stratum.group
        of_group = sum(count for one, count in shown.items() if one.group == group)
        share = (shown[stratum] + 0.5) / self.sizes[stratum]  # 0.5: the largest stratum first
        return group in enough, of_group, group, share, stratum.band


def _shuffled(seed: int, example_id: str) -> bytes:
    return hashlib.sha256(f"{seed}|{example_id}".encode()).digest()
