import pytest

from hem.data.pascal_text import PascalText, penn_fudan
from hem.errors import HemError


def test_corners_are_one_based_and_inclusive(fake):
    data = PascalText(fake("penn"))
    assert data.class_names == ("person",)
    assert data.image_ids == ("PNGImages/FudanPed00001.png", "PNGImages/FudanPed00002.png")
    assert data.target(0).boxes_xyxy.tolist() == [[9, 4, 18, 30], [19, 4, 28, 30]]
    assert data[1].image.shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(10, 5) - (18, 30)", "(10, 5) - (18, 300)", r"FudanPed00001.txt, object 1.*reaches out"),
        ("(10, 5) - (18, 30)", "(18, 5) - (10, 30)", "not .*in order"),
        ("(10, 5) - (18, 30)", "(nan, 5) - (10, 30)", "whole number"),
        ("(10, 5) - (18, 30)", "", "truncated"),
        ('PASpersonWalking" (X', 'PAScar" (X', "unknown label 'PAScar'"),
        ("Image size", "Size", "not a PASCAL 1.00"),
        ("PennFudanPed/PNGImages", "../PNGImages", r"'\.\.' is not allowed"),
        ("PennFudanPed/PNGImages", "/etc", "relative"),
        ("FudanPed00001.png", "Other.png", "image is not there"),
    ],
)
def test_damage_is_named(fake, old, new, message):
    root = fake("penn")
    path = root / "Annotation/FudanPed00001.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(HemError, match=message):
        PascalText(root)


def test_split_is_whole_and_repeatable(fake):
    bundle = penn_fudan(fake("penn"), test_share=0.5)
    assert {*bundle.train.image_ids, *bundle.test.image_ids} == {
        "PNGImages/FudanPed00001.png",
        "PNGImages/FudanPed00002.png",
    }
    assert len(bundle.train) == len(bundle.test) == 1
    with pytest.raises(HemError, match="test_share"):
        penn_fudan("anywhere", test_share=1.0)


def test_absent_data_say_what_to_download(tmp_path):
    with pytest.raises(HemError, match=r"PennFudanPed\.zip"):
        PascalText(tmp_path)


def test_real_penn_fudan(shared_data):
    data = PascalText(shared_data / "pennfudan")
    assert (len(data), data.box_counts) == (170, {"person": 423})
    assert not data.skips.counts
