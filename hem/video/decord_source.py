"""decord: read forward only, one frame at a time, always in a process that can be ended.

decord can hang while it holds the interpreter lock, returns wrong frames after seeks, decodes ahead
without bound inside ``get_batch``, and ignores rotation; so it is opened only in the guarded worker,
only ``next`` is called, and files it would get wrong are refused here and read by PyAV.
"""

import sys
from collections import deque
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from hem.errors import HemError
from hem.video.cut_off import missing_bytes
from hem.video.packets import increasing, packet_times, sure_frames
from hem.video.pyav_source import probe_stream
from hem.video.reader import DecoderFailed, FrameReader, RawFrame, ReaderUnsuited, Selection

_WITHOUT_INDEX = ("mpegts", "mpeg")
_HELD = 16  # frames; its threads decode ahead of what is asked for


class DecordReader(FrameReader):
    """Reads through decord.

    Args:
        path, fps, selection: as in PyavReader.
        threads: decoding threads, 0 = decord's choice.

    Damage that decord paints over cannot be seen from here: PyAV is the one that finds it.

    Raises:
        ReaderUnsuited: for rotated files, MPEG streams, containers without timestamps, files that were cut
            off, and timestamps that are not finite and increasing.
        HemError: if decord is not installed or cannot open the file.
    """

    def __init__(self, path: str, fps: float, selection: Selection, threads: int = 0) -> None:
        facts = probe_stream(path)
        super().__init__(path, fps if fps > 0 else facts.fps, selection)
        if facts.rotation:
            raise ReaderUnsuited(f"decord ignores the rotation of {facts.rotation} degrees")
        if not facts.has_times:
            raise ReaderUnsuited(f"decord invents times for {facts.container}, which stores none")
        if facts.container in _WITHOUT_INDEX:
            raise ReaderUnsuited(f"decord does not begin {facts.container} files with their first picture")
        if sure_frames(path) < sys.maxsize:
            raise ReaderUnsuited(f"decord does not say that the file is {missing_bytes(path)} bytes short")
        decord = _module()
        try:
            self._video: Any = decord.VideoReader(path, num_threads=threads)
        except Exception as error:  # decord raises its own error, RuntimeError or IndexError
            raise ReaderUnsuited(f"decord cannot open it ({_first_line(error)})") from None
        self._times = packet_times(path)  # decord's own are float32
        if len(self._times) != len(self._video) or not increasing(self._times):
            raise ReaderUnsuited("decord's frame count or timestamps do not fit the file's packets")

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames.

        Raises:
            DecoderFailed: where decord stops at damage. Some frames before that are not given: it says so
                only a few frames behind the damage, not always at the same one.
        """
        held: deque[RawFrame] = deque()
        for index, time_s in enumerate(self._times):
            if self.selection.is_past(index):
                break
            try:
                pixels = self._video.next().asnumpy()
            except Exception as error:  # its own error type, or RuntimeError, by version
                raise DecoderFailed(f"decord: {_first_line(error)}") from None
            held.append(RawFrame(index, time_s, np.asarray(pixels) if self.selection.wants(index) else None))
            if len(held) > _HELD:
                yield held.popleft()
        else:
            self.n_frames = len(self._times)
        yield from held

    def close(self) -> None:
        """Let decord free its buffers."""
        self._video = None


def _module() -> ModuleType:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise HemError(
            f"video.decoder=decord needs the package decord, which is not usable here ({error}); "
            "choose decoder=pyav or auto"
        ) from None
    decord.logging.set_level(decord.logging.FATAL)
    return decord


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
