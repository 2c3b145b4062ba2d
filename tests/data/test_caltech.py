import math
from dataclasses import replace

import numpy as np
import pytest

from hem.data.caltech import Caltech, caltech
from hem.data.caltech_seq import extract_frames, main, read_seq
from hem.data.pedestrian import Reasonable, visible_share
from hem.errors import HemError
from hem.evaluation.miss_rate import CALTECH, PedestrianTruth, evaluate


def test_every_thirtieth_frame_with_unsure_and_hidden_ignored(fake):
    data = Caltech(fake("caltech"), sets=["set00"], min_height=20)
    assert data.image_ids == ("images/set00/V000/I00029.jpg", "images/set00/V000/I00059.jpg")
    assert set(data.groups) == {"set00/V000"}
    first = data.target(0)
    assert first.boxes_xyxy.tolist() == [[1, 2, 11, 42]], "corners are 1-based in the file"
    # people, person?, and a person lower than 20 px
    assert first.ignore_xyxy.tolist() == [[19, 2, 29, 42], [39, 2, 49, 42], [49, 2, 54, 8]]
    assert data.target(1).ignore_xyxy.tolist() == [[10, 2, 20, 42]], "half hidden"
    seen = Caltech(data.root, sets=["set00"], min_height=20, min_visible=0.5)
    assert len(seen.target(1).boxes_xyxy) == 1, "a visible share exactly at the limit counts"


PERSON = (11, 3, 10, 40)  # the one whose visible part make_vbb places


@pytest.mark.parametrize(
    ("occl", "posv", "taught", "set_ups"),
    [
        (0, (0, 0, 0, 0), True, {"reasonable", "all", "medium"}),
        (1, (0, 0, 0, 0), True, {"reasonable", "all", "medium"}),
        (1, PERSON, False, {"reasonable", "all"}),  # nobody drew the part: bbGt.m says 0, dbEval.m says 1
        (1, (11, 3, 10, 36), True, {"reasonable", "all"}),
        (1, (11, 3, 10, 20), False, {"all"}),
        (0, (11, 3, 10, 20), True, {"all"}),  # dbEval.m does not look at occl
        (1, (11, 3, 10, 2), False, set()),
    ],
)
def test_visible_part_is_read_as_the_benchmarks_programs_do(fake, make_vbb, occl, posv, taught, set_ups):
    root = fake("caltech")
    (root / "annotations/set00/V000.vbb").write_bytes(make_vbb(occl, posv))
    data = Caltech(root, sets=["set00"], min_height=20)
    target = data.target(1)
    assert (len(target.boxes_xyxy), len(target.ignore_xyxy)) == ((1, 0) if taught else (0, 1))
    # the person is 40 px tall: lowered limits let it into every set-up that its visibility allows
    (person,) = data.record(1).extra["pedestrians"]
    low = [replace(one, height=(0, math.inf)) for one in CALTECH if one.name != "near"]
    box = np.array([[person.left, person.top, person.left + person.width, person.top + person.height]])
    truth = PedestrianTruth(box, np.array([person.height]), np.array([person.visible]), np.array([False]))
    assert {one.name for one in low if evaluate({}, {1: truth}, one).pedestrians} == set_ups


def test_limits_are_inclusive():
    assert Reasonable().counts(50, 0.65)
    assert not Reasonable().counts(49.99, 1.0) and not Reasonable().counts(100, 0.649)
    assert visible_share((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert visible_share((0, 0, 0, 10), (0, 0, 0, 5)) == 0.0


def test_other_steps_and_missing_frames(fake):
    root = fake("caltech")
    assert len(Caltech(root, sets=["set00"], every=1)) == 3
    for path in (root / "images/set00/V000").iterdir():
        path.unlink()
    with pytest.raises(HemError, match="video without converted frames"):
        Caltech(root, sets=["set00"])


def test_seq_frames_are_written_as_they_are(tmp_path, write_seq):
    for padding in (8, 16):
        pictures = write_seq(tmp_path / f"{padding}.seq", frames=4, padding=padding)
        assert list(read_seq(tmp_path / f"{padding}.seq")) == pictures
    write_seq(tmp_path / "set00/V000.seq", frames=4)
    assert extract_frames(tmp_path, every=2) == 2
    assert sorted(path.name for path in (tmp_path / "images/set00/V000").iterdir()) == [
        "I00001.jpg",
        "I00003.jpg",
    ]
    assert (tmp_path / "images/set00/V000/I00001.jpg").read_bytes() == pictures[1]
    assert extract_frames(tmp_path, every=2) == 0, "frames that are there are kept"


def test_damaged_seq_is_named(tmp_path, write_seq):
    path = tmp_path / "a.seq"
    write_seq(path, frames=3)
    content = path.read_bytes()
    path.write_bytes(content[:-400])
    with pytest.raises(HemError, match="frame 2 of 3"):
        list(read_seq(path))
    path.write_bytes(b"x" * 2000)
    with pytest.raises(HemError, match=r"not a \.seq"):
        list(read_seq(path))


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\x00" * 4096])
def test_damaged_vbb_is_named(fake, content):
    root = fake("caltech")
    (root / "annotations/set00/V000.vbb").write_bytes(content)
    with pytest.raises(HemError, match=r"V000\.vbb"):
        Caltech(root, sets=["set00"])


def test_settings_are_checked(tmp_path):
    with pytest.raises(HemError, match="sets"):
        Caltech(tmp_path, sets=["set99"])
    with pytest.raises(HemError, match="extract_frames"):
        caltech(tmp_path / "nowhere")


def test_frames_are_written_by_one_command(tmp_path, write_seq, capsys):
    write_seq(tmp_path / "set00/V000.seq", frames=4)
    assert main([str(tmp_path), "2"]) == 0
    assert "2 frames written" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2 and "set00.tar" in capsys.readouterr().err
    assert main([]) == 2 and main([str(tmp_path), "x"]) == 2
