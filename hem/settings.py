"""The settings that hem ships under ``conf/mining``, as objects for Python."""

from typing import Any

from hem.compose import group_file
from hem.instantiate import instantiate
from hem.mining.presets import Preset
from hem.structures.evidence import CollectSettings


def preset(name: str = "hem", **changes: Any) -> Preset:  # noqa: ANN401
    """Return a preset as ``mining=NAME`` would on the command line.

    Args:
        name: a file of ``conf/mining``: ``hem``, ``temporal``, ``elicited``, ``paper``, or a baseline.
        changes: settings that differ from the file, by name.

    Raises:
        HemError: for an unknown name or setting, or a value that does not fit.
    """
    found: Preset = instantiate({**group_file("mining", name), **changes}, f"mining/{name}", Preset)
    return found


def collect(**changes: Any) -> CollectSettings:  # noqa: ANN401
    """Return how evidence is collected, as the commands do unless told otherwise.

    Args:
        changes: settings that differ from ``conf/mining/collect.yaml``, by name.

    Raises:
        HemError: for an unknown setting, or a value that does not fit.
    """
    found: CollectSettings = instantiate(
        {**group_file("mining", "collect"), **changes}, "collect", CollectSettings
    )
    return found
