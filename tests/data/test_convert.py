import pytest
import torch

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
