"""A batch asked about in parts, each in a thread of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

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


def ask_parts(
    ask: Callable[[list[int]], list[Found]], groups: Sequence[list[int]], threads: int
) -> Iterator[tuple[list[int], list[Found]]]:
    """Yield groups of images, or parts of them, each with what ``ask`` says of it.

    On a CPU it is faster to ask about as many parts as there are threads at the same time, each in one
    thread, than about one group after the other with all threads: these wait for the slowest of them after
    every layer, which takes longest where other work goes on beside them, and much of what follows the
    network runs in one thread. Not with fewer images than threads, which would leave too many idle; but
    two threads are always used that way, so that what an image gives rounds alike in every batch.

    Args:
        ask: called without gradients, several times at once from other threads.
        groups: numbers of the images that may share a pass.
        threads: of torch; put back as they were afterwards.
    """
    if threads < 2 or not groups or (threads > 2 and sum(map(len, groups)) < threads):
        yield from ((group, ask(group)) for group in groups)
        return
    parts = parts_of(groups, threads)
    # both are of a thread, and a new one has neither
    cast_to, casts = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def there(part: list[int]) -> list[Found]:
        with torch.no_grad(), torch.autocast("cpu", dtype=cast_to, enabled=casts):
            return ask(part)

    torch.set_num_threads(1)  # of new threads too
    try:
        with ThreadPoolExecutor(min(threads, len(parts))) as pool:
            yield from zip(parts, pool.map(there, parts), strict=True)
    finally:
        torch.set_num_threads(threads)
