"""The best links at any score threshold, with every conflict solved once and remembered."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hem.ops.linking import assign_links

_LARGEST = 48  # links; the answers of a larger group would take too much room, so it is solved anew


class LinksByScore:
    """Answers ``assign_links`` on the links whose two ends reach a score, for one score after another.

    Links that share no end do not compete, so the answer falls apart into groups. Within a group it
    depends only on how many of its links, from the strongest down, are there: each such case is solved
    when it first occurs. A sweep over hundreds of thresholds solves a few cases a group.

    Args:
        first, second: whole numbers (P,), the two ends of each possible link (each pair at most once).
        value: float64 (P,), > 0, what the link is worth.
        strength: float64 (P,), the lower score of its two ends.
    """

    def __init__(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        value: NDArray[np.float64],
        strength: NDArray[np.float64],
    ) -> None:
        self.first, self.second = first, second
        alone = _alone(first, second)
        self._alone = np.where(alone, strength, np.nan)  # by position; no score reaches NaN
        rest = np.flatnonzero(~alone)
        group = _groups(first[rest], second[rest])
        size = np.bincount(group, minlength=1)[group]
        self._large = _Links(rest[size > _LARGEST], strength, value)
        group, some = group[size <= _LARGEST], rest[size <= _LARGEST]
        order = np.lexsort((some, -strength[some], group))
        self._some = _Links(some[order], strength, value)
        of_group = group[order]
        self._start = np.flatnonzero(np.diff(of_group, prepend=-1))
        self._size = np.diff(np.append(self._start, len(of_group)))
        self._number = np.repeat(np.arange(len(self._start)), self._size)
        # answers: for each group a square of bools, row k - 1 for the k strongest links
        self._base = np.cumsum(self._size**2) - self._size**2
        self._answers = np.zeros(int((self._size**2).sum()), dtype=np.bool_)
        self._solved = np.zeros(len(of_group), dtype=np.bool_)
        self._position = np.arange(len(of_group)) - self._start[self._number]
        self._cell = self._base[self._number] + self._position - self._size[self._number]

    def at_least(self, score: float) -> NDArray[np.int64]:
        """Return whole numbers (L,), positions of the chosen links, in no particular order."""
        found = [np.flatnonzero(self._alone >= score)]
        if len(self._start):
            there = np.add.reduceat((self._some.strength >= score).astype(np.int64), self._start)
            missing = np.flatnonzero(~self._solved[self._start + there - 1] & (there > 0))
            if len(missing):
                self._solve(missing, there[missing])
            count = there[self._number]
            taken = count > 0
            taken[taken] = self._answers[(self._cell + count * self._size[self._number])[taken]]
            found.append(self._some.at[taken])
        if len(self._large.at):
            here = self._large.strength >= score
            at, value = self._large.at[here], self._large.value[here]
            found.append(at[assign_links(self.first[at], self.second[at], value)])
        return np.concatenate(found)

    def _solve(self, groups: NDArray[np.int64], there: NDArray[np.int64]) -> None:
        """Solve several groups at once: copies with ends of their own do not compete."""
        owner = np.repeat(groups, there)
        sorted_at = np.arange(len(owner)) - np.repeat(np.cumsum(there) - there, there) + self._start[owner]
        at = self._some.at[sorted_at]
        order = np.lexsort((at, owner))  # the order that assign_links would see them in
        sorted_at, at, owner = sorted_at[order], at[order], owner[order]
        chosen = assign_links(self.first[at], self.second[at], self._some.value[sorted_at])
        row = np.zeros(len(self._start), dtype=np.int64)
        row[groups] = there
        picked = sorted_at[chosen]
        self._answers[self._cell[picked] + (row * self._size)[owner[chosen]]] = True
        self._solved[self._start[groups] + there - 1] = True


class _Links:
    """Positions of some links, their strengths and their values."""

    def __init__(
        self, at: NDArray[np.int64], strength: NDArray[np.float64], value: NDArray[np.float64]
    ) -> None:
        self.at, self.strength, self.value = at, strength[at], value[at]


def _alone(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool (P,): links whose ends have no other link, which most are."""
    return np.asarray((np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1))


def _groups(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64 (P,): equal for links that compete, directly or through others."""
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    left, right = int(first.max()) + 1, int(second.max()) + 1
    edges = coo_matrix((np.ones(len(first)), (first, left + second)), shape=(left + right, left + right))
    _, group = connected_components(edges, directed=False)
    return np.asarray(group[first], dtype=np.int64)
