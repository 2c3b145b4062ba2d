"""Stages are whole or not there, also where several processes want one at the same time."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hem.errors import HemError
from hem.training.stages import StageStore

MADE_BY = {"setting": 1}


def make(root: Path, log: Path, then: Callable[[], None] = lambda: None) -> tuple[Path, list[str]]:
    """Run one stage that says in ``log`` when its work starts and ends."""
    said: list[str] = []

    def work(folder: Path) -> None:
        with log.open("a") as file:
            file.write(f"starts with {sorted(path.name for path in folder.iterdir())}\n")
        (folder / "part").write_text("half")
        then()
        with log.open("a") as file:
            file.write("ends\n")

    return StageStore(root, said.append).run("stage", MADE_BY, work), said


def in_a_process(root: Path, log: Path, dies: bool) -> None:
    make(root, log, lambda: os._exit(9) if dies else time.sleep(1.0))


def test_a_finished_stage_is_found_again(tmp_path: Path) -> None:
    first, _ = make(tmp_path / "store", tmp_path / "log")
    second, said = make(tmp_path / "store", tmp_path / "log")
    assert first == second and (first / "part").read_text() == "half"
    assert said == [f"stage: found finished in {first}"]
    assert (tmp_path / "log").read_text() == "starts with []\nends\n"


def test_a_failure_leaves_no_stage_and_its_work_is_taken_up(tmp_path: Path) -> None:
    def fails() -> None:
        raise HemError("no")

    with pytest.raises(HemError, match="no"):
        make(tmp_path / "store", tmp_path / "log", fails)
    assert not list((tmp_path / "store").glob("stage-*"))
    make(tmp_path / "store", tmp_path / "log")
    assert "starts with ['part', 'seconds.json']" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("dies", [False, True])
def test_two_processes_make_a_stage_once(tmp_path: Path, dies: bool) -> None:
    """The second waits for the first, and takes its work up if it was killed."""
    store, log = tmp_path / "store", tmp_path / "log"
    other = multiprocessing.get_context("spawn").Process(target=in_a_process, args=(store, log, dies))
    other.start()
    deadline = time.monotonic() + 120
    while not log.exists():
        assert time.monotonic() < deadline and (other.is_alive() or log.exists())
        time.sleep(0.01)
    made, said = make(store, log)
    other.join(60)
    assert (made / "part").is_file()
    if dies:
        assert log.read_text() == "starts with []\nstarts with ['part']\nends\n"
    else:
        assert log.read_text() == "starts with []\nends\n"
        assert said == ["stage: another run is making it; waiting", f"stage: found finished in {made}"]
