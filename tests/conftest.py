"""One thread a process: the suite runs in two, and more threads than cores only wait for each other."""

import os
from importlib.util import find_spec

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
