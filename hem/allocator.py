"""What a command tells the C library about memory, before it asks a network anything."""

import ctypes
import os
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # names of glibc's mallopt
_SETTINGS = {
    _MMAP_THRESHOLD: 2**30,  # smaller blocks are taken from the heap
    _TRIM_THRESHOLD: 2**31 - 1,  # whose end is given back only where this much is free
    _ARENA_MAX: 1,  # and which is one for all threads: those of others shrink whenever they are empty
}
_OF_THE_USER = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the C library to keep large blocks that are freed, for the next ones like them.

    By itself it gives them back to the system after every batch in some processes and not in others, and
    each page asked for again is filled with zeros first: a sixth to a quarter of the time of a small
    network on the CPU of the virtual machine where it was measured. The process holds what its largest
    batch took until it ends.

    Args:
        environment: variables; where they choose an allocator or set it up, nothing is changed.

    Returns:
        Whether it was told; False for other C libraries than glibc, too.
    """
    if any(name.startswith(_OF_THE_USER) for name in environment):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return all([mallopt(name, value) for name, value in _SETTINGS.items()])
