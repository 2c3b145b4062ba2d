import pytest

from hem.data.mot_challenge import MotChallenge, mot
from hem.errors import HemError


def test_rows_become_boxes_ignore_regions_or_nothing(fake):
    data = MotChallenge(fake("mot"))
    assert data.groups == ("A-01",) * 3 + ("B-02",) * 3
    first = data[0].target
    assert first.boxes_xyxy.tolist() == [[1, 2, 11, 22]], "corners are 1-based in the file"
    assert first.ignore_xyxy.tolist() == [[19, 2, 29, 22], [39, 29, 49, 39]], "conf 0, and a distractor"
    assert len(data.target(1).ignore_xyxy) == 1, "visible by a tenth only"
    assert data.target(2).boxes_xyxy.tolist() == [[0, 2, 5, 22]], "over the border is cut, outside left out"
    assert data.skips.counts == {"box outside its image": 1, "labelled frame without an image": 1}
    assert len(data.target(3).boxes_xyxy) == 1, "MOT15 has coordinates where MOT16 has a class"
    assert len(data.target(5).boxes_xyxy) == 0


@pytest.mark.parametrize(("limit", "positives"), [(0.1, 1), (0.11, 0)])
def test_min_visible_is_inclusive(fake, limit, positives):
    assert len(MotChallenge(fake("mot"), min_visible=limit).target(1).boxes_xyxy) == positives


def test_every_nth_frame_of_chosen_sequences(fake):
    data = MotChallenge(fake("mot"), sequences=["B-02"], every=2)
    assert data.image_ids == ("B-02/img1/000001.jpg", "B-02/img1/000003.jpg")


def test_split_is_by_sequence(fake):
    root = fake("mot")
    bundle = mot(root, ["B-02"])
    assert set(bundle.train.groups) == {"A-01"} and set(bundle.test.groups) == {"B-02"}
    for wrong in ([], ["C"], ["A-01", "B-02"]):
        with pytest.raises(HemError, match="some, not all, of: A-01, B-02"):
            mot(root, wrong)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("gt/gt.txt", "1,1,2,3,10,20,1,1,1.0", "1,1,2,3", "line 1: expected"),
        ("gt/gt.txt", "1,1,2,3,10", "0,1,2,3,10", "line 1: frame"),
        ("gt/gt.txt", "1,1,2,3,10", "1,1,2,3,-10", "line 1: box"),
        ("gt/gt.txt", "1,1,2,3,10", "1,1,nan,3,10", "line 1: box"),
        ("seqinfo.ini", "imDir=img1", "imDir=../../x", "not allowed"),
        ("seqinfo.ini", "[Sequence]", "[Other]", "seqinfo.ini"),
        ("seqinfo.ini", "imWidth=64", "imWidth=1e99", "imWidth"),
    ],
)
def test_damage_is_named(fake, file, old, new, message):
    root = fake("mot")
    path = root / "A-01" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(HemError, match=message):
        MotChallenge(root)


def test_absent_data_say_what_to_download(tmp_path):
    with pytest.raises(HemError, match=r"motchallenge\.net"):
        MotChallenge(tmp_path)
