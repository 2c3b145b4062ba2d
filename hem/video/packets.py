"""What a file's header and packets say of its frames, without decoding any."""

import bisect
import heapq
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from hem.errors import HemError
from hem.video.chain import chain_of, with_breaks
from hem.video.cut_off import missing_bytes


class Beat:
    """The even distance in time of a stream's frames, if there is one: it numbers what comes after a loss."""

    _ENOUGH = 4  # distances seen; with fewer, they must be the nominal one
    _EVEN = 1.25  # the longest over the shortest: milliseconds make 16 and 17 of 60 frames a second

    def __init__(self, nominal: float, begins_with: int = 0) -> None:
        self.begins_with = begins_with  # number of the first frame
        self.nominal = nominal  # distance by the header's rate, in the unit of pts
        self._last: tuple[int, int] | None = None  # number and pts of the newest frame that is sound
        self._sum = self._count = self._longest = 0
        self._shortest = sys.maxsize

    def sound(self, frame_index: int, pts: int | None) -> None:
        """Take note of a frame whose number is certain."""
        if pts is None:
            return
        if self._last is not None and frame_index == self._last[0] + 1:
            step = pts - self._last[1]
            self._sum, self._count = self._sum + step, self._count + 1
            self._shortest, self._longest = min(self._shortest, step), max(self._longest, step)
        self._last = frame_index, pts

    def number(self, pts: int | None, before: Sequence[int] = ()) -> int | None:
        """Return the number of a frame by its time alone; None if that says nothing.

        Args:
            pts: its time.
            before: those of packets, of which the earliest begins the stream if no frame was sound yet.
        """
        step, first = self._step(), self._last
        if first is None and before and self._are_even(before):
            step, first = self.nominal, (self.begins_with, min(before))
        if pts is None or first is None or step is None or pts <= first[1]:
            return None
        return first[0] + max(1, round((pts - first[1]) / step))

    def _are_even(self, times: Sequence[int]) -> bool:
        """Whether packets come at the header's rate but for those that are missing."""
        steps = [(late - early) / self.nominal for early, late in pairwise(sorted(times))]
        return bool(steps) and all(abs(step - round(step)) < self._EVEN - 1 for step in steps)

    def _step(self) -> float | None:
        """Return the distance in time of two frames, None if it is not even."""
        if self._count >= self._ENOUGH:
            return self._sum / self._count if 0 < self._longest <= self._EVEN * self._shortest else None
        usual = all(self.nominal / self._EVEN < one < self.nominal * self._EVEN for one in self._seen())
        return self.nominal if usual else None

    def _seen(self) -> tuple[int, ...]:
        return (self._shortest, self._longest) if self._count else ()


class DecodingOrder:
    """Where in decoding order frames are that come out in the order in which they are shown."""

    def __init__(self, most: int) -> None:
        self._most = most  # frames that can come out late
        self._awaited: list[tuple[int, int]] = []  # (pts, place)
        self._passed: dict[int, int] = {}  # what should have come out, newest last

    def add(self, pts: int, place: int) -> None:
        """Await a packet's frame."""
        heapq.heappush(self._awaited, (pts, place))

    def place(self, pts: int | None) -> int:
        """Return where a frame was, 0 if unknown; await no more what is shown before.

        Behind a loss some come out late, and are known by their place all the same.
        """
        while self._awaited and pts is not None and self._awaited[0][0] <= pts:
            passed, place = heapq.heappop(self._awaited)
            self._passed[passed] = place
            if len(self._passed) > self._most:
                del self._passed[next(iter(self._passed))]
        return 0 if pts is None else self._passed.get(pts, 0)

    def awaits_before(self, place: int) -> bool:
        """Whether something that was decoded before this place is still to come out."""
        return any(earlier < place for _, earlier in self._awaited)


def claimed_frames(path: str) -> int:
    """Return how many frames the header claims, or about how many its duration makes; 0 if it says neither.

    For showing how long something may take, and for nothing else: it may be wrong by any factor.
    """
    try:
        with open_container(path) as container:
            stream = video_stream(path, container)
            if stream.frames:
                return int(stream.frames)
            return max(0, round(claimed_s(container, stream) * rate_of(stream)))
    except (HemError, av.FFmpegError):
        return 0


