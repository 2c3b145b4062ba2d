"""What cannot work is found when the parts of an experiment are built, before anything is made of them."""

from pathlib import Path

import pytest

from hem.building import build_parts
from hem.compose import conf_dir, plain
from hem.config import TrainConfig, check
from hem.errors import HemError


def build(folder: Path, *settings: str) -> None:
    from hydra import compose, initialize_config_dir

    names = {"output_dir": "run", "store_dir": "store", "data.root": "world"}
    places = [f"{key}={folder / name}" for key, name in names.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = plain(compose("train", ["+experiment=quickstart", *places, *settings]))
    build_parts(check(TrainConfig, config), lambda *_: pytest.fail("the world is made"), lambda stage: [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["+mining.window=99"], "arms.flickers could not .*: mining.window is 99"),
        (["+mining.window=99", "mining.score_scale=calibrated"], "mining.window is 99"),
        (["mining.score_threshold=2", "mining.score_scale=calibrated"], r"must be in 0\.\.1"),
        (["collect.box_margin=null"], "collect.box_margin"),
        (["collect.variants=[mirror,sharper]"], "disturbance 'sharper' is unknown"),
        (["arms=study"], "arms.paper could not .*: mining.search_margin"),
        (
            ["+arms.own={mining: temporal, kinds: [hard_negative], settings: {max_gap: 99}}"],
            "arms.own could not .*: mining.max_gap is 99",
        ),
    ],
)
def test_mining_that_could_never_be_answered_is_refused_before_data_are_made(tmp_path, settings, said):
    with pytest.raises(HemError, match=said):
        build(tmp_path, *settings)
    assert not list(tmp_path.iterdir())
