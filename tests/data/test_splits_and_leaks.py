import shutil

import pytest
from PIL import Image

from hem.data.base import DetectionDataset
from hem.data.leaks import alike, equal_files, find_near_duplicates, leak_report, looks_of_images
from hem.data.mot_challenge import MotChallenge, mot
from hem.data.records import RawImage
from hem.data.splits import part_of, split_by_group, split_in_time
from hem.errors import HemError


def grouped(root, sizes, draw_picture):
    raw = []
    for group, count in enumerate(sizes):
        for index in range(count):
            file = f"g{group}/{index}.png"
            draw_picture(root / file, seed=100 * group + index)
            raw.append(RawImage(file, (), "x", group=f"g{group}"))
    return DetectionDataset(root, raw, ("thing",))


def test_no_group_is_divided_and_nothing_is_lost(tmp_path, draw_picture):
    data = grouped(tmp_path, (5, 1, 4, 2, 3, 3), draw_picture)
    for seed in range(5):
        parts = split_by_group(data, {"train": 2, "val": 1, "test": 1}, seed)
        groups = [set(part.groups) for part in parts.values()]
        assert all(groups) and sum(len(one) for one in groups) == 6
        assert sorted(name for part in parts.values() for name in part.image_ids) == sorted(data.image_ids)
        assert 5 <= len(parts["train"]) <= 13
    first = part_of(data, "test", {"train": 2, "test": 1}, 3)
    assert first.image_ids == part_of(data, "test", {"train": 2, "test": 1}, 3).image_ids
    with pytest.raises(HemError, match="'tset' is not among"):
        part_of(data, "tset", {"train": 2, "test": 1})


def test_as_many_parts_as_groups_leaves_none_empty(tmp_path, draw_picture):
    data = grouped(tmp_path, (9, 1, 1), draw_picture)
    for seed in range(6):
        parts = split_by_group(data, {"a": 0.98, "b": 0.01, "c": 0.01}, seed)
        assert all(len(part) for part in parts.values())


def test_frames_of_one_video_cannot_be_split(tmp_path, draw_picture):
    data = grouped(tmp_path, (8,), draw_picture)
    with pytest.raises(HemError, match="frames of one video are never divided"):
        split_by_group(data, {"train": 1, "test": 1})
    for shares in ({}, {"a": 0}, {"a": float("nan")}):
        with pytest.raises(HemError, match="positive"):
            split_by_group(data, shares)


def test_changed_copies_are_found_and_other_pictures_not(tmp_path, draw_picture):
    first = grouped(tmp_path / "a", (12,), draw_picture)
    copy = Image.open(tmp_path / "a/g0/3.png").resize((40, 30)).point(lambda value: min(255, value + 8))
    (tmp_path / "b").mkdir()
    copy.save(tmp_path / "b/copy.jpg", quality=60)
    draw_picture(tmp_path / "b/other.png", seed=999)
    raw = [RawImage(name, (), "x") for name in ("copy.jpg", "other.png")]
    second = DetectionDataset(tmp_path / "b", raw, ("thing",))
    found = find_near_duplicates(first, second)
    assert [(pair.first, pair.second) for pair in found] == [("g0/3.png", "copy.jpg")]
    assert found[0].distance <= 0.12 and found[0].correlation >= 0.97
    assert "1 pair(s)" in leak_report(first, second) and "copy.jpg" in leak_report(first, second)
    assert find_near_duplicates(first, first) == []
    assert len(find_near_duplicates(first, first.subset([5]))) == 1


def test_plain_pictures_match_by_tone(tmp_path):
    for name, tone in (("a", 100), ("b", 101), ("c", 200)):
        Image.new("RGB", (32, 32), (tone,) * 3).save(tmp_path / f"{name}.png")
    raw = [RawImage(f"{name}.png", (), "x") for name in "abc"]
    data = DetectionDataset(tmp_path, raw, ("thing",))
    assert [(pair.first, pair.second) for pair in find_near_duplicates(data, data)] == [("a.png", "b.png")]


def test_a_shared_video_is_reported(fake, draw_picture):
    data = MotChallenge(fake("mot"))
    for index, name in enumerate(data.image_ids):
        draw_picture(data.root / name, seed=50 + index)
    assert leak_report(data.subset([0, 1, 2]), data.subset([3, 4, 5])) is None
    assert "1 video(s) or scene(s) are in both, such as A-01" in leak_report(
        data.subset([0, 1]), data.subset([2, 3])
    )


def test_limits_are_checked(tmp_path, draw_picture):
    data = grouped(tmp_path, (2,), draw_picture)
    with pytest.raises(HemError, match="max_distance"):
        find_near_duplicates(data, data, max_distance=0.6)


def test_a_split_in_time_is_marked_and_leaves_a_gap(fake, tmp_path, draw_picture):
    data = grouped(tmp_path, (10, 5), draw_picture)
    train, test = split_in_time(data, 0.4, gap=2)
    assert train.image_ids == ("g0/0.png", "g0/1.png", "g0/2.png", "g0/3.png", "g1/0.png")
    assert test.image_ids == ("g0/6.png", "g0/7.png", "g0/8.png", "g0/9.png", "g1/3.png", "g1/4.png")
    for share, gap in ((0, 0), (1, 0), (0.5, -1), (0.4, 100)):
        with pytest.raises(HemError, match="split in time"):
            split_in_time(data, share, gap)
    root = fake("mot")
    with pytest.raises(HemError, match="not both"):
        mot(root, ["B-02"], split_in_time=0.4)
    with pytest.raises(HemError, match="leaves one side empty"):
        mot(root, split_in_time=0.4)  # three frames, and a second between the two sides
    assert mot(root, ["B-02"]).note == ""
    folder = root / "A-01/img1"
    for frame in range(4, 80):
        shutil.copyfile(folder / "000001.jpg", folder / f"{frame:06d}.jpg")
    bundle = mot(root, every=5, split_in_time=0.4)
    assert bundle.note == "same scene"
    last = max(bundle.train.image_ids)
    assert int(min(name for name in bundle.test.image_ids if "A-01" in name)[-10:-4]) - int(last[-10:-4]) > 25


def test_equal_files_are_found_among_all_images(tmp_path, draw_picture):
    first, second = (grouped(tmp_path / name, (6,), draw_picture) for name in "ab")
    for index in range(6):
        draw_picture(tmp_path / f"b/g0/{index}.png", seed=500 + index)
    assert equal_files(first, second) == [] and leak_report(first, second, 1) is None
    shutil.copyfile(tmp_path / "a/g0/3.png", tmp_path / "b/g0/5.png")
    assert equal_files(first, second) == [("g0/3.png", "g0/5.png")]
    said = leak_report(first, second, 1)  # one image of each is looked at: the copy is found all the same
    assert "1 pair(s) of files are equal, such as g0/3.png and g0/5.png" in said
    assert "look the same" not in leak_report(first, second)  # said once


def test_a_sample_is_spread_and_passes_over_damage(tmp_path, draw_picture):
    data = grouped(tmp_path, (9,), draw_picture)
    assert looks_of_images(data, 3).names == ("g0/0.png", "g0/4.png", "g0/8.png")
    assert len(alike(looks_of_images(data, 3), looks_of_images(data))) == 3
    (tmp_path / "g0/4.png").write_bytes(b"damage")
    assert looks_of_images(data, 3).names == ("g0/0.png", "g0/8.png")
    with pytest.raises(HemError, match="not a readable image"):
        looks_of_images(data)
