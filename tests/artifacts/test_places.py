"""Paths in a run's records are found from any directory, after a move, and as earlier versions wrote them."""

from pathlib import Path

import numpy as np
import pytest

from hem.api import mine_evidence, mine_videos
from hem.artifacts import save_detections, save_examples, write_json
from hem.artifacts.places import RUN_DIR, read_stages
from hem.evaluate import checkpoints_of
from hem.reporting.provenance import arm_folders, explain, read_mined, replay_folders
from hem.reporting.review_source import read_reviewable
from hem.reporting.run_report import read_run
from hem.structures import VideoDetections, VideoInfo
from hem.video.writer import write_video


def make(root: Path, store: Path) -> Path:
    """A run in ``root`` whose stages lie in ``store``."""
    run = root / "name" / "seed_0"
    run.mkdir(parents=True)
    checkpoint = store / "arm-flickers-0" / "checkpoint.pt"
    (checkpoint.parent / "replay").mkdir(parents=True)
    checkpoint.touch()
    kept = {"flickers": str(checkpoint.resolve())}
    record = {RUN_DIR: str(run.resolve()), "checkpoints": kept, "evidence": None}
    write_json(run / "stages.json", "stages", record)
    return run


def test_a_run_and_its_store_move_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    make(Path("runs"), Path("runs/store"))
    Path("runs").rename("moved")
    monkeypatch.chdir("elsewhere")
    for run in (tmp_path / "moved/name/seed_0", Path("../moved/name/seed_0")):
        arm = (tmp_path / "moved/store/arm-flickers-0").resolve()
        assert checkpoints_of(run) == {"flickers": arm / "checkpoint.pt"}
        assert arm_folders(run) == {"flickers": arm}
        assert replay_folders(run) == {"flickers": arm / "replay"}
        assert read_stages(run)["evidence"] is None


def test_a_run_moved_alone_and_a_store_elsewhere_are_found(tmp_path: Path) -> None:
    run = make(tmp_path / "runs", tmp_path / "runs" / "store").rename(tmp_path / "alone")
    assert read_stages(run)["checkpoints"]["flickers"].is_file()
    far = tmp_path / "far" / "store"
    run = make(tmp_path / "other", far)
    assert checkpoints_of(run)["flickers"].is_file()


def test_records_of_earlier_versions_count_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make(Path("runs"), Path("runs/store"))
    old = "runs/store/arm-flickers-0/checkpoint.pt"
    write_json(run / "stages.json", "stages", {"checkpoints": {"flickers": old}, "evidence": None})
    assert checkpoints_of(run)["flickers"].is_file()


def test_the_evidence_of_a_moved_run_is_read_for_report_and_review(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, store = make(Path("runs"), Path("runs/store")), Path("runs/store")
    nothing = VideoDetections.from_frames(VideoInfo("a.mp4", width=64, height=64), [], np.zeros(1))
    save_detections(store / "evidence-0" / "a" / "detections.parquet", nothing)
    kept = str((store / "evidence-0").resolve())
    record = {RUN_DIR: str(run.resolve()), "videos": [], "evidence": kept}
    write_json(run / "measured.json", "measured", record)
    write_json(run / "summary.json", "summary", {"operating_point": None})
    write_json(run / "config.json", "config", {"config": {}})
    save_examples(run / "hard_examples.parquet", [], class_names=("face",))
    Path("runs").rename("moved")
    run = tmp_path / "moved" / "name" / "seed_0"
    assert read_run(run).evidence == (tmp_path / "moved/store/evidence-0").resolve()
    assert set(read_reviewable(run).videos) == {"a.mp4"}


def test_the_evidence_of_a_moved_mining_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = (np.full((48, 64, 3), 9 * k, dtype=np.uint8) for k in range(6))
    write_video(Path("a.mp4"), frames, fps=10)
    Path("a.txt").write_text("".join(f"{k}.jpg\n1\n5 5 20 20 0.9\n" for k in range(6)))
    mine_videos("a.mp4", "temporal", detections="a.txt", output_dir="mined")
    mine_evidence("mined", "temporal", output_dir="again")
    Path("runs").mkdir()
    for name in ("mined", "again"):
        Path(name).rename(f"runs/{name}")
    monkeypatch.chdir("/")
    for name in ("mined", "again"):
        found = read_reviewable(tmp_path / "runs" / name)
        assert list(found.detections) == ["a.mp4"]
        mined = read_mined(tmp_path / "runs" / name)
        (row,) = [one for one in mined.examples() if one.frame_index == 3]
        assert explain(mined, row)["evidence"]["detector"]
