import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from hem.artifacts.files import PROGRAM
from hem.errors import HemError
from hem.replay import Caps, ReplayDataset, drop, load_image, load_round, load_rounds, read_drops, write_round
from hem.replay.select import difference_hash
from hem.structures import Kind

NEGATIVE, POSITIVE, PSEUDO, IGNORE = Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL, Kind.IGNORE
OTHER = (40.0, 10.0, 60.0, 40.0)


def keys(one):
    return [(frame.video_id, frame.frame_index) for frame in one.frames]


def test_round_trip(write, example, image):
    mined = [
        example(2, NEGATIVE, ncc_before=0.25),
        example(2, PSEUDO, OTHER, label=2),
        example(5, PSEUDO, OTHER),  # no anchor: not replayed
        example(0, POSITIVE, score=None, video="b.mp4"),
        example(0, IGNORE, OTHER, video="b.mp4", label=0),
    ]
    one = write(mined, made_by={"model": "m" * 64})
    assert keys(one) == [("a.mp4", 2), ("b.mp4", 0)]
    assert {e.kind for e in one.examples if e.video_id == "a.mp4"} == {NEGATIVE, PSEUDO}
    assert [e.evidence for e in one.examples if e.kind is NEGATIVE] == [{"ncc_before": 0.25}]
    assert one.made_by == {"program": PROGRAM, "model": "m" * 64}
    assert one.class_names == ("cat", "dog")
    assert (one.counts["frames_found"], one.counts["frames_stored"], one.counts["hard_negative"]) == (2, 2, 1)
    pixels = load_image(one, one.frames[0])
    assert np.array_equal(pixels, image("a.mp4", 2).permute(1, 2, 0).numpy())  # PNG keeps every bit
    assert (one.frames[0].width, one.frames[0].height, one.frames[0].time_s) == (64, 48, 0.2)


def test_annotations_are_coco_with_pictures(write, example):
    one = write([example(2, NEGATIVE), example(2, PSEUDO, OTHER, weight=0.5)])
    coco = COCO(str(one.directory / "annotations.json"))
    (entry,) = coco.loadImgs(coco.getImgIds())
    assert (one.directory / entry["file_name"]).is_file()
    assert (entry["width"], entry["height"], entry["video"], entry["frame_index"]) == (64, 48, "a.mp4", 2)
    found = coco.loadAnns(coco.getAnnIds())
    assert [(a["kind"], a["weight"], a["bbox"]) for a in found] == [
        ("hard_negative", 1.0, [10, 10, 20, 20]),
        ("pseudo_label", 0.5, [40, 10, 20, 30]),
    ]


def test_round_can_be_moved(write, example, tmp_path):
    one = write([example(2)])
    shutil.move(one.directory, tmp_path / "elsewhere")
    moved = load_round(tmp_path / "elsewhere", verify_images=True)
    assert moved.examples == one.examples
    assert moved.digest == one.digest
    assert str(tmp_path) not in (tmp_path / "elsewhere/manifest.json").read_text()


def test_same_input_same_round(example, videos, reader, tmp_path):
    mined = [example(f, NEGATIVE, weight=w) for f, w in ((1, 0.5), (2, 0.5), (3, 1.0))]
    first = write_round(tmp_path / "x", 1, mined, videos, reader, ("cat",))
    second = write_round(tmp_path / "y", 1, mined[::-1], videos, reader, ("cat",))
    assert first.digest == second.digest


def test_jpeg(write, example):
    one = write([example(2)], image_format="jpg")
    assert one.frames[0].file.endswith(".jpg")
    assert load_image(one, one.frames[0]).shape == (48, 64, 3)


def test_empty_round(write):
    one = write([])
    assert (one.frames, one.examples, len(ReplayDataset([one]))) == ((), (), 0)


