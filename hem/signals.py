"""SIGTERM, with which schedulers and containers stop a command, ends it as an exception does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_TERMINATED = 143  # as shells have it: 128 + SIGTERM


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
