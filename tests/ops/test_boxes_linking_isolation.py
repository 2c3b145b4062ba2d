import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.ops import isolation
from hem.ops.box_columns import BoxColumns
from hem.ops.boxes import (
    clip_boxes,
    ioa_matrix,
    iou_matrix,
    overlapping_places,
    paired_iou,
    paired_iou_inclusive,
)
from hem.ops.isolation import expand_ranges, largest_of, overlapping_pairs, overlaps_of, smallest_of
from hem.ops.linking import assign_links, tracks_from_links


def test_iou_by_hand():
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[5.0, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10], [2, 2, 4, 4], [3, 3, 3, 3]])
    np.testing.assert_allclose(iou_matrix(a, b)[0], [1 / 3, 0, 1, 0.04, 0])
    np.testing.assert_allclose(ioa_matrix(b, a)[:, 0], [0.5, 0, 1, 1, 0])
    assert iou_matrix(a[:0], b).shape == (0, 5)
    assert paired_iou(b[4:], b[4:]).tolist() == [0.0]  # no area: no overlap


def test_inclusive_iou_by_hand():
    a, touching = np.array([[0.0, 0, 9, 9]]), np.array([[9.0, 0, 18, 9]])
    assert paired_iou_inclusive(a, touching)[0] == pytest.approx(10 / 190)
    assert paired_iou_inclusive(a, touching + np.array([0.01, 0, 0.01, 0]))[0] == 0
    assert paired_iou_inclusive(a, a)[0] == 1


def test_clip():
    np.testing.assert_array_equal(clip_boxes(np.array([[-3.0, 5, 700, 900]]), 640, 480), [[0, 5, 640, 480]])


def test_ranges():
    owner, value = expand_ranges(np.array([0, 5, 3]), np.array([2, 5, 6]))
    assert owner.tolist() == [0, 0, 2, 2, 2] and value.tolist() == [0, 1, 3, 4, 5]


def test_extremes_of_rows():
    rows, values = np.array([0, 2, 0]), np.array([3.0, 1.0, 2.0])
    assert smallest_of(rows, values, 3, 9.0).tolist() == [2, 9, 1]
    assert largest_of(rows, values, 3, 0.0).tolist() == [3, 0, 1]


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_pairs_are_all_overlaps_within_reach_of_one_class(seed, reach):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 25))
    frame = np.sort(rng.integers(0, 8, count))
    low = rng.integers(0, 20, (count, 2)).astype(float)
    boxes = np.concatenate([low, low + rng.integers(1, 12, (count, 2))], axis=1)
    labels = rng.integers(1, 3, count)
    pairs = overlapping_pairs(frame, boxes, labels, reach)
    got = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.iou, strict=True))
    expected = {}
    for i, j in itertools.permutations(range(count), 2):
        value = float(iou_matrix(boxes[i : i + 1], boxes[j : j + 1])[0, 0])
        if 0 < abs(frame[i] - frame[j]) <= reach and labels[i] == labels[j] and value > 0:
            expected[i, j] = value
    assert got == expected
    assert (pairs.offset == frame[pairs.second] - frame[pairs.first]).all()


@pytest.mark.parametrize("most", [1, 7, 40])
def test_pairs_found_part_by_part_are_the_same_in_the_same_order(monkeypatch, most):
    rng = np.random.default_rng(most)
    frame = np.sort(rng.integers(0, 30, 90))
    low = rng.integers(0, 20, (90, 2)).astype(float)
    boxes = np.concatenate([low, low + rng.integers(1, 12, (90, 2))], axis=1)
    labels = rng.integers(1, 3, 90)
    whole = overlapping_pairs(frame, boxes, labels, 4)
    monkeypatch.setattr(isolation, "_MOST_STORED", most)
    parts = overlapping_pairs(frame, boxes, labels, 4)
    for name in ("first", "second", "offset", "iou"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    order = np.lexsort((whole.second, whole.offset, whole.first))
    assert len(whole) > 100 and (order == np.arange(len(whole))).all()
    rows = np.flatnonzero(rng.uniform(size=90) < 0.6)
    starts = np.searchsorted(frame, np.arange(31))
    some, theirs = overlaps_of(rows, frame, starts, boxes, labels, 4), np.isin(whole.first, rows)
    for name in ("first", "second", "offset", "iou"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[theirs])


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_links_are_the_best_assignment(seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    worth = np.where(rng.random((rows, columns)) < 0.6, rng.random((rows, columns)), 0.0)
    first, second = np.nonzero(worth)
    chosen = assign_links(first, second + 100, worth[first, second])
    assert len(set(first[chosen])) == len(set(second[chosen])) == len(chosen)
    square = np.zeros((5, 5))
    square[:rows, :columns] = worth
    best = max(sum(square[r, c] for r, c in enumerate(order)) for order in itertools.permutations(range(5)))
    assert worth[first[chosen], second[chosen]].sum() == pytest.approx(best)


def test_tracks_are_numbered_by_their_first_item():
    assert tracks_from_links(np.array([1, 3]), np.array([3, 4]), 5).tolist() == [0, 1, 2, 1, 1]
    assert tracks_from_links(np.array([], dtype=int), np.array([], dtype=int), 0).tolist() == []
    assert assign_links(np.array([], dtype=int), np.array([], dtype=int), np.array([])).tolist() == []


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9])
def test_overlapping_places_hold_every_place_that_overlaps(threshold):
    rng = np.random.default_rng(int(threshold * 10))
    inside = 0
    for _ in range(20):
        corner = rng.uniform(0, 40, (1, 2))
        box = np.concatenate([corner, corner + rng.uniform(0, 30, (1, 2))], axis=1)
        sides = np.maximum(1, np.rint((box[0, 2:] - box[0, :2]) * rng.choice([0.5, 1.0, 1.0, 1.6], 2)))
        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-40, 90), np.arange(-40, 90)))
        others = np.stack([x, y, x + sides[0], y + sides[1]], axis=1).astype(np.float64)
        hits = paired_iou_inclusive(others, box) > threshold
        found = np.zeros(len(x), dtype=bool)
        for x0, y0, x1, y1 in overlapping_places(box, sides, threshold):
            found |= (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        assert found[hits].all()
        assert found.sum() < len(x) / 2
        inside += hits.sum()
    assert inside > 0


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_overlaps_by_columns_are_those_row_by_row_to_the_last_bit(seed, inclusive):
    """Boxes on a coarse grid: many touch, some have no width, some lie apart by less than a pixel."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (2, 40, 2)) / 2
    sides = np.concatenate([low, low + rng.integers(0, 12, (2, 40, 2)) / 2], axis=2)
    rows, others = rng.integers(0, 40, (2, 200))
    expected = (paired_iou_inclusive if inclusive else paired_iou)(sides[0][rows], sides[1][others])
    ours, theirs = (BoxColumns(boxes, inclusive=inclusive) for boxes in sides)
    at, iou = ours.overlaps(rows, theirs, others)
    np.testing.assert_array_equal(at, np.flatnonzero(expected > 0))
    np.testing.assert_array_equal(iou, expected[at])