def test_killed_round_is_not_there(example, videos, tmp_path):
    def dies(video, indices):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_round(tmp_path / "round_001", 1, [example(1)], videos, dies, ("cat",))
    assert not (tmp_path / "round_001").exists()
    assert load_rounds(tmp_path) == []
    with pytest.raises(HemError, match="no finished replay round"):
        load_round(tmp_path / "round_001")


def test_half_written_directory_is_passed_over(write, example, tmp_path):
    one = write([example(1)])
    shutil.copytree(one.directory, tmp_path / ".round_002.abcd1234.part")
    assert [r.index for r in load_rounds(tmp_path)] == [1]


@pytest.mark.parametrize("name", ["annotations.json", "hard_examples.parquet"])
def test_changed_table_is_refused(write, example, name):
    one = write([example(1)])
    with (one.directory / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(HemError, match=f"{name} is absent or was changed"):
        load_round(one.directory)


def test_changed_images_are_refused(write, example):
    one = write([example(1)])
    path = one.directory / one.frames[0].file
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    load_round(one.directory)  # same size: only a full check reads the pixels
    with pytest.raises(HemError, match="was changed"):
        load_round(one.directory, verify_images=True)
    path.write_bytes(data[:-1])
    with pytest.raises(HemError, match="was changed"):
        load_round(one.directory)
    path.unlink()
    with pytest.raises(HemError, match="is not there"):
        load_round(one.directory)


def test_manifest_cannot_point_outside(write, example):
    one = write([example(1)])
    manifest = one.directory / "manifest.json"
    document = json.loads(manifest.read_text())
    document["images"][0]["file"] = "../secret.png"
    manifest.write_text(json.dumps(document))
    with pytest.raises(HemError, match="outside the round"):
        load_round(one.directory)


def test_refusals(write, example, videos, reader, tmp_path):
    with pytest.raises(HemError, match="count from 1"):
        write([example(1)], index=0)
    with pytest.raises(HemError, match="png or jpg"):
        write([example(1)], image_format="bmp")
    with pytest.raises(HemError, match=r"z\.mp4#000001: its video"):
        write([example(1, video="z.mp4")])
    with pytest.raises(HemError, match="label 3"):
        write([example(1, label=3)])
    with pytest.raises(HemError, match=r"a\.mp4#000001 was mined but cannot be read"):
        write_round(tmp_path / "r", 1, [example(1)], videos, lambda video, indices: (), ("cat",))
    write([example(1)])
    with pytest.raises(HemError, match="exists already"):
        write([example(1)])


def test_two_videos_whose_names_look_alike_do_not_share_files(example, videos, reader, tmp_path):
    names = ["x/é.mp4", "x/è.mp4", "y/é.mp4", "con?.mp4"]
    mined = [example(1, video=name) for name in names]
    clips = [type(videos[0])(name, "d", width=64, height=48) for name in names]
    one = write_round(tmp_path / "r", 1, mined, clips, reader, ("cat",))
    assert len({frame.file for frame in one.frames}) == 4
    assert all(frame.file.isascii() and "?" not in frame.file for frame in one.frames)


def test_cap_per_video_keeps_the_heaviest(write, example):
    mined = [example(f, weight=f / 10) for f in range(1, 9)] + [example(1, weight=0.05, video="b.mp4")]
    one = write(mined, caps=Caps(max_per_video=3))
    assert keys(one) == [("a.mp4", 6), ("a.mp4", 7), ("a.mp4", 8), ("b.mp4", 1)]
    assert one.counts["frames_left_out_video_cap"] == 5


def test_cap_in_all(write, example):
    mined = [example(f, weight=f / 10) for f in range(1, 9)]
    assert keys(write(mined, caps=Caps(max_frames=2))) == [("a.mp4", 7), ("a.mp4", 8)]


def test_cap_per_track(write, example):
    mined = [example(f, weight=f / 10, track_id=7) for f in range(1, 6)]
    mined += [example(9, weight=0.01, track_id=8), example(10, weight=0.01)]
    mined += [example(f, weight=0.02, track_id=7, video="b.mp4") for f in (1, 2, 3)]
    one = write(mined, caps=Caps(max_per_track=2))
    assert [k for k in keys(one) if k[0] == "a.mp4"] == [("a.mp4", f) for f in (4, 5, 9, 10)]
    assert sum(k[0] == "b.mp4" for k in keys(one)) == 2  # track 7 of another video is another track


def test_full_track_does_not_bar_a_frame_with_something_else(write, example):
    mined = [example(f, weight=1.0, track_id=7) for f in (1, 2)]
    mined += [example(3, weight=0.1, track_id=7), example(3, NEGATIVE, OTHER, weight=0.1, track_id=9)]
    assert ("a.mp4", 3) in keys(write(mined, caps=Caps(max_per_track=2)))


def still(video, indices):
    picture = torch.arange(64, dtype=torch.uint8).repeat(3, 48, 1) * 3
    return [(index, picture.clone()) for index in indices]


def test_near_duplicates_keep_the_heaviest(example, videos, tmp_path):
    mined = [example(f, weight=f / 10) for f in (1, 2, 3)]
    mined += [example(4, NEGATIVE, OTHER, weight=0.05)]  # same picture, but another place
    mined += [example(5, POSITIVE, weight=0.05)]  # same place, but another lesson
    mined += [example(1, weight=0.01, video="b.mp4")]  # another video
    one = write_round(tmp_path / "r", 1, mined, videos, still, ("cat",))
    assert keys(one) == [("a.mp4", 3), ("a.mp4", 4), ("a.mp4", 5), ("b.mp4", 1)]
    assert one.counts["frames_left_out_near_duplicate"] == 2
    all_kept = write_round(tmp_path / "s", 1, mined, videos, still, ("cat",), caps=Caps(duplicate_bits=None))
    assert len(all_kept.frames) == 6
    assert len(list((one.directory / "frames").rglob("*.png"))) == 4


def test_duplicate_bits_boundary(example, videos, tmp_path):
    def one_cell(video, indices):
        # frame 2 differs in a single cell, hence in two of the 256 comparisons
        pictures = {}
        for index in indices:
            cells = torch.arange(17, dtype=torch.uint8).mul(10).repeat(16, 1)
            if index == 2:
                cells[5, 5] = 255 if index == 2 else cells[5, 5]
            pictures[index] = cells.repeat_interleave(4, 0).repeat_interleave(4, 1).repeat(3, 1, 1)
        return pictures.items()

    hashes = {i: difference_hash(p) for i, p in one_cell(None, [1, 2])}
    bits = int(np.unpackbits(hashes[1] ^ hashes[2]).sum())
    assert bits == 1  # the cell's left neighbour was darker before and still is
    mined = [example(1), example(2)]
    for allowed, frames in ((bits - 1, 2), (bits, 1)):
        caps = Caps(duplicate_bits=allowed)
        written = write_round(tmp_path / f"r{allowed}", 1, mined, videos, one_cell, ("cat",), caps=caps)
        assert len(written.frames) == frames


def test_hash_ignores_noise_and_sees_motion(image):
    picture = image("a.mp4", 1).float()
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) * 2
    smooth = torch.nn.functional.avg_pool2d(picture[None], 9, 1, 4)[0]
    noisy = (smooth + noise).clamp(0, 255).to(torch.uint8)
    plain, moved = smooth.to(torch.uint8), smooth.roll(12, -1).to(torch.uint8)
    assert np.unpackbits(difference_hash(plain) ^ difference_hash(noisy)).sum() <= 10
    assert np.unpackbits(difference_hash(plain) ^ difference_hash(moved)).sum() > 40


