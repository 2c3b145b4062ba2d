"""The interval holds the truth as often as it says, and is a point when everything was looked at."""

import itertools

import numpy as np
import pytest

from hem.ops.intervals import wilson
from hem.reviewing.purity import purities, purities_by_kind, stratified_interval
from hem.reviewing.sample import Sample
from hem.structures import Answer, Kind

R, W, U = Answer.RIGHT, Answer.WRONG, Answer.UNSURE


def test_wilson_by_hand_and_at_its_ends():
    low, high = wilson(0.8, 10)  # the textbook case: 8 of 10
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0.0, 5)[0] == 0.0 and wilson(1.0, 5)[1] == 1.0
    assert wilson(1.0, 5)[0] < 1.0
    assert wilson(0.3, float("inf")) == (0.3, 0.3)


def test_one_stratum_of_a_large_set_is_plain_wilson():
    share, interval = stratified_interval([(10**9, 8, 10)])
    assert share == 0.8
    assert interval == pytest.approx(wilson(0.8, 10), abs=1e-6)


def test_strata_are_weighed_by_size():
    share, _ = stratified_interval([(900, 10, 10), (100, 0, 10)])
    assert share == pytest.approx(0.9)
    share, interval = stratified_interval([(900, 10, 10), (100, 0, 0)])
    assert share == 1.0 and interval is not None and interval[0] < 0.9
    assert stratified_interval([(10, 0, 0)]) == (None, None)


def test_all_looked_at_is_known_exactly():
    share, interval = stratified_interval([(4, 3, 4), (2, 0, 2)])
    assert share == pytest.approx(0.5)
    assert interval == (share, share)
    share, interval = stratified_interval([(4, 4, 4), (2, 0, 0)])
    assert interval is not None and interval[1] - interval[0] > 0.1  # the other stratum was never seen


def test_counts_unsure_and_enough(examples):
    mined = examples(30)
    sample = Sample(mined)
    ids = list(sample.upcoming(()))
    (empty,) = purities(sample, {}, 0.1)
    assert (empty.purity, empty.low, empty.enough, empty.mined) == (None, None, False, 30)
    assert 20 <= empty.missing <= 30
    (part,) = purities(sample, {ids[0]: R, ids[1]: W, ids[2]: U, "not here": W}, 0.1)
    assert (part.right, part.wrong, part.unsure, part.enough) == (1, 1, 1, False)
    (whole,) = purities(sample, dict.fromkeys(ids[:29], R) | {ids[29]: U}, 0.1)
    assert (whole.purity, whole.low, whole.high, whole.enough, whole.missing) == (1.0, 1.0, 1.0, True, 0)
    (all_unsure,) = purities(sample, dict.fromkeys(ids, U), 0.1)
    assert all_unsure.enough and all_unsure.purity is None


def test_the_number_missing_is_about_right(examples):
    sample = Sample(examples(5000))
    ids = list(itertools.islice(sample.upcoming(()), 400))
    answers = {one: W if k % 5 == 4 else R for k, one in enumerate(ids[:60])}
    (now,) = purities(sample, answers, 0.12)
    assert not now.enough
    more = {one: W if k % 5 == 4 else R for k, one in enumerate(ids[: 60 + now.missing])}
    (then,) = purities(sample, more, 0.12)
    assert then.high - then.low == pytest.approx(0.12, abs=0.01)


def test_kinds_gather_their_rules(examples):
    sample = Sample(examples(90) + examples(10, rule="paper", first=500))
    answers = {e: R for e in sample.strata if sample.strata[e].group.rule == "hem"}
    answers |= {e: W for e in sample.strata if sample.strata[e].group.rule == "paper"}
    (kind,) = purities_by_kind(sample, answers, 0.1)
    assert kind.rule is None and kind.purity == pytest.approx(0.9) and kind.kind is Kind.HARD_NEGATIVE


def test_the_interval_covers_the_truth():
    """Over many made-up sets whose purity differs between strata, at least 93 % of intervals hold it."""
    random = np.random.default_rng(0)
    held, widths, runs = 0, [], 2000
    for _ in range(runs):
        sizes = random.integers(20, 200, 3)
        right = random.binomial(sizes, np.linspace(random.uniform(0.3, 1), random.uniform(0.6, 1), 3))
        answered = np.maximum(1, (sizes * random.uniform(0.05, 0.6)).astype(int))
        found = random.hypergeometric(right, sizes - right, answered)
        rows = [(int(n), int(r), int(k)) for n, r, k in zip(sizes, found, answered, strict=True)]
        _, (low, high) = stratified_interval(rows)
        held += low <= right.sum() / sizes.sum() <= high
        widths.append(high - low)
    assert held / runs >= 0.94
    assert np.mean(widths) < 0.2  # and it says something
