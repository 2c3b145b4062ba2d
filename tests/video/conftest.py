"""Small videos made on the spot, sound and damaged."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from hem.video.writer import write_video

Pixels = list[np.ndarray]


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