@pytest.mark.parametrize("bad", [{"max_frames": 0}, {"max_per_video": 0}, {"max_per_track": 0},
                                 {"duplicate_bits": -1}, {"duplicate_bits": 257}])  # fmt: skip
def test_caps_refuse(bad):
    with pytest.raises(HemError, match=next(iter(bad))):
        Caps(**bad)


def test_a_video_is_read_once_and_frames_are_written_as_they_come(example, tmp_path, image):
    from hem.structures import VideoInfo

    asked = []

    def spy(video, indices):
        asked.append(list(indices))
        for written, index in enumerate(indices):
            assert len(list(tmp_path.rglob("*.png"))) == written
            yield index, image("a.mp4", index)

    large = VideoInfo("a.mp4", "digest of a.mp4", width=7680, height=4320)  # 100 MB a frame
    mined = [example(f) for f in (5, 1, 3, 2, 4)]
    write_round(tmp_path / "r", 1, mined, [large], spy, ("cat",))
    assert asked == [[1, 2, 3, 4, 5]]


def test_drop_by_id_turns_into_ignore(write, example):
    wrong, right = example(2, NEGATIVE), example(2, NEGATIVE, OTHER)
    one = write([wrong, right])
    record = drop([one.directory], example_ids=[wrong.example_id], reason="a person after all")
    after = load_round(one.directory)
    target = ReplayDataset([after]).target(0)
    assert target.negatives_xyxy.tolist() == [list(OTHER)]
    assert target.ignore_xyxy.tolist() == [list(wrong.box_xyxy)]
    assert after.drops == (record[one.directory],)
    assert after.drops[0].reason == "a person after all"
    assert after.digest == one.digest


