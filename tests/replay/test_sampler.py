import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hem.errors import HemError
from hem.replay import MixedBatches

WEIGHTS = [1.0, 0.0, 2.0, 5.0]


def epoch_of(batches, epoch=0):
    return [batches.batch(epoch, k) for k in range(len(batches))]


def test_pure_function_of_seed_round_epoch_k():
    first = MixedBatches(10, 3, WEIGHTS, seed=4, round_index=2)
    second = MixedBatches(10, 3, WEIGHTS, seed=4, round_index=2)
    backwards = [second.batch(1, k) for k in reversed(range(3))][::-1]
    assert epoch_of(first, 1) == backwards
    for other in (
        MixedBatches(10, 3, WEIGHTS, seed=5, round_index=2),
        MixedBatches(10, 3, WEIGHTS, seed=4, round_index=3),
    ):
        assert [b.replay for b in epoch_of(other, 1)] != [b.replay for b in backwards]
    assert epoch_of(first, 0) != backwards


def test_labelled_stream_is_the_same_for_every_arm():
    arms = [
        MixedBatches(11, 4, (), seed=3),
        MixedBatches(11, 4, WEIGHTS, seed=3, share=0.25),
        MixedBatches(11, 4, [1.0] * 99, seed=3, share=0.8, round_index=7),
    ]
    streams = [[b.labelled for e in range(3) for b in epoch_of(arm, e)] for arm in arms]
    assert streams[0] == streams[1] == streams[2]


def test_each_labelled_image_once_an_epoch():
    batches = MixedBatches(12, 4)
    for epoch in (0, 1):
        indices = [index for b in epoch_of(batches, epoch) for index, _ in b.labelled]
        assert sorted(indices) == list(range(12))
    assert epoch_of(batches, 0) != epoch_of(batches, 1)


@pytest.mark.parametrize(("n", "batch", "expected"), [(1, 1, 1), (3, 4, 1), (4, 4, 1), (7, 4, 1), (8, 4, 2)])
def test_batches_per_epoch(n, batch, expected):
    batches = MixedBatches(n, batch)
    assert len(batches) == expected
    plans = epoch_of(batches)
    assert all(len(plan.labelled) == batch for plan in plans)


def test_more_batches_than_images_go_round():
    batches = MixedBatches(3, 2, batches_per_epoch=6)
    indices = [index for b in epoch_of(batches) for index, _ in b.labelled]
    assert [sorted(indices[i : i + 3]) for i in range(0, 12, 3)] == [[0, 1, 2]] * 4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.floats(0, 0.9), st.integers(1, 40))
def test_share_is_kept_over_an_epoch(batch, share, n_batches):
    batches = MixedBatches(50, batch, [1.0, 2.0], share, batches_per_epoch=n_batches)
    counts = [len(b.replay) for b in epoch_of(batches)]
    rate = batch * share / (1 - share)
    assert abs(sum(counts) - rate * n_batches) <= 1
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("share", "counts"), [(0.5, {4}), (0, {0}), (0.2, {1}), (2 / 3, {8}), (1 / 3, {2})])
def test_whole_shares_are_the_same_in_every_batch(share, counts):
    batches = MixedBatches(4000, 4, [1.0], share)
    assert {len(b.replay) for b in epoch_of(batches)} == counts


@pytest.mark.parametrize("weights", [[], [0.0, 0.0]])
def test_no_replay_without_weights(weights):
    assert all(plan.replay == () for plan in epoch_of(MixedBatches(8, 2, weights)))


def test_weights_are_respected():
    batches = MixedBatches(1000, 10, WEIGHTS, seed=11)
    drawn = [index for b in epoch_of(batches) for index, _ in b.replay]
    counts = np.bincount(drawn, minlength=4)
    assert counts[1] == 0
    expected = np.array([1, 2, 5]) / 8 * len(drawn)
    assert len(drawn) == 1000
    assert chisquare(counts[[0, 2, 3]], expected).pvalue > 0.01
    flat = np.full(3, len(drawn) / 3)  # the test would notice weights that are not used
    assert chisquare(counts[[0, 2, 3]], flat).pvalue < 1e-6


def test_last_image_of_weight_zero_is_never_drawn():
    batches = MixedBatches(3000, 10, [1e-12, 0.0])
    assert {index for b in epoch_of(batches) for index, _ in b.replay} == {0}


def test_augmentation_seeds_differ_and_are_in_range():
    batches = MixedBatches(400, 4, WEIGHTS)
    seeds = [seed for b in epoch_of(batches) for _, seed in (*b.labelled, *b.replay)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0 and max(seeds) < 2**31
    assert all(type(seed) is int for seed in seeds)


def test_resume_counts_consumed_not_yielded():
    straight = MixedBatches(20, 2, WEIGHTS, seed=1)
    whole = epoch_of(straight, 0) + epoch_of(straight, 1)
    running = MixedBatches(20, 2, WEIGHTS, seed=1)
    prefetching = iter(running)
    seen = [next(prefetching) for _ in range(7)][:4]  # seven were fetched, four trained on
    running.advance(4)
    resumed = MixedBatches(20, 2, WEIGHTS, seed=1)
    resumed.load_state_dict(running.state_dict())
    for _ in range(2):
        for plan in resumed:
            seen.append(plan)
            resumed.advance()
    assert seen == whole
    assert (resumed.epoch, resumed.consumed) == (2, 0)


def test_set_epoch_keeps_the_place_within_the_same_epoch():
    batches = MixedBatches(20, 2)
    batches.advance(3)
    batches.set_epoch(0)
    assert batches.consumed == 3
    batches.set_epoch(1)
    assert (batches.epoch, batches.consumed) == (1, 0)


def test_new_round_changes_replay_only():
    batches = MixedBatches(20, 2, [1.0], seed=1)
    before = epoch_of(batches, 1)
    batches.use_round([1.0, 1.0, 1.0], 1)
    after = epoch_of(batches, 1)
    assert [b.labelled for b in before] == [b.labelled for b in after]
    assert {index for b in after for index, _ in b.replay} == {0, 1, 2}


@pytest.mark.parametrize("change", [{"seed": 2}, {"share": 0.25}, {"round_index": 1}, {"labelled_batch": 4}])
def test_resume_of_another_stream_is_refused(change):
    saved = MixedBatches(20, 2, WEIGHTS, seed=1).state_dict()
    other = MixedBatches(
        **{"n_labelled": 20, "labelled_batch": 2, "replay_weights": WEIGHTS, "seed": 1} | change
    )
    with pytest.raises(HemError, match=next(iter(change))):
        other.load_state_dict(saved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_labelled": 0}, "at least one"),
        ({"labelled_batch": 0}, "labelled_batch"),
        ({"batches_per_epoch": 0}, "batches_per_epoch"),
        ({"share": 1.0}, "share"),
        ({"share": -0.1}, "share"),
        ({"seed": -1}, "seed"),
        ({"round_index": -1}, "round"),
        ({"replay_weights": [-1.0]}, "weights"),
        ({"replay_weights": [float("nan")]}, "weights"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(HemError, match=message):
        MixedBatches(**{"n_labelled": 4, "labelled_batch": 2, **arguments})


def test_batch_and_advance_out_of_range():
    batches = MixedBatches(4, 2)
    with pytest.raises(HemError, match="no batch 2"):
        batches.batch(0, 2)
    with pytest.raises(HemError, match="no batch -1"):
        batches.batch(0, -1)
    with pytest.raises(HemError, match="3 batches consumed"):
        batches.advance(3)
