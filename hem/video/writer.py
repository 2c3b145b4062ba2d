"""Writing a video file from frames."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from hem.artifacts import whole_file
from hem.errors import HemError

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
_VARIABLE_RATE_BASE = Fraction(1, 90000)


def write_video(
    path: str | Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    codec: str = "libx264",
    crf: float | None = 23,
    bit_rate: int | None = None,
    gop: int | None = None,
    preset: str | None = "veryfast",
    times_s: Sequence[float] | None = None,
    rotation: int = 0,
) -> int:
    """Encode frames to a file that is whole or not there; return how many were written.

    The same frames and settings give the same bytes with the same encoder build (one thread, no
    dates). Frames of even size are stored as yuv420p, others as yuv444p, which 4:2:0 cannot hold.

    Args:
        path: its suffix chooses the container: .mp4 .m4v .mov .mkv .webm .avi.
        frames: uint8 (H, W, 3) RGB, all of one size; taken one at a time.
        fps: > 0.
        codec: an FFmpeg encoder; ``crf`` and ``preset`` are given to x264 and x265 only.
        crf: quality, 0 (lossless) to 51; larger is smaller and worse. Ignored if ``bit_rate`` is set.
        bit_rate: bits per second.
        gop: frames between key frames; None leaves it to the encoder. Smaller: a damaged file loses
            less, the file is larger.
        times_s: strictly increasing seconds for a variable frame rate, as many as there are frames.
        rotation: degrees counter-clockwise by which players turn the picture (0, 90, 180, 270).

    Raises:
        HemError: for an unknown suffix or encoder, no frames, frames of different size or type, or
            times that do not fit.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise HemError(f"{path}: write to one of {', '.join(_FORMATS)}")
    if not fps > 0:
        raise HemError(f"{path}: fps must be > 0, got {fps}")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise HemError(f"{path}: there is no frame to write")
    _check(path, first, first.shape)
    with whole_file(path) as temporary:
        try:
            with av.open(str(temporary), "w", format=_FORMATS[path.suffix.lower()]) as container:
                stream = _stream(container, codec, fps, first.shape, crf, bit_rate, gop, preset)
                if times_s is not None:
                    stream.codec_context.time_base = _VARIABLE_RATE_BASE
                if rotation and not hasattr(stream, "set_display_rotation"):
                    raise HemError(f"{path}: writing a rotation needs PyAV 18 or newer")
                if rotation:
                    stream.set_display_rotation(rotation)
                return _encode(path, container, stream, chain([first], iterator), first.shape, times_s)
        except (av.FFmpegError, av.codec.codec.UnknownCodecError, ValueError) as error:
            raise HemError(f"{path} cannot be written with {codec} ({error})") from error


def _stream(
    container: OutputContainer,
    codec: str,
    fps: float,
    shape: tuple[int, ...],
    crf: float | None,
    bit_rate: int | None,
    gop: int | None,
    preset: str | None,
) -> VideoStream:
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(100_000))
    if not isinstance(stream, VideoStream):
        raise HemError(f"{codec} does not encode video")
    height, width = shape[:2]
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    options: dict[str, str] = {}
    if codec in ("libx264", "libx265"):
        if preset is not None:
            options["preset"] = preset
        if crf is not None and bit_rate is None:
            options["crf"] = str(crf)
    if bit_rate is not None:
        stream.codec_context.bit_rate = bit_rate
    if gop is not None:
        stream.codec_context.gop_size = gop
    stream.codec_context.thread_count = 1
    stream.codec_context.options = options
    return stream


def _encode(
    path: Path,
    container: OutputContainer,
    stream: VideoStream,
    frames: Iterable[NDArray[np.uint8]],
    shape: tuple[int, ...],
    times_s: Sequence[float] | None,
) -> int:
    count, last = 0, -1
    for count, pixels in enumerate(frames, start=1):
        _check(path, pixels, shape)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if times_s is not None:
            if count > len(times_s) or (pts := round(times_s[count - 1] / _VARIABLE_RATE_BASE)) <= last:
                raise HemError(f"{path}: times_s must be strictly increasing, one for each frame")
            frame.pts, frame.time_base, last = pts, _VARIABLE_RATE_BASE, pts
        for packet in stream.encode(frame):
            container.mux(packet)
    if times_s is not None and count != len(times_s):
        raise HemError(f"{path}: {len(times_s)} times for {count} frames")
    for packet in stream.encode():
        container.mux(packet)
    return count


def _check(path: Path, pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape != shape:
        raise HemError(
            f"{path}: frames must be uint8 (H, W, 3) of one size, got {pixels.dtype} {pixels.shape} "
            f"after {shape}"
        )
