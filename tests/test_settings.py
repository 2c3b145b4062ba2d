"""Python gets the very objects that the command line gets."""

import pytest

from hem.command_line import composed
from hem.errors import HemError
from hem.instantiate import instantiate
from hem.mining.presets import Hem, Paper, Preset
from hem.settings import collect, preset
from hem.structures.evidence import CollectSettings


def test_the_shipped_settings_are_those_of_the_commands() -> None:
    node = composed("mine", ["output_dir=x"])
    assert preset("hem") == instantiate(dict(node.mining), "mining", Preset)
    assert collect() == instantiate(
        {
            name: list(v) if not isinstance(v, str | float | int | None) else v
            for name, v in node.collect.items()
        },
        "collect",
        CollectSettings,
    )
    assert isinstance(preset(), Hem) and isinstance(preset("paper"), Paper)


def test_changes_are_checked() -> None:
    assert preset("paper", window=3).window == 3
    assert collect(elicit_share=0.4).elicit_share == 0.4
    with pytest.raises(HemError, match="did you mean 'window'"):
        preset("paper", windw=3)
    with pytest.raises(HemError, match="did you mean 'paper'"):
        preset("papr")
    with pytest.raises(HemError, match="elicit_share"):
        collect(elicit_share=2.0)