def test_frame_without_anchor_left_leaves(write, example):
    wrong = example(2, NEGATIVE)
    one = write([wrong, example(2, PSEUDO, OTHER), example(3, NEGATIVE)])
    drop([one.directory], example_ids=[wrong.example_id])
    assert keys(load_round(one.directory)) == [("a.mp4", 3)]


def test_drop_by_video_and_rule_leaves_other_rounds_alone(write, example):
    mined = [example(1), example(1, video="b.mp4"), example(2, rule="paper", video="c.mp4")]
    first, second = write(mined, 1), write(mined, 2)
    drop([first.directory], video_ids=["b.mp4"], rules=["paper"])
    drop([first.directory], example_ids=[mined[0].example_id])
    assert keys(load_round(first.directory)) == []
    assert len(keys(load_round(second.directory))) == 3
    assert [d.asked for d in read_drops(first.directory)] == [
        "video b.mp4, rule paper",
        f"id {mined[0].example_id}",
    ]


def test_drop_in_several_rounds_touches_those_that_match(write, example):
    first, second = write([example(1)], 1), write([example(2)], 2)
    done = drop([first.directory, second.directory], example_ids=[example(2).example_id])
    assert list(done) == [second.directory]
    assert not (first.directory / "dropped.json").exists()


def test_drop_refuses_what_matches_nothing(write, example):
    one = write([example(1)])
    for asked in ({"example_ids": ["0" * 16]}, {"video_ids": ["q.mp4"]}, {"rules": ["papr"]}):
        with pytest.raises(HemError, match="no example with"):
            drop([one.directory], **asked)
    with pytest.raises(HemError, match="nothing to drop"):
        drop([one.directory])
    assert read_drops(one.directory) == []


def test_two_rounds_of_one_index_are_refused(write, example, tmp_path):
    one = write([example(1)])
    shutil.copytree(one.directory, tmp_path / "copy")
    with pytest.raises(HemError, match="both are round 1"):
        load_rounds(tmp_path)


def test_unreadable_image_is_named(write, example):
    one = write([example(1)])
    path = one.directory / one.frames[0].file
    path.write_bytes(b"x" * one.frames[0].n_bytes)
    assert cv2.imread(str(path)) is None
    with pytest.raises(HemError, match="not a readable image"):
        ReplayDataset([load_round(one.directory)])[0]
