"""The index of an AVI file: which of its pictures FFmpeg stepped over.

AVI has no times. FFmpeg counts the pictures that it finds, so behind one that it does not find all numbers
are too small by one. The index at the end of the file knows each picture's place.
"""

import bisect
from collections.abc import Sequence
from itertools import pairwise

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from hem.video.parts import Chain

_CHUNK_HEAD = 8  # bytes before a picture: its name and its length


class AviIndex(Chain):
    """Compares the packets of a stream of pictures with the index, as hem.video.parts.Chain.

    Args:
        entries: (place in the file of the picture's head, time as a number of pictures, bytes), rising. Empty
            ones stand for repeats. Some may be missing.
    """

    def __init__(self, entries: Sequence[tuple[int, int, int]]) -> None:
        self._entries = entries
        self._row = {at + _CHUNK_HEAD: row for row, (at, _, _) in enumerate(entries)}
        self._times = [time for _, time, size in entries if size]
        self._asked = -1  # row of the newest packet that was asked about
        self._time = -1  # of the newest packet that was put right
        self._numbers: dict[int, int] = {}  # of key frames, by their times

    @property
    def n_pictures(self) -> int:
        """Pictures of the index, and those that were found beside it."""
        return len(self._times)

    def put_right(self, packet: av.Packet) -> None:
        """Give a packet the times that the index has for it; one that is not in the index joins it."""
        if not packet.size or packet.pos is None or packet.pts is None or packet.dts is None:
            return
        row = self._row.get(packet.pos)
        late = packet.pts - packet.dts
        self._time = self._time + 1 if row is None else self._entries[row][1]
        if row is None:
            bisect.insort(self._times, self._time)
        packet.dts = self._time
        packet.pts = packet.dts + late
        if packet.is_keyframe:
            place = self._place(packet.dts)
            # FFmpeg takes when the next picture that others are built on is decoded for the time at which
            # this one is shown: behind it by one, and by what is shown before it
            self._numbers[packet.pts] = place + max(0, self._place(packet.pts) - place - 1)

    def number(self, pts: int) -> int | None:
        """Return the number of a key frame by its time as ``put_right`` made it; None if there is none.

        All that is decoded before it is shown before it, and some of what is decoded later.
        """
        return self._numbers.get(pts)

    def _place(self, time: int) -> int:
        """Return the place in decoding order of the last picture up to this time; behind all, one more."""
        return bisect.bisect_right(self._times, time) - (not self._times or time <= self._times[-1])

    def broken_before(self, pos: int | None) -> bool:
        """See Chain."""
        row = len(self._entries) if pos is None else self._row.get(pos, self._asked)
        between = self._entries[self._asked + 1 : row]
        self._asked = row
        return any(size for _, _, size in between)


def avi_index(container: InputContainer, stream: VideoStream) -> AviIndex | None:
    """Return the index of an AVI file that was just opened; None of others, and if it has none that rises."""
    if container.format.name != "avi":
        return None
    entries = [(entry.pos, entry.timestamp, entry.size) for entry in stream.index_entries]
    rising = all(earlier[0] < later[0] and earlier[1] < later[1] for earlier, later in pairwise(entries))
    return AviIndex(entries) if entries and rising else None
