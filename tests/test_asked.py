"""Paths, names and checkpoints in the place of objects in Python, and what cannot be meant."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hem
from hem.api import mine_evidence
from hem.asked import preset_of, videos_of
from hem.detectors.wrapped import WrappedDetector
from hem.errors import HemError
from hem.mining.presets import Hem, Paper
from hem.settings import preset
from hem.structures import VideoInfo
from hem.video.manifest import scan_videos
from hem.video.writer import write_video


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), dtype=np.uint8)
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4", iter(pictures), fps=10)
    return folder


def nothing(images):
    return [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)} for _ in images]


def wrapped():
    return WrappedDetector(nothing, class_names=["person"], name="finds nothing")


def test_texts_do_what_objects_do(clips, tmp_path):
    plain = hem.mine_videos(str(clips), "hem", detector=wrapped(), output_dir=str(tmp_path / "plain"))
    built = hem.mine_videos(
        scan_videos(clips).videos, preset("hem"), detector=wrapped(), output_dir=tmp_path / "built"
    )
    assert plain.rows == built.rows and [row["frames"] for row in plain.rows] == [8, 8]
    again = mine_evidence(str(tmp_path / "plain"), "temporal", output_dir=str(tmp_path / "again"))
    assert again.rows == plain.rows


@pytest.mark.parametrize("how", [str, Path, lambda one: [one], lambda one: [str(one)], scan_videos])
def test_videos_are_named_in_every_way(clips, tmp_path, how):
    assert [one.video_id for one in videos_of(how(clips), tmp_path).videos] == ["one.mp4", "two.mp4"]


def test_what_cannot_be_read_in_a_folder_is_in_the_summary(clips, tmp_path):
    (clips / "broken.mp4").write_bytes(b"no video")
    result = hem.mine_videos(clips, detector=wrapped(), output_dir=tmp_path / "out")
    assert [row["video"] for row in result.rows if row["gaps"]] == ["broken.mp4"]


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        ([], "the list is empty"),
        ([VideoInfo("a", width=8, height=8), "b.mp4"], "either paths or VideoInfos"),
        ([3], "got int"),
    ],
)
def test_videos_that_cannot_be_meant(videos, said, tmp_path):
    with pytest.raises(HemError, match=said):
        videos_of(videos, tmp_path)


def test_presets_by_name():
    assert isinstance(preset_of("hem"), Hem) and preset_of(Paper()) == Paper()
    with pytest.raises(HemError, match="did you mean"):
        preset_of("papr")
    with pytest.raises(HemError, match="got int"):
        preset_of(3)


def test_a_bare_network_is_told_what_it_lacks(clips, tmp_path):
    with pytest.raises(HemError, match="WrappedDetector"):
        hem.mine_videos(clips, detector=nothing, output_dir=tmp_path / "out")


def test_a_checkpoint_by_its_path(clips, tmp_path):
    missing = tmp_path / "no.ckpt"
    with pytest.raises(HemError, match=str(missing)):
        hem.mine_videos(clips, detector=str(missing), output_dir=tmp_path / "out")


def test_one_class_may_be_given_as_a_text(clips, tmp_path):
    found = tmp_path / "found.txt"
    found.write_text("\n".join(f"one/{k + 1}.jpg\n1\n10 10 20 30 0.9" for k in range(8)) + "\n")
    video = clips / "one.mp4"
    result = hem.mine_videos(video, detections=str(found), class_names="person", output_dir=tmp_path / "out")
    assert result.evidence[0].detections.class_names == ("person",)
