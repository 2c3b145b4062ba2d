"""PyAV: the reference decoder. Goes on after damage, and says what was lost."""

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from hem.errors import HemError
from hem.video.avi_index import avi_index
from hem.video.chain import chain_of, with_breaks
from hem.video.cut_off import missing_bytes
from hem.video.packets import (
    Beat,
    DecodingOrder,
    claimed_s,
    open_container,
    packets_of,
    rate_of,
    sure_frames,
    video_stream,
)
from hem.video.parts import Chain
from hem.video.planar import PlanarGrey, rgb_of, suits
from hem.video.reader import DecoderFailed, FrameReader, RawFrame, RawGap, Selection, cut

# Containers that store no presentation times: AVI gives decoding order instead, raw streams nothing.
_WITHOUT_TIMES = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "ivf_raw"})
# After damage, pictures built on the damaged one are wrong until the next key frame. A stream that
# has none within this time (x264's default is 250 frames) is believed again, or it would be lost.
MAX_DOUBT_S = 10.0
_MAX_ERRORS_IN_A_ROW = 200
_MAX_HELD = 16  # no codec shows a picture more than 16 pictures after decoding it


@dataclass(frozen=True)
class StreamFacts:
    """What one look at a file says: size as displayed, nominal rate, and what decoders get wrong.

    Attributes:
        width, height: pixels of the first frame that decodes, rotation applied.
        fps: nominal frames per second (25 where the file says nothing).
        rotation: degrees counter-clockwise by which frames are turned for display: 0, 90, 180, 270.
        has_times: whether the container stores presentation times.
        container, codec: short names, such as ``mov,mp4,…`` and ``h264``.
        claimed_frames: what the header says, or 0. Never to be trusted.
    """

    width: int
    height: int
    fps: float
    rotation: int
    has_times: bool
    container: str
    codec: str
    claimed_frames: int


def probe_stream(path: str) -> StreamFacts:
    """Open a file and decode up to its first good frame.

    Raises:
        HemError: if it cannot be opened, has no video stream, or no frame decodes; the message
            starts with the path.
    """
    reader = PyavReader(path, 0.0, Selection())
    try:
        for _ in reader.frames():
            return reader.facts()
    finally:
        reader.close()
    raise HemError(f"{path}: no frame decodes; the file is damaged or holds none")


