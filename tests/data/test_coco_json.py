import json

import pytest

from hem.data.coco_json import CocoJson, coco
from hem.errors import HemError


def edit(root, change):
    path = root / "annotations/instances_train2017.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_boxes_crowds_and_labels_by_category_id(fake):
    data = CocoJson(fake("coco"))
    assert data.class_names == ("person", "dog")
    assert data.image_ids == ("train2017/0.jpg", "train2017/1.jpg", "train2017/2.jpg")
    first = data[0]
    assert first.image.shape == (3, 48, 64)
    assert first.target.boxes_xyxy.tolist() == [[1, 2, 11, 22], [30, 2, 40.5, 22]]
    assert first.target.labels.tolist() == [2, 1]
    assert data.target(1).ignore_xyxy.tolist() == [[0, 0, 40, 40]]
    assert len(data.target(1).boxes_xyxy) == 0, "a box of no width is left out"
    assert data.skips.counts == {"box without width or height": 1}
    assert data.target(2).fully_labelled


def test_annotations_of_no_category_are_counted(fake):
    root = fake("coco")
    edit(root, lambda d: d["annotations"][1].update(category_id=77))
    data = CocoJson(root)
    assert data.skips.counts["annotation of a category that is not listed"] == 1
    assert "annotations[1]" in str(data.skips)
    assert len(data.target(0).boxes_xyxy) == 1


def test_a_subset_of_classes_in_the_order_asked_for(fake):
    root = fake("coco")
    data = CocoJson(root, classes=["dog"])
    assert data.class_names == ("dog",)
    assert data.target(0).labels.tolist() == [1]
    assert len(data.target(1).ignore_xyxy) == 0, "a crowd of another class is background"
    assert CocoJson(root, classes=["dog"], keep_empty=False).image_ids == ("train2017/0.jpg",)
    with pytest.raises(HemError, match=r"classes \['dgo'\].*out of: dog, person"):
        CocoJson(root, classes=["dgo"])
    with pytest.raises(HemError, match="distinct"):
        CocoJson(root, classes=["dog", "dog"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].update(image_id=99), r"image_id 99 is not among"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "got 3 values"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, "x", 3]), "'x' is not a number"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 3]), r"annotations\[0\].*on_bad_box"),
        (lambda d: d["annotations"][0].update(bbox=[100, 2, 3, 3]), "wholly outside.*0.jpg, 64x48"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, float("nan"), 3]), "on_bad_box"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 10**400, 3]), "on_bad_box"),
        (lambda d: d["images"][1].update(id=10), "same id"),
        (lambda d: d["images"][1].update(file_name="0.jpg"), "listed twice"),
        (lambda d: d["images"][1].update(file_name="../secret.jpg"), r"'\.\.' is not allowed"),
        (lambda d: d["images"][1].update(file_name="9.jpg"), "image is not there"),
        (lambda d: d["images"][1].update(width=-1), "width"),
        (lambda d: d["categories"][1].update(name="dog"), "twice"),
        (lambda d: d.pop("images"), "'images' is missing"),
        (lambda d: d["images"].append(7), "expected an object"),
    ],
)
def test_damage_is_named(fake, change, message):
    root = fake("coco")
    edit(root, change)
    with pytest.raises(HemError, match=message):
        CocoJson(root)


def test_wrong_size_shows_when_the_image_is_read(fake):
    root = fake("coco")
    edit(root, lambda d: d["images"][0].update(width=70))
    with pytest.raises(HemError, match="64x48, but its labels speak of 70x48"):
        CocoJson(root)[0]
    with pytest.raises(HemError, match="speak of"):
        CocoJson(root, check_images="pixels")


def test_absent_data_say_what_to_download(tmp_path):
    with pytest.raises(HemError, match=r"cocodataset\.org.*data\.root"):
        CocoJson(tmp_path / "nowhere")


def test_bundle_keeps_every_test_image(fake):
    root = fake("coco")
    annotations = "annotations/instances_train2017.json"
    bundle = coco(root, ["dog"], test_annotations=annotations, test_images="train2017")
    assert (len(bundle.train), len(bundle.test)) == (1, 3)
