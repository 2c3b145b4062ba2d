"""What every decoder gives: frames one by one, with true numbers and times.

Nothing here, nor in the readers themselves, imports torch: the guarded worker process starts in
half a second that way instead of many.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

from hem.errors import HemError


class RawFrame(NamedTuple):
    """One decoded frame.

    Attributes:
        frame_index: 0-based number in presentation order, lost frames counted.
        time_s: timestamp in seconds as the file gives it, or None where it gives none.
        pixels: uint8 (H, W, 3) RGB array, valid until the next frame is asked for (a GPU reader
            gives a uint8 (3, H, W) tensor instead); None for a frame that was not selected.
    """

    frame_index: int
    time_s: float | None
    pixels: Any


class RawGap(NamedTuple):
    """Frames [first_frame, end_frame) that could not be decoded; end_frame None: nothing known after."""

    first_frame: int
    end_frame: int | None
    reason: str


class ReaderUnsuited(Exception):
    """This decoder would get this file wrong (rotation, broken timestamps); another one must read it."""


class DecoderFailed(Exception):
    """The decoder hangs, died or gave up in the middle; frames before that are sound."""


@dataclass(frozen=True)
class Selection:
    """Which frames are wanted: start_frame, start_frame + stride, … below end_frame (None: to the end).

    ``only`` narrows them to the frames it holds.

    Raises:
        HemError: if start_frame < 0, stride < 1 or end_frame < start_frame.
    """

    start_frame: int = 0
    end_frame: int | None = None
    stride: int = 1
    only: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.start_frame < 0 or self.stride < 1:
            raise HemError(
                f"start_frame must be >= 0 and stride >= 1, got {self.start_frame} and {self.stride}"
            )
        if self.end_frame is not None and self.end_frame < self.start_frame:
            raise HemError(f"end_frame {self.end_frame} is before start_frame {self.start_frame}")

    def wants(self, frame_index: int) -> bool:
        """Whether this frame is one of those selected."""
        return (
            frame_index >= self.start_frame
            and not self.is_past(frame_index)
            and (frame_index - self.start_frame) % self.stride == 0
            and (self.only is None or frame_index in self.only)
        )

    def from_frame(self, frame_index: int) -> "Selection | None":
        """Return what of the selection lies at ``frame_index`` or later; None if nothing does."""
        steps = max(0, -(-(frame_index - self.start_frame) // self.stride))
        start = self.start_frame + steps * self.stride
        if self.is_past(start):
            return None
        return replace(self, start_frame=start)

    def is_past(self, frame_index: int) -> bool:
        """Whether nothing from this frame on is selected."""
        return self.end_frame is not None and frame_index >= self.end_frame


class FrameReader(ABC):
    """Reads one video forward, once.

    Attributes:
        gaps, notes: filled while reading: what was lost, and what was repaired or done otherwise.
        error: why reading ended before the video did, naming the file; None if it did not.
        n_frames: frames of the video, lost ones included; None before its end was reached.
        timed: times are final already (TimeKeeper is not applied again).
        planar: may be set before the first frame is asked for: ``pixels`` may then be a LazyGrey, which
            stays valid, from readers that can make one.
    """

    timed = False
    planar = False

    def __init__(self, path: str, fps: float, selection: Selection) -> None:
        self.path = path
        self.fps = fps
        self.selection = selection
        self.gaps: list[RawGap] = []
        self.notes: list[str] = []
        self.error: str | None = None
        self.n_frames: int | None = None

    @abstractmethod
    def frames(self) -> Iterator[RawFrame]:
        """Yield every frame that decodes, in order, those not selected with pixels None.

        Raises:
            ReaderUnsuited: before the first frame, if another decoder must be used.
            HemError: if the file cannot be opened or holds no video stream.
        """

    def close(self) -> None:
        """Free what the reader holds; harmless when called twice."""
        return None


class TimeKeeper:
    """Turns the timestamps of a file into strictly increasing seconds that start at its first frame.

    Variable frame rate is kept. A missing timestamp becomes frame_index / fps. One that does not
    increase is put half a frame after the one before; one that jumps back by a second or more is
    taken as a restarted clock, which goes on one frame after. Each kind of repair is noted once.
    """

    _RESTART_S = 1.0

    def __init__(self, fps: float) -> None:
        self._frame_s = 1.0 / fps
        self._base: float | None = None
        self._last = -math.inf
        self.notes: list[str] = []

    def time(self, frame_index: int, raw_s: float | None) -> float:
        """Return the time of this frame; call it for every frame in order."""
        if raw_s is None or not math.isfinite(raw_s):
            self._note("no timestamps: times are frame number / fps")
            now = frame_index * self._frame_s
        else:
            if self._base is None:
                self._base = raw_s - frame_index * self._frame_s
            now = raw_s - self._base
            if now < self._last - self._RESTART_S:
                self._note(f"the clock restarts at frame {frame_index}: joined on")
                self._base = raw_s - (self._last + self._frame_s)
                now = self._last + self._frame_s
        if now <= self._last:
            self._note(f"timestamps do not increase (first at frame {frame_index}): repaired")
            now = self._last + self._frame_s / 2
        self._last = now
        return now

    def _note(self, text: str) -> None:
        kind = text.split(":")[0].split(" (")[0].split(" at ")[0]
        if not any(note.startswith(kind) for note in self.notes):
            self.notes.append(text)


def timed_frames(reader: FrameReader) -> Iterator[RawFrame]:
    """Yield the reader's frames with final times; frames not selected keep pixels None."""
    if reader.timed:
        yield from reader.frames()
        return
    keeper = TimeKeeper(reader.fps)
    for frame in reader.frames():
        known = len(keeper.notes)
        time_s = keeper.time(frame.frame_index, frame.time_s)
        if len(keeper.notes) > known:
            reader.notes.extend(keeper.notes[known:])
        yield frame._replace(time_s=time_s)


