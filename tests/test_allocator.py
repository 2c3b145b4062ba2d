"""Freed memory that is kept for what comes next."""

import subprocess
import sys

import pytest

from hem.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from hem.allocator import keep_freed_memory
told = keep_freed_memory({"PATH": "/bin"}) if sys.argv[1] == "keep" else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.full(60_000_000, 7, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
np._core.multiarray._set_madvise_hugepage(False)  # so that every page counts
faults()
print(told, faults())
"""


def faults_of(how: str) -> tuple[str, int]:
    ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    told, count = ran.stdout.split()
    return told, int(count)


def test_a_large_block_is_handed_out_again_without_the_system():
    told, kept = faults_of("keep")
    if told == "False":
        pytest.skip("the C library has no mallopt")
    _, given_back = faults_of("plain")
    assert kept < 1_000 < 20_000 < given_back


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_user_chose_stays(name, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("asked the C library"))
    assert keep_freed_memory({name: "1"}) is False


def test_other_systems_are_left_alone(monkeypatch):
    for error in (OSError, TypeError):
        monkeypatch.setattr("ctypes.CDLL", lambda _, error=error: (_ for _ in ()).throw(error()))
        assert keep_freed_memory({}) is False
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory({}) is False
