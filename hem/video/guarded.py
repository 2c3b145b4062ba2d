"""Decoding in a process of its own, which is ended when it hangs and survived when it dies."""

import contextlib
import json
import mmap
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.video.reader import DecoderFailed, FrameReader, RawFrame, RawGap, ReaderUnsuited, Selection

_SLOTS = 3
_RING_BYTES = 192 << 20
_CHUNK_FRAMES = 8


class GuardedReader(FrameReader):
    """Runs another reader in a worker process (see hem.video.worker).

    Args:
        reader: ``module:class`` of the reader to run there.
        path, fps, selection, threads: given to it.
        stall_s: seconds without a sign of life after which the process is killed, > 0.

    At most three chunks of eight frames (fewer if those pass 192 MiB) wait between the processes,
    however fast the decoder is.

    Raises:
        DecoderFailed: while reading, if the process hangs, dies by a signal or its decoder gives up.
        ReaderUnsuited, HemError: what the reader itself raised.
    """

    timed = True

    def __init__(
        self,
        reader: str,
        path: str,
        fps: float,
        selection: Selection,
        *,
        stall_s: float = 30.0,
        threads: int = 0,
    ) -> None:
        super().__init__(path, fps, selection)
        if not stall_s > 0:
            raise HemError(f"stall_s must be > 0, got {stall_s}")
        self._stall_s = stall_s
        self._order = {
            "reader": reader,
            "path": str(Path(path).absolute()),
            "fps": fps,
            "start_frame": selection.start_frame,
            "end_frame": selection.end_frame,
            "stride": selection.stride,
            "only": None if selection.only is None else sorted(selection.only),
            "threads": threads,
            "slots": _SLOTS,
            "chunk_frames": _CHUNK_FRAMES,
            "ring_bytes": _RING_BYTES,
            "stall_s": stall_s,
            "parent": os.getpid(),
            "sys_path": [str(Path(entry).absolute()) for entry in sys.path if entry],
        }
        self._process: subprocess.Popen[str] | None = None
        self._directory: str | None = None

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames; of the frames not selected only the last one before a failure comes.

        Gaps and notes come as they are found, so those from before a hang are kept.
        """
        self._start()
        slots: NDArray[np.uint8] | None = None
        try:
            while True:
                answer = self._answer()
                if "ring" in answer:
                    slots = _map(answer["ring"], answer["shape"])
                elif "chunk" in answer:
                    assert slots is not None
                    for row, (index, time_s) in enumerate(
                        zip(answer["indices"], answer["times"], strict=True)
                    ):
                        yield RawFrame(index, time_s, slots[answer["chunk"], row])
                    self._free(answer["chunk"])
                elif "found" in answer:
                    self.gaps.extend(RawGap(*gap) for gap in answer["found"]["gaps"])
                    self.notes.extend(answer["found"]["notes"])
                elif "tick" not in answer:
                    if answer.get("last") is not None:
                        index, time_s = answer["last"]
                        yield RawFrame(index, time_s, None)  # tells how far the decoder came
                    self._end(answer)
                    return
        finally:
            self.close()

    def _start(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="hem-decode-", dir=_roomy(_RING_BYTES))
        root = str(Path(__file__).resolve().parents[2])
        search = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
        with (Path(self._directory) / "messages").open("w") as messages:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hem.video.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, name="hem-guard", daemon=True).start()
        self._write(json.dumps({**self._order, "ring_dir": self._directory}))

    def _listen(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=self._stall_s)
        except queue.Empty:
            raise DecoderFailed(f"no frame for {self._stall_s:g} s, the decoder was ended") from None
        if not line:
            raise DecoderFailed(self._how_it_died())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _how_it_died(self) -> str:
        assert self._process is not None
        code = self._process.wait(timeout=self._stall_s)
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the decoder process was killed by {signal.Signals(-code).name}"
        assert self._directory is not None
        said = (Path(self._directory) / "messages").read_text(errors="replace").strip().splitlines()
        return f"the decoder process ended with status {code}" + (f" ({said[-1][:200]})" if said else "")

    def _end(self, answer: dict[str, Any]) -> None:
        if "unsuited" in answer:
            raise ReaderUnsuited(answer["unsuited"])
        if "refused" in answer:
            raise HemError(answer["refused"])
        if "failed" in answer:
            raise DecoderFailed(answer["failed"])
        done = answer["done"]
        self.n_frames, self.error = done["n_frames"], done["error"]

    def _free(self, slot: int) -> None:
        self._write(str(slot))

    def _write(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died: the next answer says so
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Kill the worker if it still runs, and remove the shared file."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def _map(path: str, shape: list[int]) -> NDArray[np.uint8]:
    with Path(path).open("rb") as stream:
        memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    with contextlib.suppress(OSError):  # the memory goes with the processes then, however they end
        Path(path).unlink()
    return np.frombuffer(memory, dtype=np.uint8, count=int(np.prod(shape))).reshape(shape)


def _roomy(size: int) -> str | None:
    """Return shared memory where it has twice the room that is needed, else None: the usual folder."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * size:
        return str(memory)
    return None
