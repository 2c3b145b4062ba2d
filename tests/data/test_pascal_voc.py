import pytest

from hem.data.pascal_voc import PascalVoc
from hem.errors import HemError

FIRST = "VOC2007/Annotations/000001.xml"


def test_difficult_is_ignored_and_other_classes_are_background(fake):
    data = PascalVoc(fake("voc"), classes=["person", "dog"])
    target = data[0].target
    assert target.boxes_xyxy.tolist() == [[0, 4, 12, 20]]
    assert target.labels.tolist() == [2]
    assert target.ignore_xyxy.tolist() == [[19, 4, 30, 20]]
    assert len(data) == 2 and data.target(1).fully_labelled
    assert PascalVoc(data.root).class_names[14] == "person"


def test_sets(fake):
    root = fake("voc")
    assert len(PascalVoc(root, sets=["VOC2007/all"])) == 2
    assert len(PascalVoc(root / "VOC2007", sets=["trainval"])) == 2
    with pytest.raises(HemError, match=r"trainva\.txt"):
        PascalVoc(root, sets=["VOC2007/trainva"])
    with pytest.raises(HemError, match=r"\.\."):
        PascalVoc(root, sets=["../VOC2007/trainval"])


def test_size_zero_means_unknown(fake):
    root = fake("voc")
    path = root / FIRST
    path.write_text(path.read_text().replace("<width>64", "<width>0"))
    assert PascalVoc(root).record(0).size == (64, 48)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>', "document type or entity"),
        ("<annotation>", "<!doctype a><annotation>", "document type or entity"),
        ("<annotation>", "<annotation>" + "<a>" * 50, "nested more than 32"),
        ("</annotation>", "", "not readable XML"),
        ("<xmin>1</xmin>", "<xmin>one</xmin>", "object 1: 'one' is not a number"),
        ("<xmin>1</xmin>", "<xmin>inf</xmin>", "on_bad_box"),
        ("<name>dog</name>", "", "object 1: <name> is missing"),
        ("000001.jpg", "../../../000001.jpg", r"'\.\.' is not allowed"),
        ("000001.jpg", "/etc/passwd", None),
    ],
)
def test_damage_is_named(fake, old, new, message):
    root = fake("voc")
    path = root / FIRST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if message is None:  # "JPEGImages//etc/passwd" names nothing inside the root: the stem is used
        assert PascalVoc(root).image_ids[0] == "VOC2007/JPEGImages/000001.jpg"
        return
    with pytest.raises(HemError, match=message):
        PascalVoc(root)


def test_utf16_is_refused(fake):
    root = fake("voc")
    path = root / FIRST
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(HemError, match="not UTF-8"):
        PascalVoc(root)
