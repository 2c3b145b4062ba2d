"""How fast each decoder delivers frames, side by side in one run.

    python experiments/benchmarks/decode_rate.py [--frames 300] [--rounds 3] [--video FILE]

Makes a 1280x720 and a 640x360 H.264 file, reads them in turn with every way that works here, and
prints frames per second (best round), the ratio to a bare PyAV loop of the same run, and CPU
milliseconds a frame (decoder processes included), which a busy machine disturbs least. The start-up of
the guarded worker is printed apart: it is paid once a video.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from hem.structures import VideoInfo
from hem.video.manifest import probe
from hem.video.source import open_source
from hem.video.writer import write_video

Run = Callable[[], int]


def moving_texture(height: int, width: int, n: int) -> Iterator[np.ndarray]:
    """Yield smooth random texture under a moving camera, with a moving square."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, ((height + n) // 16 + 2, (width + 2 * n) // 16 + 2, 3), dtype=np.uint8)
    large = coarse.repeat(16, axis=0).repeat(16, axis=1).astype(np.float32)
    for axis in (0, 1):
        total = np.cumsum(large, axis=axis)
        large = (total - np.roll(total, 16, axis=axis)) / 16
    texture = np.clip(large, 0, 255).astype(np.uint8)
    for k in range(n):
        frame = texture[16 + k // 4 : 16 + k // 4 + height, 16 + k : 16 + k + width].copy()
        frame[height // 3 : height // 2, (3 * k) % (width - 80) : (3 * k) % (width - 80) + 80] = 200
        yield frame


def bare_pyav(path: Path, thread_type: str) -> int:
    """Decode and convert, nothing else."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = thread_type
        return sum(frame.to_ndarray(format="rgb24").shape[0] > 0 for frame in container.decode(stream))


def bare_decord(path: Path) -> int:
    """Read one by one, nothing else."""
    import decord

    video = decord.VideoReader(str(path))
    return sum(video.next().asnumpy().shape[0] > 0 for _ in range(len(video)))


def through_source(video: VideoInfo, **settings: object) -> int:
    """Read through hem's frame source in batches of eight."""
    with open_source(video, batch_size=8, **settings) as source:  # type: ignore[arg-type]
        return sum(len(batch) for batch in source)


def ways(path: Path) -> dict[str, Run]:
    """Return every way to read that works on this machine."""
    video = probe(path)
    found: dict[str, Run] = {
        "bare PyAV, no threads": partial(bare_pyav, path, "NONE"),
        "bare PyAV, threads": partial(bare_pyav, path, "AUTO"),
        "hem pyav": partial(through_source, video, decoder="pyav"),
        "hem pyav, one thread": partial(through_source, video, decoder="pyav", threads=1),
        "hem pyav, guarded": partial(through_source, video, decoder="pyav", guard="always"),
    }
    if find_spec("decord"):
        found["bare decord"] = partial(bare_decord, path)
        found["hem decord, unguarded"] = partial(through_source, video, decoder="decord", guard="never")
        found["hem decord, guarded"] = partial(through_source, video, decoder="decord")
    if find_spec("torchcodec"):
        found["hem torchcodec (CPU)"] = partial(through_source, video, decoder="torchcodec")
    return found


def measure(path: Path, rounds: int) -> None:
    """Read in turns, print the table."""
    runs = ways(path)
    wall, cpu = dict.fromkeys(runs, np.inf), dict.fromkeys(runs, np.inf)
    count = 0
    for _ in range(rounds):
        for name, run in runs.items():
            before, started = os.times(), time.perf_counter()
            count = run()
            wall[name] = min(wall[name], time.perf_counter() - started)
            cpu[name] = min(cpu[name], sum(os.times()[:4]) - sum(before[:4]))
    reference = wall["bare PyAV, no threads"]
    video = probe(path)
    print(f"\n{path.name}: {video.width}x{video.height}, {count} frames, best of {rounds}")
    print(f"{'':26s}{'frames/s':>10s}{'ratio':>8s}{'CPU ms a frame':>16s}")
    for name in runs:
        rate, ratio, milliseconds = count / wall[name], reference / wall[name], 1000 * cpu[name] / count
        print(f"{name:26s}{rate:10.0f}{ratio:8.2f}{milliseconds:16.2f}")


def start_up(path: Path) -> float:
    """Return the seconds that the first frame of a guarded source takes."""
    started = time.perf_counter()
    with open_source(probe(path), batch_size=1, end_frame=1, guard="always") as source:
        list(source)
    return time.perf_counter() - started


def main() -> None:
    """Make the files and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--video", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, PyAV {av.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        files = list(arguments.video)
        for height, width in ((720, 1280), (360, 640)):
            files.append(Path(folder) / f"made_{height}p.mp4")
            write_video(files[-1], moving_texture(height, width, arguments.frames), 25)
        for path in files:
            measure(path, arguments.rounds)
        print(f"\nstart-up of a guarded source: {start_up(files[-1]):.2f} s")


if __name__ == "__main__":
    main()
