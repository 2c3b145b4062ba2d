"""Detections of consecutive frames joined into tracks by the best assignment of overlaps."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_FEWEST = 4  # links of a group of which all choices are tried
_FEW = 100  # links; for fewer, plain Python is quicker than a dozen array operations a round


def assign_links(
    first: NDArray[np.int64], second: NDArray[np.int64], value: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose links so that every item has at most one on each side and the summed value is greatest.

    Links that are obvious are taken at once; only groups with a real conflict go to the assignment
    solver, so most scenes cost next to nothing.

    Args:
        first, second: int64 (P,), >= 0, the two ends of each possible link (each pair at most once).
        value: float64 (P,), > 0, what the link is worth.

    Returns:
        int64 (L,), positions of the chosen links, rising.
    """
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    alone = (np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1)
    contested = np.flatnonzero(~alone)
    left, right, worth = first[contested], second[contested], value[contested]
    few = len(contested) <= _FEW
    if not few:  # the arrays of the many go by the number of an end
        left, right = (np.unique(end, return_inverse=True)[1] for end in (left, right))
    found, rest = (_obvious_few if few else _obvious)(left, right, worth)
    chosen = [np.flatnonzero(alone), *(contested[part] for part in found)]
    if len(rest):
        split = _groups_of_few if few else _groups
        for group in split(left[rest], right[rest]):
            members = rest[group]
            chosen.append(contested[members[_best(left[members], right[members], worth[members])]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _obvious(
    left: NDArray[np.int64], right: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Take links that every best assignment may hold, again and again; return them and what is left.

    A link worth at least the next best of both its ends together costs nothing to take: giving it up
    frees both ends for those two at most.
    """
    rest, chosen = np.arange(len(value)), [np.zeros(0, dtype=np.int64)]
    while len(rest):
        others = _best_other(left[rest], value[rest]) + _best_other(right[rest], value[rest])
        taken = rest[value[rest] > others]
        if not len(taken):
            break
        chosen.append(taken)
        used_left = np.zeros(int(left.max()) + 1, dtype=np.bool_)
        used_right = np.zeros(int(right.max()) + 1, dtype=np.bool_)
        used_left[left[taken]] = True
        used_right[right[taken]] = True
        rest = rest[~(used_left[left[rest]] | used_right[right[rest]])]
    return chosen, rest


def _obvious_few(
    left: NDArray[np.int64], right: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return the same as _obvious."""
    ends, worth = (left.tolist(), right.tolist()), value.tolist()
    rest, chosen = list(range(len(worth))), []
    while rest:
        tops = tuple(_two_best(end, worth, rest) for end in ends)
        taken = []
        for link in rest:
            others = 0.0
            for end, top in zip(ends, tops, strict=True):
                best, second = top[end[link]]
                others += second if worth[link] == best else best
            if worth[link] > others:
                taken.append(link)
        if not taken:
            break
        chosen += taken
        used = tuple({end[link] for link in taken} for end in ends)
        rest = [link for link in rest if ends[0][link] not in used[0] and ends[1][link] not in used[1]]
    return [np.array(chosen, dtype=np.int64)], np.array(rest, dtype=np.int64)


def _two_best(end: list[int], worth: list[float], rest: list[int]) -> dict[int, tuple[float, float]]:
    """Return for each end the two greatest values among the links there, 0 where there is one link."""
    top: dict[int, tuple[float, float]] = {}
    for link in rest:
        best, second = top.get(end[link], (0.0, 0.0))
        if worth[link] > best:
            top[end[link]] = worth[link], best
        elif worth[link] > second:
            top[end[link]] = best, worth[link]
    return top


def _best_other(end: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each link the greatest value of another link at the same end, 0 if it is alone."""
    order = np.lexsort((-value, end))
    start = np.flatnonzero(np.diff(end[order], prepend=-1))
    count = np.diff(np.append(start, len(end)))
    best = np.repeat(start, count)
    second = np.where(count > 1, value[order[np.minimum(start + 1, len(end) - 1)]], 0.0)
    out = np.empty(len(end))
    out[order] = np.where(np.arange(len(end)) == best, np.repeat(second, count), value[order[best]])
    return out


def _groups(left: NDArray[np.int64], right: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the positions of the links of each group that competes, rising within a group."""
    size = int(left.max()) + int(right.max()) + 2
    edges = (np.ones(len(left)), (left, int(left.max()) + 1 + right))
    _, group = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
    of_link = group[left]
    order = np.argsort(of_link, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(of_link[order])) + 1)


def _groups_of_few(left: NDArray[np.int64], right: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the same as _groups, in another order."""
    groups: dict[int, list[int]] = {}  # by the number of its first link
    group_of: dict[int, int] = {}  # by end, right ends below zero
    for link, ends in enumerate(zip(left.tolist(), (~right).tolist(), strict=True)):
        met = sorted({group_of[end] for end in ends if end in group_of}) or [link]
        groups.setdefault(met[0], []).append(link)
        for other in met[1:]:
            groups[met[0]] += groups.pop(other)
            group_of.update({end: met[0] for end, group in group_of.items() if group == other})
        group_of.update(dict.fromkeys(ends, met[0]))
    return [np.array(sorted(members)) for members in groups.values()]


def _best(left: NDArray[np.int64], right: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    if len(left) <= _FEWEST:
        return _best_of_all(left.tolist(), right.tolist(), value.tolist())
    rows, row = np.unique(left, return_inverse=True)
    columns, column = np.unique(right, return_inverse=True)
    worth = np.zeros((len(rows), len(columns)))
    link = np.full(worth.shape, -1, dtype=np.int64)
    worth[row, column] = value
    link[row, column] = np.arange(len(left))
    taken = link[linear_sum_assignment(worth, maximize=True)]
    return taken[taken >= 0]


def _best_of_all(left: list[int], right: list[int], value: list[float]) -> NDArray[np.int64]:
    """Return the best of all choices, tried one by one; of equal ones the first."""
    best, chosen = 0.0, tuple[int, ...]()
    for size in range(1, min(len(set(left)), len(set(right))) + 1):
        for links in combinations(range(len(value)), size):
            total = sum(value[link] for link in links)
            if total > best and all(len({end[link] for link in links}) == size for end in (left, right)):
                best, chosen = total, links
    return np.array(chosen, dtype=np.int64)


def tracks_from_links(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return int64 (count,): track number of each item, counted from 0 in the order of first items.

    Args:
        first, second: ends of the links, first < second; every item is at most once a first and once
            a second.
        count: number of items; those without links are tracks of one.
    """
    head = heads_of(first, second, count)
    number = np.cumsum(head == np.arange(count)) - 1
    return np.asarray(number[head], dtype=np.int64)


def heads_of(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the first item of each item's track, (count,), in the whole numbers that ``first`` has.

    Args:
        first, second, count: as in tracks_from_links.
    """
    head = np.arange(count, dtype=first.dtype)
    head[second] = first
    linked = np.asarray(second)
    while len(linked):  # every round doubles the distance looked back
        further = head[head[linked]]
        moved = further != head[linked]
        linked, further = linked[moved], further[moved]
        head[linked] = further
    return head
