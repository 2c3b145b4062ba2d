import io

import pytest

from hem.reporting import progress as module
from hem.reporting.progress import format_seconds, patient, progress, track
from hem.reporting.steps import Steps


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


DEFAULTS = progress.__wrapped__.__kwdefaults__


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.5, "1m00s"),
        (185, "3m05s"),
        (3599.4, "59m59s"),
        (3600, "1h00m"),
        (7620, "2h07m"),
    ],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_lines_now_and_then():
    stream, clock = io.StringIO(), Clock()
    with progress("mining", 100, every_s=10, stream=stream, clock=clock) as step:
        for _ in range(4):
            clock.now += 5
            step.advance(10)
        step.note = "7 found"
        clock.now += 9.99
        step.advance(10)
        clock.now += 0.01  # ten seconds since the last line, to the dot
        step.advance(50)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "mining: 20/100 frames, 2.0 frames/s, 40s left",
        "mining: 40/100 frames, 2.0 frames/s, 30s left",
        "mining: 100/100 frames, 3.3 frames/s, 7 found",
        "mining: 100/100 frames, 3.3 frames/s, 7 found (done in 30s)",
    ]


def test_without_total_nothing_is_promised():
    stream, clock = io.StringIO(), Clock()
    with progress("reading", unit="files", stream=stream, clock=clock) as step:
        clock.now += 2
        step.advance(3)
        assert step.seconds_left is None
        step.total = 9
        assert step.seconds_left == pytest.approx(4)
        step.total = None
    assert stream.getvalue() == "reading: 3 files, 1.5 files/s (done in 2s)\n"


@pytest.fixture
def shown(monkeypatch):
    """What Steps shows, and the clock that it shows it by."""
    stream, clock = io.StringIO(), Clock()
    monkeypatch.setattr(module.progress.__wrapped__, "__kwdefaults__", {**DEFAULTS, "clock": clock})
    return stream, clock


@pytest.mark.parametrize(
    ("step", "first", "later", "total", "line"),
    [
        # of 350 steps 200 were done before; five more take ten seconds, so 145 are 4m50s away
        ("train baseline", 200, 205, 350, "205/350 steps, 0.5 steps/s, 4m50s left"),
        ("mining", 16, 40, 100, "40/100 frames, 4.0 frames/s, 15s left"),
    ],
    ids=["what an earlier run did does not count", "a first batch counts"],
)
def test_the_rate_is_that_of_this_run(shown, step, first, later, total, line):
    stream, clock = shown
    with Steps(stream) as steps:
        steps.progress(step, first, total)
        clock.now += 10
        steps.progress(step, later, total)
    assert stream.getvalue().splitlines()[0] == f"{step}: {line}"


def test_files_that_are_read_quickly_are_not_spoken_of(monkeypatch, shown):
    stream, clock = shown
    monkeypatch.setattr("hem.reporting.steps.patient", lambda report: patient(report, clock=clock))
    with Steps(stream) as steps:
        told = steps.reading("videos")
        clock.now += 1.9
        told(8 * 10**8, 9 * 10**9)
        assert stream.getvalue() == ""
        clock.now += 0.1
        told(1 * 10**9, 9 * 10**9 + 1)
        clock.now += 10
        told(5 * 10**9, 9 * 10**9 + 1)
    assert stream.getvalue().splitlines()[0] == "reading videos: 5000/9001 MB, 400.0 MB/s, 10s left"


def test_nothing_done_has_no_rate():
    stream, clock = io.StringIO(), Clock()
    with progress("reading", 0, stream=stream, clock=clock) as step:
        assert step.rate is None
    assert stream.getvalue() == "reading: 0/0 frames (done in 0s)\n"


def test_failure_is_not_called_done():
    stream = io.StringIO()
    with pytest.raises(KeyError), progress("reading", 3, stream=stream) as step:
        step.advance()
        raise KeyError
    assert "(stopped in" in stream.getvalue() and "done" not in stream.getvalue()


def test_bar_on_a_terminal():
    stream, clock = Terminal(), Clock()
    with progress("mining [a]", 40, stream=stream, clock=clock) as step:
        clock.now += 4
        step.note = "[b] found"
        step.advance(40)
    shown = stream.getvalue()
    assert "mining [a]" in shown and "40/40" in shown and "10.0 frames/s" in shown and "[b] found" in shown


def test_track():
    stream = io.StringIO()
    assert list(track([[1, 2], [3]], "batches", 3, units_of=len, stream=stream)) == [[1, 2], [3]]
    assert stream.getvalue().startswith("batches: 3/3 frames")
    stream = io.StringIO()
    list(track("abc", "letters", stream=stream, unit="letters"))
    assert stream.getvalue().startswith("letters: 3/3 letters")


def test_track_counts_an_item_when_its_body_is_done():
    stream = io.StringIO()
    for letter in track("abc", "letters", stream=stream):
        if letter == "b":
            break
    assert "letters: 1/3" in stream.getvalue()
