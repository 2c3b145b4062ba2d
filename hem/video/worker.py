"""The process that decodes under guard: ``python -m hem.video.worker``.

It is an own program rather than a ``multiprocessing`` child, since those run the user's script again
(which breaks scripts without a main guard) and import torch (seconds). It gets one line of JSON on
standard input, then the number of a free slot per line; it answers on standard output with lines of
JSON, and puts pixels into a file mapped by both sides.

Orders: reader (module:class), path, fps, start_frame, end_frame, stride, only, threads, slots, ring_dir,
chunk_frames, ring_bytes, stall_s, parent (process number of the other side, which it does not outlive).
Answers: ``ring`` (file, shape), ``chunk`` (slot, indices, times), ``tick`` (frame), ``found`` (gaps, notes:
those not told yet), and one of ``done`` (n_frames, error), ``unsuited`` (reason), ``failed`` (reason, last:
index and time of the last frame read if it was not selected, else null), ``refused`` (HemError).
"""

import faulthandler
import json
import mmap
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.video.reader import (
    DecoderFailed,
    FrameReader,
    RawFrame,
    ReaderUnsuited,
    Selection,
    load_reader,
    timed_frames,
)

_TICK_S = 1.0
_LOOK_S = 2.0  # between looks whether the other side still lives


class _Ring:
    """Slots for chunks of frames in a mapped file; waits for the other side to free one."""

    def __init__(self, order: dict[str, Any], frame_shape: tuple[int, ...], orders: TextIO) -> None:
        frame_bytes = int(np.prod(frame_shape))
        chunk = max(1, min(order["chunk_frames"], order["ring_bytes"] // (order["slots"] * frame_bytes)))
        self.shape = (order["slots"], chunk, *frame_shape)
        self.path = Path(order["ring_dir"]) / "frames"
        size = int(np.prod(self.shape))
        with self.path.open("w+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)  # no room is an error here, not a signal later
            else:
                stream.truncate(size)
            memory = mmap.mmap(stream.fileno(), size)
        self.slots: NDArray[np.uint8] = np.frombuffer(memory, dtype=np.uint8).reshape(self.shape)
        self._free = list(range(order["slots"]))
        self._orders = orders
        self._leave = partial(_leave, order["ring_dir"])

    def take(self) -> int:
        """Return a free slot; the process ends when the other side is gone."""
        if not self._free:
            faulthandler.cancel_dump_traceback_later()  # waiting for the reader of frames is no hang
            line = self._orders.readline()
            if not line:
                self._leave()
            self._free.append(int(line))
        return self._free.pop(0)


class _Worker:
    def __init__(self, order: dict[str, Any], orders: TextIO, answers: TextIO) -> None:
        self._order, self._orders, self._answers = order, orders, answers
        self._ring: _Ring | None = None
        self._slot = -1
        self._indices: list[int] = []
        self._times: list[float | None] = []
        self._last_tick = 0.0
        self._reader: FrameReader | None = None
        self._told_gaps = self._told_notes = 0

    def run(self) -> None:
        """Read the video to its end and tell how that went."""
        self._alive(0)
        last: RawFrame | None = None
        try:
            self._reader = reader = self._open()
            for frame in timed_frames(reader):
                self._tell_found()
                last = frame
                if frame.pixels is not None:
                    self._add(frame)
                if time.monotonic() - self._last_tick > _TICK_S:
                    self._alive(frame.frame_index)
        except ReaderUnsuited as error:
            self._tell_found()
            self._tell(unsuited=str(error))
        except HemError as error:
            self._tell(refused=str(error))
        except DecoderFailed as error:
            self._send()
            self._tell_found()
            self._tell(failed=str(error), last=last[:2] if last and last.pixels is None else None)
        else:
            self._send()
            self._tell_found()
            self._tell(done={"n_frames": reader.n_frames, "error": reader.error})

    def _open(self) -> FrameReader:
        order = self._order
        only = None if order["only"] is None else frozenset(order["only"])
        selection = Selection(order["start_frame"], order["end_frame"], order["stride"], only)
        return load_reader(order["reader"])(order["path"], order["fps"], selection, order["threads"])

    def _add(self, frame: RawFrame) -> None:
        if self._ring is None:
            self._ring = _Ring(self._order, frame.pixels.shape, self._orders)
            self._tell(ring=str(self._ring.path), shape=self._ring.shape)
        if not self._indices:
            self._slot = self._ring.take()
        self._ring.slots[self._slot, len(self._indices)] = frame.pixels
        self._indices.append(frame.frame_index)
        self._times.append(frame.time_s)
        if len(self._indices) == self._ring.shape[1]:
            self._send()

    def _send(self) -> None:
        if self._indices:
            self._tell(chunk=self._slot, indices=self._indices, times=self._times)
            self._indices, self._times = [], []

    def _tell_found(self) -> None:
        """Tell gaps and notes at once, after the frames before them: a hang later would lose them."""
        reader = self._reader
        if reader is None:
            return
        gaps, notes = reader.gaps[self._told_gaps :], reader.notes[self._told_notes :]
        if gaps or notes:
            self._send()
            self._tell(found={"gaps": gaps, "notes": notes})
            self._told_gaps, self._told_notes = len(reader.gaps), len(reader.notes)

    def _alive(self, frame_index: int) -> None:
        self._last_tick = time.monotonic()
        # Should the other side die first, a hang in here still ends: this timer needs no interpreter.
        faulthandler.dump_traceback_later(self._order["stall_s"] * 2 + 5, exit=True)
        self._tell(tick=frame_index)

    def _tell(self, **answer: object) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def _lines() -> Iterator[TextIO]:
    """Yield where to answer; everything else that is printed goes to standard error."""
    private = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(private, "w", encoding="utf-8") as answers:
        yield answers


def _leave(ring_dir: str) -> None:
    """End at once; what the other side would have removed goes with it."""
    shutil.rmtree(ring_dir, ignore_errors=True)
    os._exit(0)


def _end_with(parent: int, ring_dir: str) -> None:
    """Leave once the other side is gone. Its ends of the pipes may live on in processes that it forked."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        _leave(ring_dir)

    if hasattr(os, "fork"):  # elsewhere a process keeps the number of the one that started it
        threading.Thread(target=look, name="hem-parent", daemon=True).start()


def main() -> None:
    """Serve one order."""
    for answers in _lines():
        if not (line := sys.stdin.readline()):
            return
        order = json.loads(line)
        _end_with(order["parent"], order["ring_dir"])
        sys.path[:0] = [entry for entry in order["sys_path"] if entry not in sys.path]
        try:
            _Worker(order, sys.stdin, answers).run()
        except BrokenPipeError:
            _leave(order["ring_dir"])
        finally:
            faulthandler.cancel_dump_traceback_later()
    os._exit(0)  # decoders have been seen to hang in their own clean-up


if __name__ == "__main__":
    main()
