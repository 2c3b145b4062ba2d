"""One thread a process: the suite runs in two, and more threads than cores only wait for each other."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for every subprocess

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("transformers") is None:
        for item in items:
            if item.get_closest_marker("detr"):
                item.add_marker(pytest.mark.skip(reason="needs the extra detr (transformers)"))


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Call a command's ``main`` in this process; gives its exit status and all that it said."""
    from hydra.core.global_hydra import GlobalHydra

    def call(command: ModuleType, *arguments: object) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, arguments)])
        try:
            command.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out + said.err

    return call
