"""Decoders that misbehave, for the guarded worker to load by name."""

import os
import signal
import time
from collections.abc import Iterator

import numpy as np

from hem.video.reader import DecoderFailed, FrameReader, RawFrame, RawGap, ReaderUnsuited, Selection


class _Fake(FrameReader):
    good = 5

    def __init__(self, path: str, fps: float, selection: Selection, threads: int = 0) -> None:
        super().__init__(path, fps, selection)

    def frames(self) -> Iterator[RawFrame]:
        for k in range(self.good):
            yield RawFrame(k, k / self.fps, np.full((4, 6, 3), k % 256, dtype=np.uint8))
        self.misbehave()
        self.n_frames = self.good

    def misbehave(self) -> None:
        """Does nothing in the good one."""


class Sleeps(_Fake):
    def misbehave(self) -> None:
        time.sleep(600)


class SleepsAtOnce(Sleeps):
    good = 0


class Dies(_Fake):
    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Quits(_Fake):
    def misbehave(self) -> None:
        os._exit(3)


class GivesUp(_Fake):
    def misbehave(self) -> None:
        raise DecoderFailed("fake: damage")


class Talks(_Fake):
    """Prints where the answers go, as C libraries do."""

    def misbehave(self) -> None:
        print("{not json")
        os.write(1, b"more noise\n")


class Long(_Fake):
    good = 400


class _Gap(_Fake):
    """Gives frames 0 to 9 and 20 to 29, tells that those between are lost, and misbehaves."""

    def frames(self) -> Iterator[RawFrame]:
        for k in (*range(10), *range(20, 30)):
            if k == 20:
                self.gaps.append(RawGap(10, 20, "damage"))
                self.notes.append("a note")
            wanted = self.selection.wants(k)
            yield RawFrame(k, k / self.fps, np.full((4, 6, 3), k, dtype=np.uint8) if wanted else None)
        self.misbehave()
        self.n_frames = 30


class GapThenEnd(_Gap):
    """As it is."""


class GapThenGivesUp(_Gap):
    def misbehave(self) -> None:
        raise DecoderFailed("fake: damage")


class GapThenSleeps(_Gap):
    def misbehave(self) -> None:
        time.sleep(600)


class GivesUpInAGap(_Fake):
    def misbehave(self) -> None:
        self.gaps.append(RawGap(5, 8, "damage"))
        raise DecoderFailed("fake: damage")


class GivesMore(GivesUp):
    good = 15


class GivesMost(GivesUp):
    good = 25


class SaysUnsuited(_Fake):
    good = 0

    def misbehave(self) -> None:
        raise ReaderUnsuited("fake: odd")
