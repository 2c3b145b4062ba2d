import pytest

from hem.data.wider_face import WiderFace, wider_face
from hem.errors import HemError

LISTING = "wider_face_split/wider_face_train_bbx_gt.txt"


def test_quirks_are_read_as_meant(fake):
    data = WiderFace(fake("wider"))
    assert len(data) == 3
    assert data.image_ids[0] == "WIDER_train/images/0--Parade/0_Parade_1.jpg"
    first = data.target(0)
    assert first.boxes_xyxy.tolist() == [[4, 5, 14, 17]]
    assert first.ignore_xyxy.tolist() == [[30, 5, 39, 14]], "an invalid face is not background"
    assert data.target(1).fully_labelled and len(data.target(1).boxes_xyxy) == 0
    assert data.target(2).boxes_xyxy.tolist() == [[50, 30, 64, 40]], "cut at the border"
    assert data.skips.counts == {"box without width or height": 1}


def test_the_row_of_zeros_may_be_absent(fake):
    root = fake("wider")
    path = root / LISTING
    path.write_text(path.read_text().replace("0 0 0 0 0 0 0 0 0 0 \n", ""))
    assert len(WiderFace(root)) == 3


@pytest.mark.parametrize(("side", "positives"), [(10, 1), (10.5, 0)])
def test_min_box_side_is_inclusive_and_makes_ignore_regions(fake, side, positives):
    target = WiderFace(fake("wider"), min_box_side=side).target(0)
    assert (len(target.boxes_xyxy), len(target.ignore_xyxy)) == (positives, 2 - positives)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n2\n4 5", "\n3\n4 5", "line 1|line 5|not an image name|numbers"),
        ("\n2\n4 5", "\nmany\n4 5", "line 2: count of faces"),
        ("\n2\n4 5", "\n99999999999\n4 5", "count of faces"),
        ("4 5 10 12", "4 5 ten 12", "line 3: 'ten' is not a number"),
        ("4 5 10 12", "400 5 10 12", "line 3: box .400, 5, 410, 17. lies wholly outside"),
        ("4 5 10 12", "4 5 10", "10 numbers, found 9"),
        ("0--Parade/0_Parade_1.jpg", "../../x.jpg", "not allowed"),
        ("0--Parade/0_Parade_1.jpg", "0--Parade/absent.jpg", "image is not there"),
    ],
)
def test_damage_is_named(fake, old, new, message):
    root = fake("wider")
    path = root / LISTING
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(HemError, match=message):
        WiderFace(root)


def test_truncated_listing_is_an_error(fake):
    root = fake("wider")
    path = root / LISTING
    path.write_text("\n".join(path.read_text().split("\n")[:3]))
    with pytest.raises(HemError, match="truncated"):
        WiderFace(root)


def test_absent_data_say_what_to_download(tmp_path):
    with pytest.raises(HemError, match=r"WIDER_train\.zip"):
        WiderFace(tmp_path)
    with pytest.raises(HemError, match="train or val"):
        WiderFace(tmp_path, "test")


def test_real_subset(shared_data):
    bundle = wider_face(shared_data / "wider_face_640")
    train, test = bundle.train, bundle.test
    assert (len(train), train.box_counts["face"], len(test), test.box_counts["face"]) == (
        602,
        3906,
        309,
        1636,
    )
    assert train.report().startswith("wider_face_640: 602 images, 3906 face, 3 ignored")
    assert train[0].image.shape[0] == 3
