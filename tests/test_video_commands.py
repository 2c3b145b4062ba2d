"""hem.mine and hem.detect with a checkpoint, as commands: files, refusals, an interrupt and what goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hem import detect, mine
from hem.artifacts import load_detections, load_examples, read_json
from hem.detectors.retinanet import RetinaNet
from hem.training.checkpoint import save_checkpoint
from hem.video.writer import write_video

ROOT = Path(__file__).parents[1]
FRAMES, SIDE = 24, 96
SETTINGS = {"backbone": "mobilenetv3_small_050", "strides": [8, 16], "min_size": 96, "max_size": 96}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a video and two untrained detectors that find something everywhere."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    pictures = (rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(FRAMES))
    write_video(folder / "clip.mp4", pictures, fps=10)
    for seed, name in enumerate(("one.pt", "two.pt")):
        torch.manual_seed(seed)
        found = RetinaNet(class_names=("face",), prior=0.3, max_detections=12, **SETTINGS)
        node = {
            "_target_": "hem.detectors.retinanet.RetinaNet",
            "prior": 0.3,
            "max_detections": 12,
            **SETTINGS,
        }
        save_checkpoint(folder / name, found, node, {})
    return folder


@pytest.fixture
def run(run_command):
    return run_command


def detected(world: Path, output: Path, *more: str) -> list[str]:
    return [f"videos={world / 'clip.mp4'}", f"checkpoint={world / 'one.pt'}", f"output_dir={output}", *more]


def pictures_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_detect_writes_every_detection_and_draws_them_and_the_verdicts(world, tmp_path, run) -> None:
    mined, found = tmp_path / "mined", tmp_path / "found"
    assert run(mine, *detected(world, mined, "mining=score"))[0] == 0
    examples = load_examples(mined / "hard_examples.parquet")[0]
    assert examples
    assert run(detect, *detected(world, found, "overlay=true", "overlay_score=0.99"))[0] == 0
    detections = load_detections(found / "clip.mp4.parquet")
    assert detections.n_frames == FRAMES and len(detections)
    plain = pictures_of(found / "clip.mp4.overlay.mp4")
    again = detected(world, found, "overlay=true", "overlay_score=0.99")
    written = (found / "clip.mp4.parquet").stat().st_mtime_ns
    assert run(detect, *again, f"verdicts={mined / 'hard_examples.parquet'}")[0] == 0
    assert (found / "clip.mp4.parquet").stat().st_mtime_ns == written  # what is there is not done again
    drawn = pictures_of(found / "clip.mp4.overlay.mp4")
    assert len(plain) == len(drawn) == FRAMES
    changed = np.abs(plain.astype(int) - drawn).max(axis=(1, 2, 3)) > 100
    marked = {one.frame_index for one in examples}
    assert set(np.flatnonzero(changed).tolist()) == marked


def test_detections_of_another_detector_or_floor_are_not_taken_for_these(world, tmp_path, run) -> None:
    assert run(detect, *detected(world, tmp_path))[0] == 0
    kept = (tmp_path / "clip.mp4.parquet").read_bytes()
    status, said = run(detect, *detected(world, tmp_path), f"checkpoint={world / 'two.pt'}")
    assert status == 2 and "another detector" in said and "clip.mp4.parquet" in said
    status, said = run(detect, *detected(world, tmp_path, "floor_score=0.2"))
    assert status == 2 and "floor_score=0.05, not 0.2" in said
    other = tmp_path / "other" / "clip.mp4"
    write_video(other, (np.full((SIDE, SIDE, 3), t, dtype=np.uint8) for t in range(FRAMES)), fps=10)
    status, said = run(detect, *detected(world, tmp_path), f"videos={other}")
    assert status == 2 and "another video of the same name" in said
    assert (tmp_path / "clip.mp4.parquet").read_bytes() == kept


def test_mine_says_how_long_and_what_it_found(world, tmp_path, run) -> None:
    status, said = run(mine, *detected(world, tmp_path))
    assert status == 0
    assert f"{FRAMES}/{FRAMES} frames" in said
    row = read_json(tmp_path / "mining.json", "mining")["videos"][0]
    assert row["video"] == "clip.mp4" and row["frames"] == FRAMES and row["detections"] > 0
    status, said = run(mine, *detected(world, tmp_path), f"checkpoint={world / 'two.pt'}")
    assert status == 2 and "another detector" in said


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_goes_on(world, tmp_path, sent, status) -> None:
    rng = np.random.default_rng(1)
    long = tmp_path / "long.mp4"
    write_video(long, (rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(200)), fps=10)
    code = "import hem.training.answers as a; a.EVERY_S = 0.0; from hem.mine import main; main()"
    settings = [
        "collect.variants=[]",
        f"videos={long}",
        f"checkpoint={world / 'one.pt'}",
        f"output_dir={tmp_path / 'out'}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *settings], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("evidence/.*.answers/*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "the same command goes on from there" in said
    notes = list((tmp_path / "out" / "evidence").glob(".*.answers/*.parquet"))
    assert notes and not list((tmp_path / "out" / "evidence").glob("*/detections.parquet"))
    again = [sys.executable, "-m", "hem.mine", *settings]
    finished = subprocess.run(again, capture_output=True, text=True, cwd=ROOT, check=False)
    assert finished.returncode == 0, finished.stderr
    assert not list((tmp_path / "out" / "evidence").glob(".*"))
    assert read_json(tmp_path / "out" / "mining.json", "mining")["videos"][0]["frames"] == 200
