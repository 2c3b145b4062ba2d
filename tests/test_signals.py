"""SIGTERM ends the blocks it comes into, and only in the process that asked for it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hem.signals import Terminated, ending_on_sigterm, ending_with_the_reader
from hem.structures import Detections
from hem.training.answers import RememberedAnswers

ROOT = Path(__file__).parents[1]
PASS = """
import sys, time, torch
from pathlib import Path
from hem.signals import ending_on_sigterm
from hem.structures import Detections
from hem.training.answers import RememberedAnswers

def detect(pictures):
    return [Detections.empty()] * len(pictures)

with ending_on_sigterm(), RememberedAnswers(Path(sys.argv[1]), {}, detect, every_s=1e9) as answers:
    for value in range(3):
        answers(torch.full((2, 3, 16, 16), value, dtype=torch.uint8))
    print("asked", flush=True)
    time.sleep(120)
"""
FORKS = """
import os, signal, time
from hem.signals import ending_on_sigterm

with ending_on_sigterm():
    child = os.fork()
    if child == 0:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            print("a block of the parent, ended in the child", flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_pass_that_is_terminated_leaves_its_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PASS, str(tmp_path / "notes")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert said == ""

    def never(pictures: torch.Tensor) -> list[Detections]:
        raise AssertionError("asked again")

    with RememberedAnswers(tmp_path / "notes", {}, never, 20.0) as answers:
        for value in range(3):
            assert len(answers(torch.full((2, 3, 16, 16), value, dtype=torch.uint8))) == 2


def test_it_is_raised_inside_and_the_default_comes_back() -> None:
    ended = []
    with pytest.raises(Terminated) as caught, ending_on_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            ended.append("finally")
    assert caught.value.code == 143 and ended == ["finally"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_handles_it_already_goes_on_doing_so() -> None:
    got = []

    def own(number: int, frame: object) -> None:
        got.append(number)

    signal.signal(signal.SIGTERM, own)
    with ending_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert got == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is own
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with ending_on_sigterm():  # also who takes over within
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) is own


def test_another_thread_changes_nothing() -> None:
    seen = []

    def work() -> None:
        with ending_on_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_forked_process_ends_at_once() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{-signal.SIGTERM}\n"


@pytest.mark.parametrize(
    "command",
    ["hem.mine --help", "hem.drop --help", "hem --help", "hem mine --help"],
)
def test_output_that_nobody_reads_ends_a_command_quietly(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # before anything is written, as by a reader that had enough
    assert process.stderr.read() == ""
    assert process.wait() == 141
    process.stderr.close()


def test_another_pipe_that_breaks_is_an_error_as_ever() -> None:
    with pytest.raises(BrokenPipeError), ending_with_the_reader():
        raise BrokenPipeError


@pytest.mark.parametrize("begun", ["", "answered"])
def test_an_interrupt_before_anything_is_begun_is_one_line(
    begun: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hem.cli
    import hem.command_line

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if begun:  # imported, and reading what was asked for
        monkeypatch.setattr(hem.command_line, begun, interrupt)
    else:
        monkeypatch.setattr(hem.cli.importlib, "import_module", interrupt)
    monkeypatch.setattr(sys, "argv", ["hem"])
    with pytest.raises(SystemExit) as end:
        hem.cli.main(["mine", "videos=nothing.mp4", "output_dir=nowhere"])
    assert end.value.code == 130
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("hem: interrupted") and said.err.count("\n") == 1
