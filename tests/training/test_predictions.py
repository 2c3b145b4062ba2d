"""Detections on held-out video: found again under the names that the videos have now."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hem.config import VideoConfig
from hem.training import experiment as module
from hem.training.experiment import Experiment
from hem.training.stages import StageStore
from hem.video.manifest import scan_videos


def experiment_on(videos: Path, store: Path, images: Any, make_tiny: Any, monkeypatch: Any) -> Experiment:
    config = SimpleNamespace(
        trainer=SimpleNamespace(accelerator="cpu"),
        video=VideoConfig(),
        evaluation=SimpleNamespace(floor_score=0.05, batch_size=4),
    )
    data = SimpleNamespace(test=images, heldout_digest="stills", class_names=("thing",))
    parts: Any = SimpleNamespace(
        config=config,
        data=data,
        videos=(),
        heldout=scan_videos(videos).videos,
        progress=lambda *step: None,
    )
    monkeypatch.setattr(module, "load_checkpoint", lambda path: SimpleNamespace(digest="weights"))
    monkeypatch.setattr(Experiment, "load", lambda self, path: make_tiny())
    return Experiment(parts, StageStore(store))


def ids_of(experiment: Experiment) -> list[tuple[str, str]]:
    folder = experiment.predictions("arm", Path("checkpoint.pt"))
    found = experiment.heldout_detections(folder)
    return [(one.video.video_id, Path(one.video.path).name) for one in found]


def test_videos_of_equal_content_each_have_their_detections(
    tmp_path: Path, write_cut_video, images, make_tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    first = write_cut_video(tmp_path / "videos" / "a.mp4")
    for name in ("b.mp4", "c.mp4"):
        shutil.copy(first, first.with_name(name))
    ask = lambda: experiment_on(  # noqa: E731
        tmp_path / "videos", tmp_path / "store", images, make_tiny, monkeypatch
    )
    assert ids_of(ask()) == [(name, name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    (tmp_path / "videos" / "c.mp4").rename(tmp_path / "videos" / "d.mp4")  # not the first of its content
    assert ids_of(ask()) == [(name, name) for name in ("a.mp4", "b.mp4", "d.mp4")]


def test_a_renamed_video_is_found_under_its_new_name(
    tmp_path: Path, write_cut_video, images, make_tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    first = write_cut_video(tmp_path / "videos" / "a.mp4")
    ask = lambda: experiment_on(  # noqa: E731
        tmp_path / "videos", tmp_path / "store", images, make_tiny, monkeypatch
    )
    assert ids_of(ask()) == [("a.mp4", "a.mp4")]
    first.rename(first.with_name("b.mp4"))
    assert ids_of(ask()) == [("b.mp4", "b.mp4")]
    assert len(list((tmp_path / "store").glob("predictions-*"))) == 1  # nothing was detected again
