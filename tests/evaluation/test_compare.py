import numpy as np
import pytest
from scipy import stats

from hem.errors import HemError
from hem.evaluation.compare import (
    arm_differences,
    bootstrap_difference,
    compare_seeds,
    difference,
    paired_difference,
)


def test_paired_difference_is_the_paired_t_interval():
    arm, control = [0.52, 0.61, 0.55, 0.60, 0.58], [0.50, 0.57, 0.54, 0.55, 0.56]
    result = paired_difference(arm, control)
    expected = stats.ttest_rel(arm, control).confidence_interval(0.95)
    assert (result.low, result.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert result.mean == pytest.approx(0.028) and result.n == 5 and result.clear_of_zero
    assert result.sd == pytest.approx(np.std([0.02, 0.04, 0.01, 0.05, 0.02], ddof=1))


def test_none_aware_and_small():
    assert paired_difference([], []).mean is None
    one = paired_difference([1.0, None, 2.0], [0.5, 1.0, None])
    assert (one.mean, one.sd, one.low, one.n, one.dropped) == (0.5, None, None, 1, 2)
    assert not one.clear_of_zero
    with pytest.raises(HemError, match="cannot be paired"):
        paired_difference([1.0], [])
    assert difference(None, 1.0) is None and difference(1.0, 3.0) == -2.0


def test_same_values_give_a_point_interval():
    result = paired_difference([2.0, 3.0], [1.0, 2.0])
    assert result.sd == 0 and result.low == result.high == 1.0
    assert not paired_difference([1.0, 2.0], [1.0, 2.0]).clear_of_zero


def test_relative_difference():
    result = paired_difference([70.0, 30.0, 5.0], [100.0, 60.0, 0.0], relative=True)
    assert result.mean == pytest.approx(-0.4) and result.dropped == 1


def test_arm_differences_of_one_seed():
    arms = {
        "continued": {"AP": 0.5, "recall": None, "per_class": {"a": 1}},
        "flickers": {"AP": 0.6, "recall": 0.5, "flag": True, "extra": 1.0},
    }
    assert arm_differences(arms, "continued") == {
        "flickers": {"AP": pytest.approx(0.1), "recall": None, "extra": None}
    }
    with pytest.raises(HemError, match="control 'x'"):
        arm_differences(arms, "x")


def test_compare_seeds():
    runs = [
        {"continued": {"AP": 0.5, "fa": None}, "flickers": {"AP": 0.6, "fa": 3.0}},
        {"continued": {"AP": 0.4, "fa": 2.0}, "flickers": {"AP": 0.6, "fa": 1.0}},
        {"continued": {"AP": 0.4, "fa": 2.0}},
    ]
    result = compare_seeds(runs, "continued")
    assert result["flickers"]["AP"].mean == pytest.approx(0.15)
    assert result["flickers"]["AP"].n == 2 and result["flickers"]["AP"].dropped == 1
    assert result["flickers"]["fa"].mean == -1.0 and result["flickers"]["fa"].low is None
    with pytest.raises(HemError, match="run 0 has no arm"):
        compare_seeds(runs, "control")


def test_bootstrap_over_videos():
    arm, control = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 1.5, 2.0, 4.0])
    result = bootstrap_difference(lambda r: float(arm[r].mean()), lambda r: float(control[r].mean()), 4)
    assert result.mean == pytest.approx(0.5) and result.n == 1000
    assert 0 <= result.low < 0.5 < result.high <= 1.0
    again = bootstrap_difference(lambda r: float(arm[r].mean()), lambda r: float(control[r].mean()), 4)
    assert again == result
    part = bootstrap_difference(lambda r: 1.0 if 0 in r else None, lambda r: 0.0, 4)
    assert part.mean == 1.0 and 0 < part.dropped < 1000 and part.n + part.dropped == 1000
    assert bootstrap_difference(lambda r: 1.0, lambda r: 0.0, 1).low is None
    assert bootstrap_difference(lambda r: None, lambda r: 0.0, 3).mean is None
    assert bootstrap_difference(lambda r: 1.0, lambda r: 0.0, 0).mean is None
