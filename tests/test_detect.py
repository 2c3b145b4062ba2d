"""hem.detect: what it says of lost frames, overlays frame by frame, and how it ends on SIGTERM."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hem import detect
from hem.artifacts import load_detections
from hem.config import VideoConfig
from hem.detect import draw_overlay, shown_times
from hem.detectors.retinanet import RetinaNet
from hem.structures import FrameGap, VideoDetections
from hem.training.checkpoint import save_checkpoint
from hem.training.videos import Videos
from hem.video.manifest import probe
from hem.video.writer import write_video

ROOT = Path(__file__).parents[1]
FRAMES, SIDE = 60, 96
SETTINGS = {"backbone": "mobilenetv3_small_050", "strides": [8, 16], "min_size": 96, "max_size": 96}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained detector that finds something everywhere."""
    path = tmp_path_factory.mktemp("checkpoint") / "one.pt"
    torch.manual_seed(0)
    node = {"_target_": "hem.detectors.retinanet.RetinaNet", "prior": 0.3, **SETTINGS}
    save_checkpoint(path, RetinaNet(class_names=("face",), prior=0.3, **SETTINGS), node, {})
    return path


@pytest.fixture
def run(run_command, checkpoint):
    return partial(run_command, detect, "floor_score=0.3", f"checkpoint={checkpoint}")


