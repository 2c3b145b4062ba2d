"""Detections of consecutive frames joined into tracks by the best assignment of overlaps."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def assign_links(
    first: NDArray[np.int64], second: NDArray[np.int64], value: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose links so that every item has at most one on each side and the summed value is greatest.

    Links that are obvious are taken at once; only groups with a real conflict go to the assignment
    solver, so most scenes cost next to nothing.

    Args:
        first, second: int64 (P,), the two ends of each possible link (each pair at most once).
        value: float64 (P,), > 0, what the link is worth.

    Returns:
        int64 (L,), positions of the chosen links, rising.
    """
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    _, left = np.unique(first, return_inverse=True)
    _, right = np.unique(second, return_inverse=True)
    chosen, rest = _obvious(left, right, value)
    if len(rest):
        size = int(left.max()) + int(right.max()) + 2
        edges = (np.ones(len(rest)), (left[rest], int(left.max()) + 1 + right[rest]))
        _, group = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
        of_link = group[left[rest]]
        order = np.argsort(of_link, kind="stable")
        bounds = np.flatnonzero(np.diff(of_link[order])) + 1
        for members in np.split(rest[order], bounds):
            chosen.append(members[_best(left[members], right[members], value[members])])
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


def _best(left: NDArray[np.int64], right: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    if len(left) == 2:  # two links that share an end
        return np.array([int(value[1] > value[0])])
    rows, row = np.unique(left, return_inverse=True)
    columns, column = np.unique(right, return_inverse=True)
    worth = np.zeros((len(rows), len(columns)))
    link = np.full(worth.shape, -1, dtype=np.int64)
    worth[row, column] = value
    link[row, column] = np.arange(len(left))
    taken = link[linear_sum_assignment(worth, maximize=True)]
    return taken[taken >= 0]


def tracks_from_links(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return int64 (count,): track number of each item, counted from 0 in the order of first items.

    Args:
        first, second: ends of the links; every item is at most once a first and once a second.
        count: number of items; those without links are tracks of one.
    """
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    _, group = connected_components(links, directed=False)
    _, where, inverse = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(where), dtype=np.int64)
    rank[np.argsort(where)] = np.arange(len(where))
    return rank[inverse] if count else np.zeros(0, dtype=np.int64)
