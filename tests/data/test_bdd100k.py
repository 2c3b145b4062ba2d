import pytest

from hem.data.bdd100k import Bdd100k, list_videos
from hem.errors import HemError


def test_conditions_split_the_images(fake):
    root = fake("bdd")
    assert len(Bdd100k(root)) == 3
    assert Bdd100k(root, part="clear_day").image_ids == ("images/100k/train/0.jpg",)
    assert Bdd100k(root, part="other").image_ids == ("images/100k/train/1.jpg", "images/100k/train/2.jpg")


def test_old_names_crowds_and_other_persons(fake):
    data = Bdd100k(fake("bdd"), classes=["pedestrian"])
    target = data[0].target
    assert target.boxes_xyxy.tolist() == [[1, 2, 11, 30]], "the old name person is a pedestrian"
    assert target.ignore_xyxy.tolist() == [[20, 2, 40, 30], [42, 2, 50, 30]]
    assert len(data.target(2).boxes_xyxy) == 0, "labels: null is an image without objects"
    assert data.record(1).extra == {"weather": "rainy", "timeofday": "daytime", "scene": "city street"}
    both = Bdd100k(data.root, classes=["rider", "pedestrian"]).record(0)
    assert both.ignore_labels.tolist() == [2, 0], "other person may be either"
    assert len(Bdd100k(data.root, classes=["car"]).target(0).ignore_xyxy) == 0


def test_settings_and_absence(tmp_path, fake):
    with pytest.raises(HemError, match="distinct names out of"):
        Bdd100k(tmp_path, classes=["person"])
    with pytest.raises(HemError, match="clear_day"):
        Bdd100k(tmp_path, part="night")
    with pytest.raises(HemError, match="Detection 2020 Labels"):
        Bdd100k(tmp_path)


def test_videos_of_the_other_conditions_are_listed(tmp_path, fake):
    root = fake("bdd")
    videos = tmp_path / "videos"
    videos.mkdir()
    with pytest.raises(HemError, match="holds none of the 2 videos"):
        list_videos(root, videos, tmp_path / "list.txt")
    for name in ("0", "2"):  # of clear days, and of the night; that of the rain is not there
        (videos / f"{name}.mov").write_bytes(b"x")
    assert list_videos(root, videos, tmp_path / "list.txt") == 1
    assert (tmp_path / "list.txt").read_text() == f"{videos.resolve() / '2.mov'}\n"
    assert list_videos(root, videos, tmp_path / "list.txt", part="clear_day") == 1