def packet_times(path: str) -> list[float]:
    """Return the timestamps in seconds of all packets that are shown, in order of presentation.

    Reads the container without decoding. A packet without a timestamp gives NaN (at the end), and so does
    each part of the file that cannot be read.
    """
    with open_container(path) as container:
        stream = video_stream(path, container)
        times: list[float] = []
        chain = chain_of(path, container.format.name, stream.id)
        try:
            for packet, breaks in with_breaks(packets_of(container, stream), chain):
                if not times and packet.pos is not None and chain and chain.lost_from(packet.pos) is not None:
                    times.append(math.nan)
                if packet.size and not packet.is_discard:
                    pts, unit = packet.pts, packet.time_base
                    times.append(math.nan if pts is None or unit is None else float(pts * unit))
                if breaks:
                    times.append(math.nan)
        except av.FFmpegError:
            times.append(math.nan)
        finally:
            if chain is not None:
                chain.close()
    return sorted(times, key=lambda time_s: (math.isnan(time_s), time_s))


def increasing(times_s: Sequence[float]) -> bool:
    """Whether every time is there (none is NaN) and later than the one before."""
    finite = all(map(math.isfinite, times_s))
    return finite and all(later > earlier for earlier, later in pairwise(times_s))


def sure_frames(path: str) -> int:
    """Return how many frames are whole and have their true numbers as far as the file's end is concerned.

    sys.maxsize unless it was cut off. Then the last packet may not be whole, and what is shown before a
    picture but decoded after it may be lost. If only an index or sound was cut off, all are sure.
    """
    if not missing_bytes(path):
        return sys.maxsize
    with open_container(path) as container:
        stream = video_stream(path, container)
        shown: list[int] = []  # pts, or the order of decoding, of each packet
        try:
            for packet in packets_of(container, stream):
                if packet.size and not packet.is_discard:
                    shown.append(len(shown) if packet.pts is None else packet.pts)
        except av.FFmpegError:
            pass
        if _is_all(container, stream, shown):
            return sys.maxsize
        before: list[int] = []  # rising
        late = int(stream.codec_context.has_b_frames)  # pictures shown after one that is decoded later
        for pts in shown[:-1]:
            late = max(late, len(before) - bisect.bisect(before, pts))
            bisect.insort(before, pts)
        return min(bisect.bisect_left(before, shown[-1]), max(0, len(before) - late)) if shown else 0


def _is_all(container: InputContainer, stream: VideoStream, shown: Sequence[int]) -> bool:
    """Whether the packets are all that the header tells of, by their number or, if it has none, by time."""
    if stream.frames:
        return len(shown) >= stream.frames
    if container.format.name.startswith("mpeg"):
        return False  # the duration is an estimate from the last time that was found
    ends_s, says_s = max(shown, default=0) * float(stream.time_base or 0), claimed_s(container, stream)
    return 0 < says_s <= ends_s + 1.5 / rate_of(stream) and len(shown) >= round(says_s * rate_of(stream))


def open_container(path: str) -> InputContainer:
    """Open a local file.

    Raises:
        HemError: naming it, if it is absent, empty or no video file.
    """
    if not Path(path).is_file():
        raise HemError(f"{path} is not there, or is not a file")
    if Path(path).stat().st_size == 0:
        raise HemError(f"{path}: the file is empty")
    try:
        return av.open(str(Path(path).absolute()), metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HemError(f"{path} cannot be opened as a video ({reason})") from None


def video_stream(path: str, container: InputContainer) -> VideoStream:
    """Return the first stream of moving pictures.

    Raises:
        HemError: if there is none, or none in a codec that is known.
    """
    of_pictures = [
        stream
        for stream in container.streams.video
        if "attached_pic" not in str(getattr(stream, "disposition", "")).lower()
    ]
    known = [stream for stream in of_pictures if stream.codec_context is not None]
    if known:
        return known[0]
    container.close()
    if of_pictures:
        raise HemError(
            f"{path}: its pictures are in a codec that FFmpeg does not know, or its header is damaged"
        )
    raise HemError(f"{path} has no video stream")


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """Yield the packets of a stream, also of a file in which another stream begins in the middle.

    Damage lets one begin there in FLV, and PyAV, which does not know it, fails at its first packet.

    Raises:
        av.FFmpegError: where the file cannot be read; asked once more, it may go on behind that.
    """
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            continue  # with the packet behind


def rate_of(stream: VideoStream) -> float:
    """Return the nominal frames per second, 25 where the file says nothing."""
    for name in ("average_rate", "guessed_rate", "base_rate"):
        rate = getattr(stream, name, None)
        if rate and 0 < float(rate) <= 1000:
            return float(rate)
    return 25.0


def claimed_s(container: InputContainer, stream: VideoStream) -> float:
    """Return the seconds at which the header lets the picture end, or else the whole file; 0 if neither."""
    with suppress(ValueError):  # as Matroska has it for each track: 00:01:02.500000000
        hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
        return 3600 * hours + 60 * minutes + seconds
    return container.duration / av.time_base if container.duration else 0.0
