import pytest
from PIL import Image

from hem.data.yolo_text import YoloText
from hem.errors import HemError


def test_boxes_polygons_and_images_without_labels(fake):
    data = YoloText(fake("yolo"))
    assert data.class_names == ("cat", "dog")
    target = data[0].target
    assert target.boxes_xyxy[0].tolist() == [24, 12, 40, 36]
    assert target.boxes_xyxy[1].tolist() == pytest.approx([6.4, 4.8, 19.2, 19.2])
    assert target.labels.tolist() == [1, 2]
    assert len(data.target(1).labels) == len(data.target(2).labels) == 0


def test_label_files_without_an_image_are_counted(fake):
    root = fake("yolo")
    assert not YoloText(root).skips.counts
    (root / "labels/train/renamed").mkdir()
    for stray in ("IMG_0.txt", "renamed/0.txt"):
        (root / "labels/train" / stray).write_text("0 0.5 0.5 0.1 0.1")
    for options in ({}, {"limit": 1}):
        data = YoloText(root, **options)
        assert data.skips.counts == {"label file without an image": 2}
        assert "renamed/0.txt" in str(data.skips) or "IMG_0.txt" in str(data.skips)


def test_labels_may_lie_beside_their_images(fake):
    root = fake("yolo")
    place = root / "all"
    (root / "images/train").rename(place)
    for file in (root / "labels/train").iterdir():
        file.rename(place / file.name)
    data = YoloText(root, images="all")
    assert data.target(0).labels.tolist() == [1, 2] and not data.skips.counts
    flat = YoloText(place, images="./", classes=["cat", "dog"])
    assert flat.target(0).labels.tolist() == [1, 2]


def test_names_from_classes_txt_or_the_caller(fake):
    root = fake("yolo")
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("a\nb\n\n")
    assert YoloText(root).class_names == ("a", "b")
    assert YoloText(root, classes=["x", "y"]).class_names == ("x", "y")


def test_an_image_that_is_displayed_turned_is_read_turned(fake):
    root = fake("yolo")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(root / "images/train/0.jpg", exif=exif)
    data = YoloText(root)
    assert data.record(0).size == (48, 64)
    sample = data[0]
    assert sample.image.shape == (3, 64, 48)
    assert sample.target.boxes_xyxy[0].tolist() == [18, 16, 30, 48]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 1: class"),
        ("0 0.5 0.5 0.1", "line 1: expected"),
        ("\n0 0.5 0.5 0.1 abc", "line 2: 'abc'"),
        ("0 5 0.5 0.1 0.1", "wholly outside"),
        ("0 nan 0.5 0.1 0.1", "on_bad_box"),
    ],
)
def test_damage_is_named(fake, text, message):
    root = fake("yolo")
    (root / "labels/train/0.txt").write_text(text)
    with pytest.raises(HemError, match=message):
        YoloText(root)


@pytest.mark.parametrize(
    "text", ["names: {0: a, 2: b}", "names: 3", "[", "- a", "names: [a, a]", "names: []"]
)
def test_bad_yaml_is_named(fake, text):
    root = fake("yolo")
    (root / "data.yaml").write_text(text)
    with pytest.raises(HemError, match=r"data\.yaml"):
        YoloText(root)
