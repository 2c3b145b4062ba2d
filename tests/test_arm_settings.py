"""An arm's preset takes the settings the arm gives, and no others."""

import pytest

from hem.building import build_presets
from hem.config import ArmConfig
from hem.errors import HemError
from hem.mining.presets import Temporal


class _Config:
    mining: dict = {}  # noqa: RUF012

    def __init__(self, **arms):
        self.arms = arms


def arm(**settings):
    return ArmConfig(mining="temporal", kinds=("hard_negative",), settings=settings)


def test_settings_change_the_named_preset_alone():
    presets, settings = build_presets(_Config(plain=arm(), other=arm(per_frame=20.0, window=4)))
    plain, other = presets["plain"], presets["other"]
    assert isinstance(plain, Temporal) and isinstance(other, Temporal)
    assert (other.per_frame, other.window) == (20.0, 4)
    assert (plain.per_frame, plain.window) == (10.0, 8)
    assert other.label_threshold == plain.label_threshold
    assert settings["other"]["per_frame"] == 20.0  # part of what identifies the arm's stage


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(HemError, match="per_fram"):
        build_presets(_Config(other=arm(per_fram=20.0)))


@pytest.mark.parametrize("mining", [None, "default"])
def test_settings_belong_to_a_named_preset(mining):
    kinds = () if mining is None else ("hard_negative",)
    with pytest.raises(ValueError, match=r"mining\.\*"):
        ArmConfig(mining=mining, kinds=kinds, settings={"per_frame": 20.0})
