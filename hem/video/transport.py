"""Whether the packets of an MPEG transport stream follow one another, and its pictures' heads make sense.

FFmpeg looks at the counters of packets, so it marks most losses. What it does not see: a picture whose head
is damaged (it is taken for a part of the picture before it), and losses of a multiple of sixteen packets.
"""

import numpy as np
from numpy.typing import NDArray

from hem.video.parts import FileChain

_PACKET_BYTES = 188
# bytes from one packet to the next, and the place of the 0x47 that begins the first one
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
_SEEN = 4  # packets looked at to tell a transport stream from chance
_READ_PACKETS = 4096
_PES_HEAD = 14  # bytes up to the end of the time


def layout_of(head: bytes) -> tuple[int, int] | None:
    """Return the bytes from one packet to the next and where the first begins; None if it is no such stream.

    Args:
        head: the file's first 820 bytes or more.
    """
    for width, first in _LAYOUTS:
        if head[first : first + _SEEN * width : width] == b"\x47" * _SEEN:
            return width, first
    return None


class Transport(FileChain):
    """The packets of a transport stream, as hem.video.parts.Chain.

    Args:
        path: a local file.
        layout: as ``layout_of`` returns it.
        pid: number of the stream of pictures.
    """

    def __init__(self, path: str, layout: tuple[int, int], pid: int) -> None:
        super().__init__(path)
        self._width, self._first = layout
        self._pid = pid
        self._at: int | None = None  # the first packet that was not looked at
        self._suits = True

    def broken_before(self, pos: int | None) -> bool:
        """See Chain; ``pos`` is where a packet lies in which a picture begins, its own time before it."""
        end = self._size if pos is None else pos + (self._first - pos) % self._width
        if self._at is None:
            self._at = end
            # writers that break the rules from the start are not judged by them
            self._suits = not self._breaks(end, end + self._width)
            return False
        if not self._suits or end <= self._at:
            return False  # several pictures of one part
        begin, self._at = self._at, end
        step = _READ_PACKETS * self._width
        return any(self._breaks(at, min(at + step, end)) for at in range(begin, end, step))

    def _breaks(self, begin: int, end: int) -> bool:
        data = self._read(begin, end - begin)
        rows = np.frombuffer(data, np.uint8)[: len(data) // self._width * self._width]
        rows = rows.reshape(-1, self._width)[:, :_PACKET_BYTES]
        if (rows[:, 0] != 0x47).any():
            return True
        ours = rows[(rows[:, 1] & 0x1F).astype(int) * 256 + rows[:, 2] == self._pid]
        refused = (ours[:, 1] & 0x80).any()  # marked as an error by who received it
        return bool(refused) or not all(map(_is_head, ours[(ours[:, 1] & 0x40) > 0]))


def _is_head(packet: NDArray[np.uint8]) -> bool:
    """Whether a packet that says that a picture begins in it holds the head of one (ISO 13818-1, 2.4.3.7)."""
    begin = 5 + int(packet[4]) if packet[3] & 0x20 else 4
    head = packet[begin : begin + _PES_HEAD].tolist()
    if len(head) < _PES_HEAD or head[:3] != [0, 0, 1] or not (0xE0 <= head[3] <= 0xEF or head[3] == 0xFD):
        return False
    timed, marks = head[7] >> 6, head[9] & head[11] & head[13] & 1
    return head[6] >> 6 == 2 and timed != 1 and (timed == 0 or (head[9] >> 4 == timed and marks == 1))
