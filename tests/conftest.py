"""One thread a process: the suite runs in two, and more threads than cores only wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for every subprocess

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
