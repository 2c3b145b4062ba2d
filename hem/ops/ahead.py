"""What is made ahead, so that it is there when it is asked for: items, and answers about batches."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor

    from hem.structures import Detections, FrameBatch

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


def asked_ahead(
    batches: "Iterable[FrameBatch]", ask: "Callable[[Tensor], list[Detections]]"
) -> "Iterator[tuple[FrameBatch, list[Detections]]]":
    """Yield each batch with what ``ask`` says of its frames, the next one's answer begun before.

    Args:
        batches: in order; one more than the consumer has is held.
        ask: uint8 (B, 3, H, W) to one Detections a frame. Asked in order. If it has a method ``begin``, that
            is called instead, and what it gives is called for the answer, in order too, when the next batch
            was begun; without one nothing is begun ahead.
    """
    begin: Callable[[Tensor], Callable[[], list[Detections]]] | None = getattr(ask, "begin", None)
    if begin is None:
        for batch in batches:
            yield batch, ask(batch.frames)
        return
    waiting: tuple[FrameBatch, Callable[[], list[Detections]]] | None = None
    for coming in chain(((batch, begin(batch.frames)) for batch in batches), [None]):
        if waiting is not None:
            yield waiting[0], waiting[1]()
        waiting = coming
