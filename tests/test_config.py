import pytest

from hem.config import ArmConfig, EvaluationConfig, OptimConfig, ReplayConfig, StageConfig, TrainConfig, check
from hem.errors import HemError


def test_an_arm_has_both_mining_and_kinds_or_neither() -> None:
    assert ArmConfig().mining is None
    for wrong in ({"mining": "hem"}, {"kinds": ["pseudo_label"]}):
        with pytest.raises(HemError, match="both mining and kinds"):
            check(ArmConfig, wrong)


@pytest.mark.parametrize(
    ("schema", "values", "words"),
    [
        (ReplayConfig, {"share": 1.0}, "share"),
        (ReplayConfig, {"decay": 0.0}, "decay"),
        (OptimConfig, {"lr": 0}, "lr"),
        (OptimConfig, {"name": "adam"}, "name"),
        (StageConfig, {"steps": 0}, "steps"),
        (StageConfig, {}, "key 'steps' is missing"),
        (StageConfig, {"steps": 1, "optim": {"learning_rate": 1}}, "unknown key 'optim.learning_rate'"),
    ],
)
def test_ranges_and_names_are_checked(schema, values, words) -> None:
    with pytest.raises(HemError, match=words):
        check(schema, values)


def test_no_setting_says_an_overlap_that_is_not_measured_with() -> None:
    with pytest.raises(HemError, match="unknown key 'iou'"):
        check(EvaluationConfig, {"iou": 0.75})
    assert check(EvaluationConfig, {"iou": 0.5, "batch_size": 4}).model_dump() == {
        **EvaluationConfig().model_dump(),
        "batch_size": 4,
    }


def test_values_at_the_ends_of_their_ranges_are_legal() -> None:
    assert check(ReplayConfig, {"share": 0.0, "decay": 1.0}).share == 0.0
    assert check(OptimConfig, {"final_lr_scale": 1.0, "warmup_steps": 0}).warmup_steps == 0


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(HemError) as caught:
        check(TrainConfig, {"name": "a b", "seed": -1})
    for key in ("name", "seed", "output_dir", "trainer"):
        assert key in str(caught.value)
