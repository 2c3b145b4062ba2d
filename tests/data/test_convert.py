import json
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hem.compose import conf_dir
from hem.config import ConvertConfig, check
from hem.convert import convert
from hem.data.bdd100k import Bdd100k
from hem.data.coco_json import CocoJson
from hem.data.convert import to_coco_json


@pytest.mark.parametrize(
    "name", ["coco", "penn", "wider", "fddb", "caltech", "city", "voc", "bdd", "mot", "yolo"]
)
def test_every_format_comes_back_the_same(formats, fake, name):
    data = formats[name].open(fake(name))
    counts = to_coco_json(data, data.root / "out.json")
    again = CocoJson(data.root, "out.json", ".", classes=data.class_names)
    assert again.image_ids == data.image_ids and again.groups == data.groups
    assert counts["images"] == len(data) and counts["boxes"] == sum(data.box_counts.values())
    regions = 0
    for index in range(len(data)):
        before, after = data.record(index), again.record(index)
        assert before.size == after.size
        assert torch.allclose(before.target.boxes_xyxy, after.target.boxes_xyxy, atol=1e-4)
        assert torch.equal(before.target.labels, after.target.labels)
        assert torch.allclose(before.target.ignore_xyxy, after.target.ignore_xyxy, atol=1e-4)
        assert before.ignore_labels.tolist() == after.ignore_labels.tolist()
        regions += len(before.ignore_labels)
    assert counts["ignore_regions"] == regions


def test_pycocotools_reads_it(fake, tmp_path):
    from pycocotools.coco import COCO

    data = Bdd100k(fake("bdd"), classes=["rider", "pedestrian"])
    to_coco_json(data, tmp_path / "out.json")
    coco = COCO(str(tmp_path / "out.json"))
    assert len(coco.imgs) == 3
    # of the first two images each: a crowd of one class, and a region for both classes
    assert sum(one["iscrowd"] for one in coco.anns.values()) == 6


def twice(root, old, new):
    """Make the test part of a fake dataset out of its training part."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and old in name:
            target = root / name.replace(old, new)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


TEST_PARTS = {
    "wider_face": (
        "wider",
        lambda root: (twice(root, "WIDER_train", "WIDER_val"), twice(root, "_train_", "_val_")),
    ),
    "fddb": ("fddb", lambda root: None),
    "caltech": ("caltech", lambda root: twice(root, "set00", "set06")),
    "voc": ("voc", lambda root: twice(root, "trainval.txt", "test.txt")),
    "mot": ("mot", lambda root: None),
    "city_persons": ("city", lambda root: twice(root, "/train/", "/val/")),
    "bdd100k": ("bdd", lambda root: (twice(root, "/train/", "/val/"), twice(root, "det_train", "det_val"))),
    "yolo": ("yolo", lambda root: twice(root, "/train/", "/val/")),
    "coco": ("coco", lambda root: twice(root, "train2017", "val2017")),
    "penn_fudan": ("penn", lambda root: None),
}
MORE = {"mot": ["data.test_sequences=[B-02]", "data.every=1"]}


@pytest.mark.parametrize("name", TEST_PARTS)
def test_one_command_converts_every_dataset(fake, tmp_path, name, capsys):
    short, add = TEST_PARTS[name]
    root = fake(short)
    add(root)
    for number in range(11) if name == "caltech" else ():
        (root / f"annotations/set{number:02d}").mkdir(exist_ok=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = [
            f"data={name}",
            f"data.root={root}",
            f"output_dir={tmp_path / 'out'}",
            *MORE.get(name, []),
        ]
        config = OmegaConf.to_container(compose("convert", overrides), resolve=True)
    convert(check(ConvertConfig, config))
    said = capsys.readouterr().err
    for part in ("train", "test"):
        document = json.loads((tmp_path / f"out/{part}.json").read_text())
        assert document["images"] and document["categories"]
        assert f"{part}.json: {len(document['images'])} images" in said
    whole = sorted(path.name for path in (tmp_path / "out").glob("miss_rate_*.json"))
    assert bool(whole) == (name in ("caltech", "city_persons"))
    if name == "caltech":
        rows = json.loads((tmp_path / "out/miss_rate_test.json").read_text())["annotations"]
        # a person at the picture's very edge and "people" are ignored, "person?" is left out
        assert [(one["bbox"][0], one["ignore"]) for one in rows] == [(1, 1), (19, 1), (49, 1), (10, 1)]
        assert rows[3]["vis_ratio"] == 0.5 and rows[3]["height"] == 40
