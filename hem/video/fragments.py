"""Which parts of a fragmented MP4 file cannot be read.

Such a file has no table of its frames. Each fragment begins with a box ``moof`` that tells of the pictures
in the ``mdat`` behind it (ISO 14496-12, 8.8.4); FFmpeg steps over both without a word if that box makes no
sense.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hem.video.parts import Chain

_MOST_BOXES = 1_000_000  # of a file: one that is larger than that is not looked through
_SEARCH_BYTES = 1 << 20
_SMALLEST_BYTES = 8
# boxes that may stand before an mdat that is not of a fragment, or between a moof and its mdat
_KNOWN = frozenset(
    b"ftyp styp moov moof sidx ssix free skip wide uuid emsg prft meta pdin mfra mdat udta".split()
)
_OPENED = frozenset({b"moof", b"traf"})  # boxes that hold boxes and nothing else


class _Box(NamedTuple):
    name: bytes
    content: int
    end: int


class Fragments(Chain):
    """The fragments of a file, as hem.video.parts.Chain.

    Args:
        lost: where parts that cannot be read begin, rising.
    """

    sure_of_end = True

    def __init__(self, lost: list[int]) -> None:
        self._lost = lost
        self._next = 0

    def broken_before(self, pos: int | None) -> bool:
        """See Chain."""
        first = self._next
        while self._next < len(self._lost) and (pos is None or self._lost[self._next] < pos):
            self._next += 1
        return self._next > first


def fragments_of(path: str) -> Fragments | None:
    """Look through a local MP4 or MOV file; None if it has no fragments."""
    with Path(path).open("rb") as file:
        return _look_through(file, os.fstat(file.fileno()).st_size)


def _look_through(file: BinaryIO, size: int) -> Fragments | None:
    at, before, found, lost = 0, b"moof", False, []
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        box = _box(file, at, size)
        if box is None:
            following = _next_fragment(file, at, size)
            if following is None:
                lost += [] if _is_cut_off(file, at) or _is_padding(file, at) else [at]
                break
            lost += [at, following - 1]  # FFmpeg may read some of what lies between
            at = following
            continue
        is_fragment = box.name == b"moof"
        if (is_fragment and not _whole(file, box)) or (box.name == b"mdat" and before not in _KNOWN):
            lost.append(at)
        found |= is_fragment
        at, before = box.end, box.name
    return Fragments(lost) if found else None


def _box(file: BinaryIO, at: int, end: int) -> _Box | None:
    """Return the box that begins here; None if none does that ends in time."""
    file.seek(at)
    length, name, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
    content = at + (16 if length == 1 else 8)
    length = {0: end - at, 1: large}.get(length, length)
    if length < max(_SMALLEST_BYTES, content - at) or at + length > end or not name.strip().isalnum():
        return None
    return _Box(name, content, at + length)


def _whole(file: BinaryIO, box: _Box) -> bool:
    """Whether the boxes within this one fill it."""
    at = box.content
    while at < box.end:
        inner = _box(file, at, box.end)
        if inner is None or (inner.name in _OPENED and not _whole(file, inner)):
            return False
        at = inner.end
    return True


def _is_cut_off(file: BinaryIO, at: int) -> bool:
    """Whether a box begins here that would end behind the file: hem.video.cut_off deals with that."""
    file.seek(at + 4)
    return file.read(4) in _KNOWN


def _is_padding(file: BinaryIO, at: int) -> bool:
    """Whether nothing but zeros follow, as where room was made for a file beforehand."""
    file.seek(at)
    while data := file.read(_SEARCH_BYTES):
        if any(data):
            return False
    return True


def _next_fragment(file: BinaryIO, at: int, size: int) -> int | None:
    """Return where the next sound fragment begins."""
    for begin in range(at, size, _SEARCH_BYTES):
        file.seek(begin)
        data = file.read(_SEARCH_BYTES + 7)
        place = data.find(b"moof")
        while place >= 0:
            start = begin + place - 4
            box = _box(file, start, size) if start > at else None
            if box is not None and _whole(file, box):
                return start
            place = data.find(b"moof", place + 1)
    return None
