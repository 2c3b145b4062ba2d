"""Settings become thresholds: raw, counted from the top, or calibrated on labels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hem.errors import HemError
from hem.mining.score_scale import ScaleKind, ScoreScale

INF = float("inf")


def test_raw_is_the_score_itself_of_any_range():
    scale = ScoreScale.raw()
    assert [scale.threshold(value) for value in (0.0, 0.7, 1.0, 139.0, -0.8)] == [0.0, 0.7, 1.0, 139.0, -0.8]
    assert scale.settings_of([0.3, -2.0]).tolist() == [0.3, -2.0]
    assert scale.resolves(0.0)
    with pytest.raises(HemError, match="finite"):
        scale.threshold(float("nan"))


def test_quantile_by_hand():
    # 2 frames, 10 a frame at 0: 0.8 admits the four highest, 0.95 the highest, above that none
    scale = ScoreScale.quantile(np.arange(30) / 10, 2)
    assert scale.threshold(0.8) == pytest.approx(2.6)
    assert scale.threshold(0.9) == pytest.approx(2.8)
    assert scale.threshold(0.95) == pytest.approx(2.9)
    assert scale.threshold(0.951) == INF
    assert scale.threshold(1.0) == INF
    assert scale.threshold(0.0) == pytest.approx(1.0)


def test_rounding_in_floating_point_takes_no_detection_away():
    # (1 - 0.8) * 10 is just below 2
    assert ScoreScale.quantile([5.0, 4.0, 3.0], 1).threshold(0.8) == 4.0


@pytest.mark.parametrize("setting", [-0.01, 1.01, float("nan"), INF])
def test_settings_outside_the_unit_interval_are_refused(setting):
    with pytest.raises(HemError, match="setting"):
        ScoreScale.quantile([1.0], 1).threshold(setting)


def test_all_of_a_tie_pass():
    scores = np.array([0.9] * 5 + [0.1] * 20)
    threshold = ScoreScale.quantile(scores, 1).threshold(0.8)
    assert threshold == 0.9 and (scores >= threshold).sum() == 5


def test_the_collecting_floor_changes_nothing_until_it_is_reached():
    rng = np.random.default_rng(0)
    scores = rng.random(400)
    whole = ScoreScale.quantile(scores, 20, floor_score=0.0)
    kept = scores[scores >= 0.6]
    part = ScoreScale.quantile(kept, 20, floor_score=0.6)
    for setting in np.linspace(0, 1, 101):
        if part.resolves(setting):
            assert part.threshold(setting) == whole.threshold(setting)
        else:
            assert part.threshold(setting) == 0.6 and whole.threshold(setting) < 0.6
    assert not part.resolves(0.0) and part.resolves(0.5) and whole.resolves(0.0)


def test_fewer_than_asked_for_with_nothing_dropped_all_pass():
    scale = ScoreScale.quantile([3.0, -1.0], 1)
    assert scale.threshold(0.0) == -INF and scale.resolves(0.0)
    assert ScoreScale.quantile([3.0, -1.0], 1, floor_score=-1.0).threshold(0.0) == -1.0


def test_an_empty_pool():
    scale = ScoreScale.quantile([], 7, floor_score=0.05)
    assert scale.threshold(0.5) == 0.05 and scale.threshold(1.0) == INF
    assert scale.settings_of([0.4]).tolist() == pytest.approx([1 - 1 / 70])
    assert scale.settings_of([]).shape == (0,)


def test_quantile_ignores_order_and_follows_any_rising_map():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=300)
    scale = ScoreScale.quantile(scores, 30)
    other = ScoreScale.quantile(np.exp(scores[::-1]), 30)
    for setting in (0.0, 0.3, 0.85, 0.99):
        assert np.exp(scale.threshold(setting)) == pytest.approx(other.threshold(setting))


@pytest.mark.parametrize(
    "bad",
    [
        {"scores": [0.1, np.nan]},
        {"n_frames": 0},
        {"per_frame": 0.0},
        {"floor_score": 0.5},
    ],
)
def test_quantile_refuses(bad):
    given_ = {"scores": [0.1], "n_frames": 1, **bad}
    with pytest.raises(HemError, match="score scale"):
        ScoreScale.quantile(given_.pop("scores"), given_.pop("n_frames"), **given_)


def test_calibrated_by_hand():
    # groups of two from the top: {5,4} both right, {3,2} one right, {1,0} none
    scale = ScoreScale.calibrated([5, 4, 3, 2, 1, 0], [1, 1, 1, 0, 0, 0], min_count=2)
    assert scale.scores.tolist() == [0, 2, 4] and scale.values.tolist() == [0.0, 0.5, 1.0]
    assert scale.threshold(0.0) == -INF
    assert scale.threshold(0.01) == 2 and scale.threshold(0.5) == 2
    assert scale.threshold(0.51) == 4 and scale.threshold(1.0) == 4
    assert scale.settings_of([9, 4, 3.9, 2, 1, -7]).tolist() == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


def test_violators_are_pooled():
    # shares from the lowest: 0, 1, 0.5, 1 -> 0, 0.75, 0.75, 1
    truth = [1, 1, 1, 0, 1, 1, 0, 0]
    scale = ScoreScale.calibrated([8, 7, 6, 5, 4, 3, 2, 1], truth, min_count=2)
    assert scale.values.tolist() == [0.0, 0.75, 1.0] and scale.scores.tolist() == [1, 3, 7]


def test_a_precision_that_no_score_reaches_admits_nothing():
    scale = ScoreScale.calibrated(np.arange(40.0), [0, 1] * 20, min_count=10)
    assert scale.threshold(0.5) == 0.0 and scale.threshold(0.6) == INF


def test_ties_stay_together_and_leftovers_join_the_lowest_group():
    scale = ScoreScale.calibrated([1.0] * 7 + [0.5], [1] * 6 + [0, 0], min_count=3)
    assert scale.scores.tolist() == [0.5] and scale.values.tolist() == [0.75]
    same = ScoreScale.calibrated([2.0] * 5, [1, 1, 0, 0, 0], min_count=2)
    assert same.threshold(0.4) == 2.0 and same.threshold(0.41) == INF


def test_low_scores_do_not_move_the_groups_above():
    rng = np.random.default_rng(2)
    scores = np.sort(rng.random(500))[::-1]
    truth = rng.random(500) < scores
    whole = ScoreScale.calibrated(scores, truth)
    part = ScoreScale.calibrated(scores[:300], truth[:300])
    assert whole.threshold(0.8) == part.threshold(0.8)


def test_too_few_labels_are_refused_with_a_way_out():
    with pytest.raises(HemError, match="score_scale=quantile"):
        ScoreScale.calibrated([], [])
    with pytest.raises(HemError, match="19 validation detections"):
        ScoreScale.calibrated(np.arange(19), np.ones(19))
    ScoreScale.calibrated(np.arange(20), np.ones(20))
    with pytest.raises(HemError, match="one length"):
        ScoreScale.calibrated([1.0, 2.0], [True], min_count=1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_every_scale_rises_and_its_inverse_agrees(rows, min_count, frames):
    scores = np.array([float(score) for score, _ in rows])
    truth = np.array([right for _, right in rows])
    scales = [ScoreScale.quantile(scores, frames, per_frame=3.0)]
    if len(scores) >= min_count:
        calibrated = ScoreScale.calibrated(scores, truth, min_count=min_count)
        assert np.all(np.diff(calibrated.values) > 0) and np.all(np.diff(calibrated.scores) > 0)
        scales.append(calibrated)
    for scale in scales:
        steps = np.linspace(0, 1, 41)
        thresholds = [scale.threshold(step) for step in steps]
        assert all(a <= b for a, b in itertools.pairwise(thresholds))
        own = scale.settings_of(scores)
        for score, setting in zip(scores, own, strict=True):
            assert 0 <= setting <= 1
            assert setting == 0 or score >= scale.threshold(setting)
            passed = [step for step in steps if score >= scale.threshold(step)]
            assert all(step <= setting + 1e-8 for step in passed)


def test_a_stored_scale_comes_back():
    for scale in (
        ScoreScale.raw(),
        ScoreScale.quantile([0.1, 0.9], 3, floor_score=0.05),
        ScoreScale.quantile([0.1], 3),
        ScoreScale.calibrated([1.0, 2.0], [0, 1], min_count=1),
    ):
        again = ScoreScale.from_dict(scale.to_dict())
        assert again.kind is ScaleKind(scale.kind) and again.to_dict() == scale.to_dict()
        assert again.threshold(0.5) == scale.threshold(0.5)
