"""The steps of a run on the terminal: one line or bar at a time, and the table at the end."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.table import Table

from hem.reporting.progress import Step, patient, progress
from hem.reporting.tables import print_comparison

_UNITS = {
    "train": "steps", "stills": "images", "labelled": "images", "world": "pictures", "reading": "MB",
}  # fmt: skip
"""What is counted, by how a step's name begins; frames for all others."""
_MB = 10**6


def _console() -> Console:
    """Return a console as wide as the terminal, or wide enough for every table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def reading(show: Callable[[str, int, int | None], object], what: str) -> Callable[[int, int], None]:
    """Return what shows, by ``show``, how far the files of ``what`` are read; it is told bytes.

    Nothing is shown of what takes no longer than a glance.
    """
    step = f"reading {what}"
    return patient(lambda done, total: show(step, done // _MB, -(-total // _MB)))


class Steps(AbstractContextManager["Steps"]):
    """Shows whichever step reports; a new step's name ends the one before.

    Args:
        stream: where to; None = standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._open = ExitStack()
        self._name = ""
        self._step: Step | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def progress(self, step: str, done: int, total: int | None, note: str = "") -> None:
        """Show that ``done`` of ``total`` (None: unknown) units of a step are done."""
        if step != self._name:
            self._end()
            unit = next((unit for start, unit in _UNITS.items() if step.startswith(start)), "frames")
            self._step = self._open.enter_context(progress(step, total, unit=unit, stream=self._stream))
            self._name = step
            self._step.done = max(done - 1, 0)
            if done > 16:  # more than a first batch: a run before did it, and the rate is counted from here
                self._step.done = self._step.before = done
        assert self._step is not None
        self._step.total, self._step.note = total, note
        self._step.advance(done - self._step.done)

    def reading(self, what: str) -> Callable[[int, int], None]:
        """Return what shows how far the files of ``what`` are read, given bytes, if it takes seconds."""
        return reading(self.progress, what)

    def say(self, line: str) -> None:
        """Print one line."""
        self._end()
        print(line, file=self._stream, flush=True)

    def show(self, table: Table) -> None:
        """Print a table."""
        self._end()
        _console().print(table)

    def table(self, summary: Mapping[str, Any]) -> None:
        """Print the comparison of a finished run."""
        self._end()
        print_comparison(summary, _console())

    def _end(self) -> None:
        self._open.close()
        self._open = ExitStack()
        self._name, self._step = "", None
