"""Batches asked about in parts, each in a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

Found = TypeVar("Found")


def parts_of(groups: Sequence[Sequence[int]], threads: int) -> list[list[int]]:
    """Cut groups of images into about as many parts as there are threads.

    Args:
        groups: numbers of the images that may share a pass.
        threads: >= 1; with 1 every group stays whole.

    Returns:
        Parts of one group each and of two images or more, as far as they go round: a convolution of one
        image costs more and rounds otherwise.
    """
    share = -(-sum(map(len, groups)) // threads)
    parts = []
    for group in groups:
        count = min(-(-len(group) // share), -(-len(group) // 2))
        ends = [len(group) * at // count for at in range(count + 1)]
        parts += [list(group[low:high]) for low, high in pairwise(ends)]
    return parts


class Parts:
    """Asks about groups of images, or parts of them, of which the next may be begun before the last is done.

    On a CPU it is faster to ask about as many parts as there are threads at the same time, each in one
    thread, than about one group after the other with all threads: these wait for the slowest of them after
    every layer, which takes longest where other work goes on beside them, and much of what follows the
    network runs in one thread. A thread that is through with its part of a batch goes on with the next
    batch, if that is begun. Not with fewer images than threads, which would leave too many idle; but two
    threads are always used that way, so that what an image gives rounds alike in every batch.

    A context manager: inside it torch has one thread, so that what is done beside leaves the others theirs.
    Leaving it drops parts that nobody has started, and waits for the others.

    Args:
        threads: of torch, put back as they were afterwards; with 1 nothing is begun before it is wanted,
            and torch is left alone.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._begun: list[Future[Any]] = []  # of the last batch

    def __enter__(self) -> Self:
        if self._threads > 1:
            torch.set_num_threads(1)  # of new threads too
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="hem-part")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._threads)

    def begin(
        self, ask: Callable[[list[int]], list[Found]], groups: Sequence[list[int]]
    ) -> Callable[[], list[tuple[list[int], list[Found]]]]:
        """Return what gives, when it is called, groups or parts of them, each with what ``ask`` says of it.

        Args:
            ask: called without gradients, several times at once from other threads.
            groups: numbers of the images that may share a pass.
        """
        few = self._threads > 2 and sum(map(len, groups)) < self._threads
        if self._pool is None or few:
            return partial(self._together, ask, groups)
        parts = parts_of(groups, self._threads)
        # both are of a thread, and a new one has neither
        cast_to, casts = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def there(part: list[int]) -> list[Found]:
            with torch.no_grad(), torch.autocast("cpu", dtype=cast_to, enabled=casts):
                return ask(part)

        self._begun = begun = [self._pool.submit(there, part) for part in parts]
        return lambda: list(zip(parts, [one.result() for one in begun], strict=True))

    @torch.no_grad()
    def _together(
        self, ask: Callable[[list[int]], list[Found]], groups: Sequence[list[int]]
    ) -> list[tuple[list[int], list[Found]]]:
        """Ask about one group after the other, here, with all threads."""
        if self._pool is None:
            return [(group, ask(group)) for group in groups]
        wait(self._begun)
        torch.set_num_threads(self._threads)
        try:
            return [(group, ask(group)) for group in groups]
        finally:
            torch.set_num_threads(1)