def noise(n: int = FRAMES) -> list[np.ndarray]:
    """Return pictures of coarse noise, which survive encoding, none like another."""
    cells = np.random.default_rng(0).integers(0, 255, (n, SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    return list(cells.repeat(8, axis=1).repeat(8, axis=2))


def with_a_corrupt_middle(path: Path) -> Path:
    """Write a video of FRAMES frames of which frames 20 to 24 or more do not decode."""
    write_video(path, noise(), fps=10, gop=10)
    with av.open(str(path)) as container:
        places = [(int(p.pos), int(p.size)) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for offset, size in places[20:25]:
        data[offset : offset + size] = bytes(size)
    path.write_bytes(bytes(data))
    return path


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures of a video, (N, H, W, 3), and their times in seconds, (N,)."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (
            np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
            np.array([float(frame.time or 0.0) for frame in frames]),
        )


def test_frames_that_were_lost_are_said_and_overlays_keep_their_numbers(run, tmp_path) -> None:
    path, out = with_a_corrupt_middle(tmp_path / "videos" / "two.mp4"), tmp_path / "out"
    command = [f"videos={path}", f"output_dir={out}", "overlay=true", "overlay_score=0.99"]
    for _ in range(2):  # the second time the file is there, and has the same gaps
        status, said = run(*command)
        gaps = load_detections(out / "two.mp4.parquet").gaps
        assert status == 0 and gaps and all(gap.end_frame is not None for gap in gaps)
        for gap in gaps:
            assert f"two.mp4: frames {gap.first_frame}..{(gap.end_frame or 0) - 1}: {gap.reason}\n" in said
    lost = [k for gap in gaps for k in range(gap.first_frame, gap.end_frame or 0)]
    assert 5 <= len(lost) < FRAMES // 2
    pictures, times = decoded(out / "two.mp4.overlay.mp4")
    np.testing.assert_allclose(times, np.arange(FRAMES) / 10, atol=1e-4)
    far = [
        float(np.abs(shown[SIDE // 2 :].astype(int) - given[SIDE // 2 :]).mean())
        for shown, given in zip(pictures, noise(), strict=True)
    ]
    assert max(far[k] for k in range(FRAMES) if k not in lost) < min(far[k] for k in lost) / 3
    before = lost[0] - 1
    same, bar = (np.abs(pictures[before].astype(int) - pictures[lost[0]]).mean(axis=(1, 2)) for _ in "ab")
    assert same[SIDE // 2 :].max() < 15 < bar[:6].min()  # the picture before, with a note along its top


def test_a_video_that_breaks_off_says_so_once(run, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, noise(12), fps=10)
    real = VideoDetections.from_frames

    def broken_off(*given, gaps, **more):
        return real(*given, gaps=(FrameGap(12, None, "the file ends"),), **more)

    monkeypatch.setattr(VideoDetections, "from_frames", broken_off)
    status, said = run(f"videos={path}", f"output_dir={tmp_path / 'out'}")
    assert status == 0 and said.count("a.mp4: frames 12..end: the file ends\n") == 1


def test_an_overlay_is_as_long_as_its_video_also_at_a_variable_rate(tmp_path) -> None:
    times = np.cumsum([0.0, *np.where(np.arange(45) % 3 == 0, 0.24, 0.04)])
    path = tmp_path / "a.mp4"
    write_video(path, noise(46), fps=25, times_s=list(times))
    video = probe(path, "a.mp4")
    found = VideoDetections.from_frames(video, [], times)
    draw_overlay(tmp_path / "o.mp4", Videos([video], VideoConfig()), video, found, [], 0.5)
    np.testing.assert_allclose(decoded(tmp_path / "o.mp4")[1], times, atol=1e-4)
    with av.open(str(tmp_path / "o.mp4")) as overlay, av.open(str(path)) as given:
        assert overlay.duration == pytest.approx(given.duration, abs=100_000)  # microseconds


def test_frames_lost_before_the_first_and_after_the_last_picture_are_there_too(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, noise(4), fps=10)
    video = probe(path, "a.mp4")

    class Source:
        """Gives frames 0 to 3 of the file as frames 2 to 5."""

        def __init__(self) -> None:
            self.source = Videos([video], VideoConfig()).source(video)

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            self.source.close()

        def __iter__(self):
            for batch in self.source:
                batch.frame_indices.add_(2)
                yield batch

    class Shifted(Videos):
        def source(self, video, grey=False):
            return Source()

    times = np.array([np.nan, np.nan, 0.2, 0.3, 0.4, 0.5, np.nan])
    found = VideoDetections.from_frames(video, [], times, gaps=(FrameGap(0, 2, "x"), FrameGap(6, 7, "x")))
    draw_overlay(tmp_path / "o.mp4", Shifted([video], VideoConfig()), video, found, [], 0.5)
    pictures, shown = decoded(tmp_path / "o.mp4")
    np.testing.assert_allclose(shown, np.arange(7) / 10, atol=1e-4)
    for grey in pictures[:2]:
        assert np.abs(grey[SIDE // 2 :].astype(int) - 128).max() < 12
    assert np.abs(pictures[6][SIDE // 2 :].astype(int) - pictures[5][SIDE // 2 :]).mean() < 15


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([np.nan, np.nan], [0, 0.1]),
        ([0.0, np.nan, 1.0, np.nan], [0, 0.5, 1, 1.1]),
        ([np.nan, 0.02, 0.12], [0, 0.1, 0.2]),  # nothing is shown before the beginning
        ([0.0, 1e-7, 2e-7], [0, 1 / 90_000, 2 / 90_000]),
    ],
)
def test_shown_times(times: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(shown_times(np.array(times), 10.0), expected, atol=1e-9)


def test_its_own_overlays_are_not_taken_for_videos(run, tmp_path) -> None:
    videos = tmp_path / "videos"
    write_video(videos / "sub" / "two.mp4", noise(6), fps=10)
    for output in (videos, videos / "out", videos):
        status, said = run(f"videos={videos}", f"output_dir={output}", "overlay=true")
        assert status == 0
    overlays = ["out/sub/two.mp4.overlay.mp4", "sub/two.mp4.overlay.mp4"]
    for one in overlays:
        assert f"skipped {videos / one}: boxes drawn over sub/two.mp4, which is among the videos\n" in said
    written = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4"))
    assert written == sorted([*overlays, "sub/two.mp4"])


def test_sigterm_ends_a_pass_as_an_interrupt_does(checkpoint, tmp_path) -> None:
    write_video(tmp_path / "long.mp4", noise(240), fps=10)
    code = "import hem.training.answers as a; a.EVERY_S = 0.0; from hem.detect import main; main()"
    out = tmp_path / "out"
    settings = [f"videos={tmp_path / 'long.mp4'}", f"checkpoint={checkpoint}", f"output_dir={out}"]
    command = [sys.executable, "-c", code, *settings]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list(out.glob(".*.answers/*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "the same command goes on from there" in said and "Traceback" not in said
    assert list(out.glob(".*.answers/*.parquet")) and not list(out.glob("*.parquet"))
    assert not list(out.glob(".*.answers/*.part"))