def load_reader(name: str) -> Callable[[str, float, Selection, int], FrameReader]:
    """Return the reader class named ``module:class``; its module is imported only now."""
    module, attribute = name.split(":")
    reader: Callable[[str, float, Selection, int], FrameReader] = getattr(import_module(module), attribute)
    return reader


class ChainReader(FrameReader):
    """Reads with the first of several readers; where it is unsuited or fails, the next one goes on.

    Args:
        path, fps, selection: as in FrameReader.
        openers: (name for notes, function that opens a reader for a selection), in order of choice.

    The next reader starts at the first frame that the one before did not give, so nothing is lost
    unless the last one fails too: then the rest of the video is a gap with end_frame None. Each reader's
    gaps count for the frames that it was relied on for: decoders differ in what they can repair.

    Raises:
        HemError: if the last reader is unsuited.
    """

    timed = True

    def __init__(
        self,
        path: str,
        fps: float,
        selection: Selection,
        openers: Sequence[tuple[str, Callable[[Selection], FrameReader]]],
    ) -> None:
        super().__init__(path, fps, selection)
        self._openers = list(openers)
        self._rest = selection
        self._reached = 0
        self._taken_over = 0  # the first frame that the reader in use is relied on for
        self._reader: FrameReader | None = self._open(selection)

    def _open(self, selection: Selection) -> FrameReader:
        """Open the next reader that is suited."""
        while True:
            name, opener = self._openers.pop(0)
            try:
                return opener(selection)
            except ReaderUnsuited as error:
                self._pass_on(name, str(error))

    def _pass_on(self, name: str, reason: str) -> None:
        if not self._openers:
            raise HemError(f"{self.path}: {reason}")
        self.notes.append(f"{_short(name)} is unsuited ({reason}): {_short(self._openers[0][0])} reads it")

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames."""
        while self._reader is not None:
            reader = self._reader
            reader.planar = self.planar
            try:
                for frame in timed_frames(reader):
                    if frame.pixels is not None or frame.frame_index >= self._reached:
                        self._reached = frame.frame_index + 1
                        yield frame
                self._take(reader)
                return
            except ReaderUnsuited as error:
                self._take(reader)
                self._pass_on("the decoder", str(error))
                self._reader = self._open(self._rest)
            except DecoderFailed as error:
                goes_on = bool(self._openers) and self.selection.from_frame(self._reached) is not None
                self._take(reader, self._reached if goes_on else None)
                self._go_on(str(error))

    def _go_on(self, reason: str) -> None:
        # frames that the last reader reported lost before it failed are not lost twice
        known = [gap.end_frame for gap in self.gaps if gap.end_frame is not None]
        end = self._reached if self._openers else max([self._reached, *known])
        rest = self.selection.from_frame(end)
        self._reader = None
        if rest is not None and self._openers:
            self.notes.append(f"{reason}: {_short(self._openers[0][0])} goes on from frame {end}")
            self._rest, self._taken_over = rest, end
            self._reader = self._open(rest)
        elif rest is not None:
            self.gaps.append(RawGap(end, None, reason))
            self.error = f"{self.path}: {reason} at frame {end}"

    def _take(self, reader: FrameReader, end_frame: int | None = None) -> None:
        """Carry over what the reader found (gaps only below ``end_frame``), and close it."""
        parts = (cut(gap, self._taken_over, end_frame) for gap in reader.gaps)
        self.gaps.extend(part for part in parts if part is not None)
        self.notes.extend(reader.notes)
        self.error, self.n_frames = reader.error, reader.n_frames
        if self.n_frames is not None:
            self.n_frames = max(self.n_frames, self._reached)  # a reader before may have come further
        reader.close()

    def close(self) -> None:
        """Close the reader in use."""
        if self._reader is not None:
            self._reader.close()


def cut(gap: RawGap, first_frame: int, end_frame: int | None) -> RawGap | None:
    """Return what of a gap lies in [first_frame, end_frame); None if nothing does.

    With ``end_frame`` None only its beginning is cut.
    """
    first = max(gap.first_frame, first_frame)
    end = gap.end_frame if end_frame is None else min(end_frame, gap.end_frame or end_frame)
    return None if end is not None and end <= first else RawGap(first, end, gap.reason)


def _short(name: str) -> str:
    return name.split(":")[0].removesuffix("_source").rsplit(".", 1)[-1]
