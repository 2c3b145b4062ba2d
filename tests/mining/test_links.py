"""Remembered links are those that the assignment gives afresh, at every score."""

import numpy as np
import pytest

from hem.mining import links as links_module
from hem.mining.links import LinksByScore
from hem.ops import linking
from hem.ops.boxes import paired_intersection
from hem.ops.isolation import overlaps_in_frame
from hem.ops.linking import assign_links, heads_of, tracks_from_links


def random_links(rng, ends, count):
    pairs = np.unique(rng.integers(0, ends, (count, 2)), axis=0)
    worth = rng.choice([0.2, 0.4, 0.5, 0.7], len(pairs)) + rng.choice([0.0, 0.01], len(pairs))
    return pairs[:, 0], pairs[:, 1] + ends, worth, rng.choice(np.linspace(0, 1, 7), len(pairs))


@pytest.mark.parametrize("largest", [1, 3, 48])
@pytest.mark.parametrize("seed", range(6))
def test_links_at_every_score_equal_a_fresh_assignment(seed, largest, monkeypatch):
    monkeypatch.setattr(links_module, "_LARGEST", largest)
    rng = np.random.default_rng(seed)
    first, second, worth, strength = random_links(rng, 30, 45)
    links = LinksByScore(first, second, worth, strength)
    for score in rng.permutation(np.concatenate([np.linspace(-0.1, 1.1, 13)] * 2)):
        there = np.flatnonzero(strength >= score)
        fresh = there[assign_links(first[there], second[there], worth[there])]
        assert sorted(links.at_least(score).tolist()) == fresh.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_few_and_many_links_are_assigned_alike(seed, monkeypatch):
    first, second, worth, _ = random_links(np.random.default_rng(seed), 12, 40)
    few = assign_links(first, second, worth)
    monkeypatch.setattr(linking, "_FEW", -1)
    assert assign_links(first, second, worth).tolist() == few.tolist()


def test_heads_of_long_and_broken_tracks():
    chain = np.arange(100)
    assert (heads_of(chain[:-1], chain[1:], 100) == 0).all()
    assert heads_of(np.array([3, 1]), np.array([4, 3]), 6).tolist() == [0, 1, 2, 1, 1, 5]
    assert tracks_from_links(np.array([3, 1]), np.array([4, 3]), 6).tolist() == [0, 1, 2, 1, 1, 3]


@pytest.mark.parametrize("most", [1, 7, 2_000_000])
def test_overlaps_in_a_frame_do_not_depend_on_how_many_are_compared_at_once(most, monkeypatch):
    monkeypatch.setattr("hem.ops.isolation._MOST_STORED", most)
    rng = np.random.default_rng(0)
    frame = np.sort(rng.integers(0, 5, 30))
    corner = rng.uniform(0, 30, (30, 2))
    boxes, scores = np.concatenate([corner, corner + 12], axis=1), rng.choice([0.2, 0.5, 0.9], 30)
    own, surer, common = overlaps_in_frame(frame, boxes, scores)
    expected = [
        (i, j)
        for i in range(30)
        for j in range(30)
        if frame[i] == frame[j] and scores[j] > scores[i] and paired_intersection(boxes[i], boxes[j]) > 0
    ]
    assert list(zip(own.tolist(), surer.tolist(), strict=True)) == expected and expected
    np.testing.assert_array_equal(common, paired_intersection(boxes[own], boxes[surer]))
