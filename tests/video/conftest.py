"""Small videos made on the spot, sound and damaged."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hem.structures import VideoInfo, VideoReport
from hem.video.source import open_source
from hem.video.writer import write_video

FramesOf = Callable[..., tuple[dict[int, np.ndarray], VideoReport, dict[int, float]]]


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A textured moving picture in which every frame differs."""
    rng = np.random.default_rng(7)
    base = rng.integers(0, 256, (height // 4 + 40, width // 4 + 80, 3), dtype=np.uint8)
    large = base.repeat(4, axis=0).repeat(4, axis=1)
    frame = large[index % 60 : index % 60 + height, 2 * index % 200 : 2 * index % 200 + width].copy()
    frame[4:12, 4:12] = (index * 5) % 256
    return frame


@pytest.fixture(autouse=True)
def quiet_ffmpeg() -> Iterator[None]:
    av.logging.set_level(None)
    yield


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Return a function: (name, frames, height, width, **settings of write_video) -> path."""

    def make(name: str = "a.mp4", n: int = 40, height: int = 48, width: int = 64, **settings: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = {"gop": 10, "crf": 10, **settings}
        frames = (picture(index, height, width) for index in range(n))
        write_video(path, frames, settings.pop("fps", 25), **settings)  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture
def encode() -> Callable[..., Path]:
    """Return a function that writes pictures with any codec into any container, see _encode."""
    return _encode


def _encode(
    path: Path,
    codec: str,
    pictures: Iterable[np.ndarray],
    *,
    kind: str | None = None,
    pixels: str = "yuv420p",
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    of_container: dict[str, str] | None = None,
    times_ms: Iterable[int] | None = None,
    sound: str | None = None,
) -> Path:
    """Write uint8 (H, W, 3) pictures at 25 a second or at these times, with noise to hear beside them."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"no encoder {codec} here")
    times = [40 * k for k in range(len(pictures))] if times_ms is None else [*map(int, times_ms)]
    with av.open(str(path), "w", format=kind, options=of_container or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        heard = container.add_stream(sound, rate=16000) if sound else None
        samples = 0
        for time_ms, pixel in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
            while heard is not None and samples < 16 * time_ms:
                samples += _hear(container, heard, samples)
        container.mux(stream.encode(None))
        if heard is not None:
            container.mux(heard.encode(None))
    return path


def _hear(container: Any, stream: Any, samples: int) -> int:
    count = stream.codec_context.frame_size or 1024
    noise = np.random.default_rng(samples).normal(0, 0.2, (1, count)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 16000, samples, Fraction(1, 16000)
    wanted = av.AudioResampler(stream.codec_context.format.name, "mono", 16000)
    for one in wanted.resample(frame):
        container.mux(stream.encode(one))
    return count


@pytest.fixture
def frames_of() -> FramesOf:
    """Return a function: (path, **settings of open_source) -> pixels and times by number, and the report."""

    def read(path: Path, **settings: Any) -> tuple[dict[int, np.ndarray], VideoReport, dict[int, float]]:
        pixels, times = {}, {}
        with open_source(VideoInfo(path.name, path=str(path)), **settings) as source:
            for batch in source:
                for row, index in enumerate(batch.frame_indices.tolist()):
                    pixels[index] = batch.frames[row].numpy()
                    times[index] = float(batch.times_s[row])
        return pixels, source.report(), times

    return read


@pytest.fixture
def sound_only(tmp_path: Path) -> Path:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.fixture
def front_header(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that copies an MP4 with its header first, so that cutting it leaves a video."""

    def move(source: Path) -> Path:
        path = tmp_path / f"front_{source.name}"
        with (
            av.open(str(source)) as given,
            av.open(str(path), "w", options={"movflags": "faststart"}) as made,
        ):
            stream = made.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    made.mux(packet)
        return path

    return move


@pytest.fixture
def packet_places() -> Callable[[Path], list[tuple[int, int, bool]]]:
    """Return a function that lists (offset, size, is_keyframe) of every packet, in file order."""

    def places(path: Path) -> list[tuple[int, int, bool]]:
        with av.open(str(path)) as container:
            return [
                (int(p.pos), int(p.size), bool(p.is_keyframe)) for p in container.demux(video=0) if p.size
            ]

    return places