class PyavReader(FrameReader):
    """Reads through PyAV.

    Args:
        path: a local file.
        fps: nominal rate for sources without timestamps; 0 takes the file's own.
        selection: the frames wanted; others are decoded but not converted.
        threads: decoding threads, 0 = the codec library's choice.

    A frame is lost when its packet is refused, when the decoder marks it corrupt, when it comes
    after either and before the next key frame (see MAX_DOUBT_S), or when it is shown before such a
    picture but was decoded after it, as it may be built on it. To know, a frame is held until all that
    was decoded before it came out (not in containers without times, which do not tell the order).

    Lost frames are numbered by the timestamps of their packets, so the frames after a gap keep their
    true numbers; packets that are gone altogether (see hem.video.chain; transport streams) count where
    frames come at an even rate. With several threads an error cannot be tied to its packet, so at the
    first one the file is read again from its start by one thread: slower, for damaged files only. Numbers,
    times and gaps are the same for any thread count, and so are the pixels of sound files. Damage that the
    decoder does not notice gives wrong pixels, which may differ from run to run where several threads
    made them.
    """

    def __init__(self, path: str, fps: float, selection: Selection, threads: int = 0) -> None:
        super().__init__(path, fps, selection)
        self._open(threads)
        self._sure = sure_frames(path)
        if not self.fps > 0:
            self.fps = rate_of(self._stream)
        self._has_times = not set(self._container.format.name.split(",")) & _WITHOUT_TIMES
        self._turns = 0
        self._size: tuple[int, int] | None = None
        self._converter = VideoReformatter()  # kept: setting one up costs more than using it
        self._suits: dict[tuple[object, ...], bool] = {}

    def _open(self, threads: int) -> None:
        self._container = open_container(self.path)
        self._stream = video_stream(self.path, self._container)
        self._single = threads == 1
        self._stream.thread_type = "NONE" if self._single else "AUTO"
        self._stream.codec_context.thread_count = threads
        # Without this the decoder paints over damage and hands the picture out as if it were sound.
        self._stream.codec_context.options = {"err_detect": "explode"}
        self._held: deque[tuple[int, Any, int]] = deque()  # (number, frame, place in decoding order)
        self._place = 0
        self._next = 0
        self._refused = 0
        self._packets = 0
        self._newest_pts = -1
        self._order = DecodingOrder(_MAX_HELD)  # of containers with times: others do not tell it
        self._doubt: str | None = None
        self._doubt_first = 0
        self._doubt_pts = -1
        self._doubt_place = 0  # in decoding order; only what was decoded later ends the doubt
        self._anchor = -1, -sys.maxsize  # number and pts of the newest frame that is certain
        self._since: list[int] = []  # pts of packets that are shown after it
        self._beat = Beat(1 / (rate_of(self._stream) * float(self._stream.time_base or 1)))
        self._index = avi_index(self._container, self._stream)
        self._chain: Chain | None = self._index or chain_of(
            self.path, self._container.format.name, self._stream.id
        )

    def facts(self) -> StreamFacts:
        """Return what is known of the stream once the first frame was read."""
        width, height = self._size or (0, 0)
        if self._turns % 2:
            width, height = height, width
        container, codec = self._container.format.name, self._stream.codec_context.name
        rotation, claimed = 90 * self._turns, int(self._stream.frames or 0)
        return StreamFacts(width, height, self.fps, rotation, self._has_times, container, codec, claimed)

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames."""
        done = 0
        try:
            for raw in self._numbered():
                done = raw.frame_index + 1
                yield raw
            return
        except _DamagedError:
            self.close()
            self._open(threads=1)
        yield from (raw for raw in self._numbered() if raw.frame_index >= done)

    def _numbered(self) -> Iterator[RawFrame]:
        for frame in self._decoded():
            index = self._number(frame)
            if index is not None and index < self._sure and not self.selection.is_past(index):
                self._held.append((index, frame, self._place))
            yield from self._released()
            if index is not None and self.selection.is_past(index) and not self._held:
                return
        yield from self._released(at_end=True)
        self._finish()

    def _released(self, at_end: bool = False) -> Iterator[RawFrame]:
        """Yield the frames held for which all that was decoded before them came out; at the end all."""
        while self._held:
            index, frame, place = self._held[0]
            awaited = not at_end and self._order.awaits_before(place)
            if awaited and len(self._held) <= _MAX_HELD:
                return
            self._held.popleft()
            yield RawFrame(index, self._time(frame), self._pixels(frame, index))

    def _decoded(self) -> Iterator[Any]:
        suspect = False
        for packet, breaks in with_breaks(self._packets_of_stream(), self._chain, self._ends_early):
            if not self._packets:
                self._look_before(packet)
            self._packets += bool(packet.size)
            restarts = packet.is_keyframe and packet.pts is not None and packet.pts < self._newest_pts
            if self._doubt is not None and restarts:
                self._begin_anew()
            # packets cut away by an edit list are never shown
            if packet.size and not packet.is_discard and packet.pts is not None:
                if self._has_times:
                    self._order.add(packet.pts, self._packets)
                self._since.append(packet.pts)
                self._newest_pts = max(self._newest_pts, packet.pts)
            if packet.is_corrupt or suspect:
                self._start_doubt("container: packet marked corrupt", packet.pts)
                self._doubt_place = self._packets
            if breaks:
                self._start_doubt("container: a part of the file cannot be read", packet.pts)
                self._doubt_place = self._packets
            suspect = packet.is_corrupt  # what is missing may have been the next one's
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:  # however often: the next key frame may be minutes away
                self._refused += 1
                self._start_doubt(f"decoder: {error.strerror or error}", packet.pts)
                decoded = () if packet.size else self._drain()
            yield from decoded

    def _look_before(self, first: av.Packet) -> None:
        """Count what lies before the first packet that was found."""
        if self._chain is not None and first.pos is not None and first.pts is not None:
            lost = self._chain.lost_from(first.pos)
            if lost is not None and lost < first.pts:
                self._start_doubt("container: a part of the file cannot be read", first.pts - 1)
                self._since.append(lost)

    def _ends_early(self, last: av.Packet) -> bool:
        """Whether frames that the header tells of lie behind the last packet, where nothing can be read."""
        if self._chain is None or self._sure < sys.maxsize:
            return False
        ends_s = self._ends_s(max(self._newest_pts, last.pts or 0))
        says_s = claimed_s(self._container, self._stream)
        claims = says_s > ends_s + 0.5 / self.fps
        if not (claims or self._chain.sure_of_end) or not self._chain.broken_before(None):
            return False
        why = f"its header says {says_s:.2f} s" if claims else "it goes on"
        self.error = f"{self.path}: the file cannot be read on at {ends_s:.2f} s although {why}"
        return True

    def _ends_s(self, pts: int) -> float:
        return max(0, pts) * float(self._stream.time_base or 0) + 1 / self.fps

    def _begin_anew(self) -> None:
        """Streams were joined, and their times begin again: what comes is later than all there was."""
        self._anchor = self._shown_before(sys.maxsize) - 1, -sys.maxsize
        self._since, self._order = [], DecodingOrder(_MAX_HELD)
        self._newest_pts = self._doubt_pts = -sys.maxsize
        self._beat = Beat(self._beat.nominal, self._anchor[0] + 1)

    def _packets_of_stream(self) -> Iterator[Any]:
        """Demux, going on after errors of the container."""
        errors = 0
        while True:
            try:
                for packet in packets_of(self._container, self._stream):
                    errors = 0
                    if self._index is not None:
                        self._index.put_right(packet)
                    yield packet
                return
            except av.FFmpegError as error:
                errors += 1
                self._start_doubt(f"container: {error.strerror or error}", self._newest_pts)
                if errors > _MAX_ERRORS_IN_A_ROW:
                    self.error = f"{self.path}: the container cannot be read on ({error.strerror or error})"
                    return

    def _drain(self) -> list[Any]:
        """After an error while flushing, take the frames that are still inside the decoder."""
        frames: list[Any] = []
        for _ in range(_MAX_ERRORS_IN_A_ROW):
            try:
                more = self._stream.codec_context.decode(None)
            except EOFError:
                break
            except av.FFmpegError:
                continue
            if not more:
                break
            frames.extend(more)
        return frames

    def _start_doubt(self, reason: str, pts: int | None) -> None:
        """Believe nothing until a key frame later than the packet with this timestamp."""
        if not self._single:
            raise _DamagedError
        if self._doubt is None:
            self._doubt = reason
            self._doubt_first = self._held[0][0] if self._held else self._next
            self._held.clear()
        # behind a loss FFmpeg guesses times wrongly where the container has none
        newest = pts is None or not self._has_times
        self._doubt_pts = max(self._doubt_pts, self._newest_pts if newest else pts or 0)

    def _number(self, frame: av.VideoFrame) -> int | None:
        """Return the frame's true number, or None if it must not be believed."""
        if frame.is_corrupt:
            self._start_doubt("decoder: frame marked corrupt", frame.pts)
        self._place = self._order.place(frame.pts)
        refused, self._refused = self._refused, 0
        if self._doubt is not None:
            if frame.pts is None and not self._has_times:
                self._next += refused
            later = not self._has_times if frame.pts is None else frame.pts > self._doubt_pts
            later &= not self._place or self._place > self._doubt_place
            waited_s = (self._next - self._doubt_first) / self.fps
            if not later or frame.is_corrupt or not (frame.key_frame or waited_s >= MAX_DOUBT_S):
                self._next += 1
                return None
            self._next = max(self._doubt_first, self._number_after_loss(frame))
            self._end_doubt(self._next)
        index = self._next
        self._next += 1
        self._beat.sound(index, frame.pts)
        # of containers without times pts is the order of decoding, and only key frames tell that of showing
        if frame.pts is not None and (self._has_times or frame.key_frame):
            self._anchor = index, frame.pts
            self._since = [pts for pts in self._since if pts > frame.pts]
        return index

    def _number_after_loss(self, frame: av.VideoFrame) -> int:
        """Return the number of the first sound frame after damage."""
        if frame.pts is None or not (self._has_times or frame.key_frame):
            return self._next
        if self._index is not None and (number := self._index.number(frame.pts)) is not None:
            return number
        # where no header lists the frames, whole packets may be gone without a trace
        by_time = None
        if self._has_times and not self._stream.frames:
            by_time = self._beat.number(frame.pts, self._since)
        return self._shown_before(frame.pts) if by_time is None else by_time

    def _shown_before(self, pts: int) -> int:
        """Return how many frames are shown before this time, by what packets there are."""
        number, since = self._anchor
        return number + 1 + sum(since < one < pts for one in self._since)

    def _end_doubt(self, index: int) -> None:
        if index > self._doubt_first:
            self.gaps.append(RawGap(self._doubt_first, index, self._doubt or ""))
        self._doubt = None

    def _finish(self) -> None:
        if self._doubt is not None:
            counted = self._shown_before(sys.maxsize) if self._since else self._next + self._refused
            counted = counted if self._index is None else self._index.n_pictures
            by_time = None if self._stream.frames else self._beat.number(self._newest_pts)
            self._next = max(self._next, counted, (by_time or 0) + 1)
            self._end_doubt(self._next)
        self.n_frames = n_frames = min(self._next, self._sure)
        self.gaps = [part for gap in self.gaps if (part := cut(gap, 0, n_frames)) is not None]
        claimed = self._index.n_pictures if self._index else int(self._stream.frames or 0)
        if self.error is None and claimed > max(self._packets, self._next):
            self.error = f"{self.path}: the header claims {claimed} frames, the file ends after {self._next}"
        if self.error is None and self._sure < sys.maxsize:
            says_s = claimed_s(self._container, self._stream)
            claim = f"although its header says {says_s:.2f} s" if says_s else "before it is whole"
            missing = missing_bytes(self.path)
            ends_s = self._ends_s(self._newest_pts)
            self.error = f"{self.path}: the file ends at {ends_s:.2f} s {claim} ({missing} bytes missing)"
        if self.error is not None:
            self.gaps.append(RawGap(n_frames, None, self.error))

    def _time(self, frame: av.VideoFrame) -> float | None:
        if not self._has_times or frame.pts is None or frame.time_base is None:
            return None
        return float(frame.pts * frame.time_base)

    def _pixels(self, frame: av.VideoFrame, index: int) -> NDArray[np.uint8] | PlanarGrey | None:
        if self._size is None:
            self._size = (frame.width, frame.height)
            self._turns = round(frame.rotation / 90) % 4
        if not self.selection.wants(index):
            return None
        if (frame.width, frame.height) != self._size:
            note = f"frame size changes at frame {index}: scaled to {self._size[0]}x{self._size[1]}"
            if not any(known.startswith("frame size changes") for known in self.notes):
                self.notes.append(note)
        elif self.planar and not self._turns and self._suited(frame):
            return PlanarGrey(frame)
        try:
            pixels = rgb_of(frame, self._converter, *self._size)
        except (av.FFmpegError, ValueError) as error:
            raise DecoderFailed(f"frames in {frame.format.name} cannot be made RGB ({error})") from None
        return np.rot90(pixels, self._turns) if self._turns else pixels

    def _suited(self, frame: av.VideoFrame) -> bool:
        kind = (frame.format.name, frame.colorspace, frame.color_range)
        if kind not in self._suits:
            self._suits[kind] = suits(frame)
        return self._suits[kind]

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        if self._chain is not None:
            self._chain.close()


class _DamagedError(Exception):
    """Damage met while several threads decode."""
