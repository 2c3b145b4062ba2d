"""The key of a stage follows what files hold, not what they are called or where they lie."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from hem.artifacts import files
from hem.config import OptimConfig, StageConfig, TrainerConfig, VideoConfig
from hem.data.bundle import DataBundle
from hem.data.coco_json import CocoJson
from hem.training.experiment import Experiment
from hem.training.keys import with_contents
from hem.training.stages import StageStore

STAGE = StageConfig(steps=2, steps_per_epoch=2, batch_size=1, optim=OptimConfig())


def write_images(root: Path, grey: int = 100) -> Path:
    images = [{"id": k, "file_name": f"{k}.png", "width": 9, "height": 9} for k in range(3)]
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 5, 5]} for k in range(3)]
    root.mkdir()
    for one in images:
        Image.new("L", (9, 9), grey + one["id"]).save(root / one["file_name"])
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (root / "labels.json").write_text(json.dumps(document))
    return root


def baseline_of(store: Path, root: Path, **detector: Any) -> Path:
    """Return where a new process would look for the baseline of these settings and images."""
    images = CocoJson(root, annotations="labels.json", images=".")
    config = SimpleNamespace(
        trainer=TrainerConfig(baseline=STAGE, extra=STAGE, accelerator="cpu"),
        video=VideoConfig(),
        seed=0,
        detector=detector,
        augment={},
    )
    parts: Any = SimpleNamespace(config=config, data=DataBundle(images, images), videos=())
    experiment = Experiment(parts, StageStore(store))
    return experiment.store.path("baseline", experiment._baseline_key())


def test_an_edited_image_trains_anew_and_a_moved_folder_does_not(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images")
    first = baseline_of(tmp_path / "store", root)
    os.utime(root / "1.png", (1, 1))  # touched, and still the same
    assert baseline_of(tmp_path / "store", root) == first
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    assert baseline_of(tmp_path / "store", moved) == first
    Image.new("L", (9, 9), 7).save(root / "1.png")
    assert baseline_of(tmp_path / "store", root) != first
    assert baseline_of(tmp_path / "store", moved) == first


@pytest.mark.parametrize("key", ["weights", "backbone_weights"])
def test_replaced_weights_train_anew_and_moved_ones_do_not(tmp_path: Path, key: str) -> None:
    root, file, other = write_images(tmp_path / "images"), tmp_path / "a.pth", tmp_path / "b.pth"
    file.write_bytes(b"first")
    first = baseline_of(tmp_path / "store", root, **{key: str(file)})
    assert baseline_of(tmp_path / "store", root, **{key: str(file)}) == first
    shutil.copy(file, other)
    assert baseline_of(tmp_path / "store", root, **{key: str(other)}) == first
    file.write_bytes(b"other weights")
    assert baseline_of(tmp_path / "store", root, **{key: str(file)}) != first


def test_names_stay_names_and_folders_go_by_all_their_files(tmp_path: Path) -> None:
    plain = {"weights": "COCO_V1", "backbone": "resnet50_fpn", "size": 320, "backbone_weights": None}
    assert with_contents(plain) == plain
    assert with_contents({"weights": ""}) == {"weights": ""}
    assert with_contents({"weights": "PekingU/rtdetr_r50vd"}) == {"weights": "PekingU/rtdetr_r50vd"}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = with_contents({"network": {"weights": str(folder)}, "folder": str(folder)})
    assert before["folder"] == str(folder)  # may hold anything, and any amount of it
    assert before["network"]["weights"].startswith("sha256:")
    (folder / "model.bin").write_bytes(b"1")
    assert with_contents({"network": {"weights": str(folder)}})["network"] != before["network"]


def test_a_file_is_read_once_while_it_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = files.sha256_file

    def watched(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(files, "sha256_file", watched)
    root = write_images(tmp_path / "images")
    for _ in range(2):
        baseline_of(tmp_path / "store", root)
    assert sorted(read) == ["0.png", "1.png", "2.png"]
