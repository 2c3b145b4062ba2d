"""Progress of long steps: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

T = TypeVar("T")


def format_seconds(seconds: float) -> str:
    """Return a duration as ``42s``, ``3m05s`` or ``2h07m``."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Step:
    """A running step. Made by ``progress``; report work through ``advance``.

    Attributes:
        done: units finished so far.
        before: of these, how many were finished before this step began, by a run that is gone on with.
        total: units there are, or None while that is not known; may be set at any time.
        note: short text shown at the end of the line; may be set at any time.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        show: Callable[["Step"], None],
        clock: Callable[[], float],
    ) -> None:
        self.title, self.total, self.unit, self.note = title, total, unit, ""
        self.done = self.before = 0
        self._show, self._clock, self._start = show, clock, clock()

    def advance(self, units: int = 1) -> None:
        """Report ``units`` more as finished."""
        self.done += units
        self._show(self)

    @property
    def seconds(self) -> float:
        """Time since the step began."""
        return self._clock() - self._start

    @property
    def rate(self) -> float | None:
        """Units per second since the step began; None before anything is measurable."""
        here = self.done - self.before
        return here / self.seconds if here and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the mean rate so far; None without a total or a rate."""
        if self.total is None or self.rate is None:
            return None
        return max(0, self.total - self.done) / self.rate

    def line(self) -> str:
        """Return the state as one line of text."""
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        parts = [f"{self.title}: {count} {self.unit}"]
        if self.rate is not None:
            parts.append(f"{self.rate:.1f} {self.unit}/s")
        if self.seconds_left is not None and self.done < (self.total or 0):
            parts.append(f"{format_seconds(self.seconds_left)} left")
        return ", ".join(parts + ([self.note] if self.note else []))


def patient(
    report: Callable[[int, int], object], after_s: float = 2.0, clock: Callable[[], float] = time.monotonic
) -> Callable[[int, int], None]:
    """Return what passes (done, total) on once ``after_s`` seconds have gone by since this call.

    For steps that are over at once in most runs, and then need no line.
    """
    start = clock()

    def told(done: int, total: int) -> None:
        if clock() - start >= after_s:
            report(done, total)

    return told


@contextmanager
def progress(
    title: str,
    total: int | None = None,
    *,
    unit: str = "frames",
    every_s: float = 10.0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Step]:
    """Show how a step gets on while the block runs; the last state always remains to be read.

    Args:
        title: what is being done.
        total: units there are, or None.
        unit: what is counted, plural.
        every_s: seconds between lines where there is no terminal; lowering it fills logs.
        stream: where to; None = standard error.
        clock: seconds; for tests.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _bar(title, total, unit, stream, clock) as step:
            yield step
        return
    last = clock()

    def show(step: Step) -> None:
        nonlocal last
        if clock() - last >= every_s:
            last = clock()
            print(step.line(), file=stream, flush=True)

    step = Step(title, total, unit, show, clock)
    ended = "stopped"
    try:
        yield step
        ended = "done"
    finally:
        print(f"{step.line()} ({ended} in {format_seconds(step.seconds)})", file=stream, flush=True)


@contextmanager
def _bar(
    title: str, total: int | None, unit: str, stream: TextIO, clock: Callable[[], float]
) -> Iterator[Step]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeLeftColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(title, total=total, rate="", note="")

        def show(step: Step) -> None:
            rate = "" if step.rate is None else f"{step.rate:.1f} {unit}/s"
            bar.update(task, completed=step.done, total=step.total, rate=rate, note=step.note)

        yield Step(title, total, unit, show, clock)


def track(
    items: Iterable[T],
    title: str,
    total: int | None = None,
    *,
    unit: str = "frames",
    units_of: Callable[[T], int] = lambda item: 1,
    stream: TextIO | None = None,
) -> Iterator[T]:
    """Yield ``items`` and show progress; ``units_of`` says how many units one item finishes.

    An item counts once the next one is asked for, so the rate is that of the loop's body.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(title, total, unit=unit, stream=stream) as step:
        for item in items:
            yield item
            step.advance(units_of(item))
