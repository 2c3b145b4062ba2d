"""torchcodec: decoding on an NVIDIA GPU (NVDEC), or on the CPU where it is asked for by name."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch

from hem.errors import HemError
from hem.video.cut_off import missing_bytes
from hem.video.packets import increasing, packet_times, sure_frames
from hem.video.pyav_source import probe_stream
from hem.video.reader import DecoderFailed, FrameReader, RawFrame, ReaderUnsuited, Selection

_CHUNK = 8
_INSTALL = "install it with: pip install 'hem-video[gpu-video]' (it needs the system's FFmpeg libraries)"


def missing_for_cuda() -> str | None:
    """Return what keeps this machine from decoding on the GPU, or None if nothing does."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        _module()
    except HemError as error:
        return str(error)
    return None


class TorchcodecReader(FrameReader):
    """Reads through torchcodec, in exact mode (it scans the file's packets first), forward.

    Args:
        path, fps, selection, threads: as in PyavReader (threads only on the CPU).
        device: ``cuda`` gives uint8 (3, H, W) tensors on the GPU, ``cpu`` arrays like other readers.

    GPU pixels differ slightly from the CPU's: NVDEC decodes the same, the colour conversion rounds
    otherwise.

    Raises:
        ReaderUnsuited: for rotated and cut-off files, and those whose packets and frames do not fit.
        DecoderFailed: where decoding stops at damage.
        HemError: if torchcodec is not installed.
    """

    def __init__(
        self, path: str, fps: float, selection: Selection, threads: int = 0, device: str = "cpu"
    ) -> None:
        facts = probe_stream(path)
        super().__init__(path, fps if fps > 0 else facts.fps, selection)
        if facts.rotation or not facts.has_times:
            raise ReaderUnsuited("torchcodec is not trusted with rotated files or files without timestamps")
        if sure_frames(path) < sys.maxsize:
            raise ReaderUnsuited(f"the file is {missing_bytes(path)} bytes short")
        self._times = packet_times(path)
        self._device = device
        options: dict[str, Any] = {"device": device, "seek_mode": "exact", "dimension_order": "NCHW"}
        if device == "cpu":
            options |= {"num_ffmpeg_threads": threads, "dimension_order": "NHWC"}
        decoders = _module()
        try:
            self._decoder: Any = decoders.VideoDecoder(path, **options)
        except (RuntimeError, ValueError) as error:
            raise ReaderUnsuited(f"torchcodec cannot open it ({str(error).splitlines()[0][:200]})") from None
        if len(self._decoder) != len(self._times) or not increasing(self._times):
            raise ReaderUnsuited("torchcodec's frame count does not fit the file's packets")

    def frames(self) -> Iterator[RawFrame]:
        """See FrameReader.frames."""
        total = len(self._times)
        for first in range(0, total, _CHUNK):
            if self.selection.is_past(first):
                return
            indices = range(first, min(first + _CHUNK, total))
            wanted = [index for index in indices if self.selection.wants(index)]
            pixels = self._chunk(wanted)
            for index in indices:
                if self.selection.is_past(index):
                    return
                yield RawFrame(index, self._times[index], pixels.get(index))
        self.n_frames = total

    def _chunk(self, wanted: list[int]) -> dict[int, Any]:
        if not wanted:
            return {}
        try:
            data = self._decoder.get_frames_at(wanted).data
        except (RuntimeError, IndexError) as error:
            raise DecoderFailed(f"torchcodec: {(str(error).splitlines() or [''])[0][:200]}") from None
        rows = data if self._device != "cpu" else np.asarray(data)
        return dict(zip(wanted, rows, strict=True))

    def close(self) -> None:
        """Free the decoder."""
        self._decoder = None


def _module() -> ModuleType:
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise HemError(f"torchcodec is not usable here ({first}); {_INSTALL}") from None
    return decoders
