"""How a command ends from outside: by SIGTERM, with which schedulers stop it, or by a reader that left."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

EXIT_INTERRUPTED = 130  # as shells have it: 128 + SIGINT
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_UNREAD = 141  # 128 + SIGPIPE


class Terminated(SystemExit):
    """Raised in the main thread by SIGTERM; uncaught, it ends the process with status 143."""

    def __init__(self) -> None:
        super().__init__(EXIT_TERMINATED)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Raise Terminated on SIGTERM while the block runs, so that ``with`` and ``finally`` do their work.

    Like KeyboardInterrupt it comes between two instructions of the main thread, once for each signal.
    Nothing is changed in another thread than the main one, nor where somebody handles or ignores SIGTERM
    already. In a process forked meanwhile SIGTERM does what it does without this: it ends it at once.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def ending_with_the_reader() -> Iterator[None]:
    """End the process quietly, with status 141, where nobody reads its output any more (``| head``).

    A pipe other than standard output and standard error that breaks is an error as ever. What is printed
    in the block is flushed at its end, so that a reader who left is met here and not when Python ends.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        raise SystemExit(EXIT_UNREAD) from None


def _unread() -> bool:
    """Return whether the reader of an output left; what is written there from now on goes nowhere."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        if _broken(stream):
            left = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return left


def _broken(stream: TextIO) -> bool:
    try:
        stream.flush()  # what could not be written may be there still, or be lost
    except BrokenPipeError:
        return True
    if not hasattr(select, "poll"):
        return False
    try:
        asked = select.poll()
        asked.register(stream.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    except (OSError, ValueError):  # no file of the system
        return False
