"""A command that is refused leaves no folder behind in which nothing lies."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from hem.artifacts import whole_directory, whole_file
from hem.artifacts.places import require_writable
from hem.video.writer import write_video

TRAIN = ("train", "+experiment=quickstart", "name=refused", "store_dir=HERE/store", "logger.mode=disabled")
MINE = ("mine", "videos=HERE/clip.mp4")
EVALUATE = ("evaluate", "protocol=coco")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A video, detections that are damaged, and predictions that are."""
    folder = tmp_path_factory.mktemp("refused")
    noise = np.random.default_rng(0).integers(0, 255, (4, 32, 48, 3), dtype=np.uint8)
    write_video(folder / "clip.mp4", iter(noise), fps=10)
    (folder / "damaged.txt").write_text("name\nmany\n")
    (folder / "damaged.json").write_text("{")
    (folder / "replay").mkdir()
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        (*MINE, "detections=HERE/damaged.txt", "mining=temporal"),
        (*MINE, "detections=HERE/damaged.txt", "mining=paper"),
        (*MINE, "detections=HERE/nothing"),
        (*MINE, "checkpoint=HERE/nothing.pt"),
        (*MINE, "detections=HERE/damaged.txt", "mining.window=0"),
        ("mine", "evidence=HERE/nothing"),
        ("mine", "videos=HERE/nothing.mp4", "detections=HERE/damaged.txt"),
        (*TRAIN, "checkpoint=HERE/nothing.pt"),
        (*TRAIN, "mining.window=0"),
        (*TRAIN, "trainer.devices=2"),
        (*TRAIN, "videos=HERE/nothing"),
        ("detect", "videos=HERE/clip.mp4", "checkpoint=HERE/nothing.pt"),
        (*EVALUATE, "predictions=HERE/nothing.json", "ground_truth=HERE/damaged.json"),
        (*EVALUATE, "predictions=HERE/damaged.json", "ground_truth=HERE/damaged.json"),
        (*EVALUATE, "checkpoint=HERE/nothing.pt"),
        ("evaluate", "protocol.name=none", "predictions=HERE/damaged.json", "ground_truth=HERE/damaged.json"),
        ("export", "replay=HERE/nothing"),
        ("export", "replay=HERE/replay"),
        ("export", "replay=HERE/replay", "format=none"),
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:]),
)
def test_nothing_is_left(world, run_command, arguments):
    shutil.rmtree(world / "new", ignore_errors=True)
    before = sorted(world.rglob("*"))
    command, *settings = [one.replace("HERE", str(world)) for one in arguments]
    output = f"output_dir={world / 'new' / 'out'}"
    status, said = run_command(importlib.import_module(f"hem.{command}"), output, *settings)
    assert status == 2, said
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize("whole", [whole_file, whole_directory])
def test_folders_made_for_a_file_go_with_it_but_not_what_was_there(tmp_path, whole):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "a" / "b" / "c", tmp_path / "there" / "b"):
        with pytest.raises(RuntimeError), whole(path):
            raise RuntimeError
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there"]
    with pytest.raises(RuntimeError), whole(tmp_path / "a" / "b" / "c"):
        (tmp_path / "a" / "kept").write_text("by another")
        raise RuntimeError
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "kept", tmp_path / "there"]


@pytest.mark.parametrize("place", ["HERE/clip.mp4", "HERE/clip.mp4/below/it", "/proc/nobody/writes"])
@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((*MINE, "detections=HERE/damaged.txt"), "output_dir"),
        (("mine", "evidence=HERE/nothing"), "output_dir"),
        (("detect", "videos=HERE/clip.mp4", "checkpoint=HERE/nothing.pt"), "output_dir"),
        ((*EVALUATE, "predictions=HERE/damaged.json", "ground_truth=HERE/damaged.json"), "output_dir"),
        (("convert", "data=coco", "data.root=HERE"), "output_dir"),
        ((*TRAIN[:3], "logger.mode=disabled", "output_dir=HERE/new"), "store_dir"),
        (TRAIN, "hydra.run.dir"),
    ],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_a_place_that_nothing_can_be_written_to_is_named_before_any_work(
    world, run_command, arguments, key, place
):
    if place.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("there is no /proc, a folder in which not even the administrator can write")
    shutil.rmtree(world / "new", ignore_errors=True)
    before = sorted(world.rglob("*"))
    place = place.replace("HERE", str(world))
    command, *settings = [one.replace("HERE", str(world)) for one in arguments]
    status, said = run_command(importlib.import_module(f"hem.{command}"), *settings, f"{key}={place}")
    why = "nothing can be written there" if place.startswith("/proc") else "is a file, not a folder"
    assert status == 2 and f"{key}={place}" in said and why in said
    assert sorted(world.rglob("*")) == before


def test_a_folder_that_is_not_there_yet_is_fine_and_not_made(tmp_path, monkeypatch):
    require_writable(tmp_path / "a" / "b", "output_dir")
    monkeypatch.chdir(tmp_path)
    require_writable(Path("c/d"), "output_dir")
    require_writable(Path(), "output_dir")
    assert not list(tmp_path.iterdir())
