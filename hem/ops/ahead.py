"""An iterator that runs in a thread of its own, so that what it makes is there when it is asked for."""

import queue
import threading
from collections.abc import Generator
from typing import TypeVar, cast

Item = TypeVar("Item")
_END = object()


def ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yield the same items, up to ``depth`` (>= 1) of them made ahead in a thread.

    An exception of the thread is raised here, after the items before it. Closing the iterator
    (or dropping it) ends the thread and closes ``items``.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # handed over, not swallowed: raised below in the caller
            put(error)
        finally:
            items.close()

    thread = threading.Thread(target=work, name="hem-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield cast(Item, item)
    finally:
        stop.set()
        thread.join()
