"""Truth of videos in files: found by name, in either form, and missed aloud."""

from dataclasses import replace

import pytest

from hem.artifacts import save_detections, save_examples
from hem.artifacts.truth import save_truth
from hem.errors import HemError
from hem.evaluation.protocols import run_protocol
from hem.evaluation.video_files import read_truth, require_truth
from hem.train import _truths

BOX = (0.0, 0.0, 40.0, 40.0)
LINE = "3,1,0,0,40,40,1\n"


@pytest.mark.parametrize("name", ["set/a.mp4.txt", "set/gt.txt", "set/a.mp4.parquet"])
def test_a_run_reads_the_truth_of_its_held_out_videos_in_every_form(
    make_detections, make_truth, tmp_path, name
):
    found = make_detections([(2, BOX, 1, 0.5)], 6, "set/a.mp4")
    (tmp_path / "set").mkdir()
    if name.endswith(".txt"):
        (tmp_path / name).write_text(LINE)
    else:  # under the name that it has now, whatever is written in it
        save_truth(tmp_path / name, make_truth([(2, BOX, 1)], 6, "old.mp4"))
    (truth,) = _truths(str(tmp_path), None, [found])
    assert truth.video_id == "set/a.mp4" and truth.frame_index.tolist() == [2]
    assert truth.boxes_xyxy.tolist() == [list(BOX)]
    assert _truths(None, None, [found]) == []
    require_truth(tmp_path, ["set/a.mp4", "set/b.mp4"], "heldout_truth")
    assert read_truth(tmp_path, make_detections([], 6, "b.mp4")) is None


def test_truth_that_is_not_there_or_of_another_video_is_missed_aloud(tmp_path):
    for path, said in (
        (tmp_path / "nowhere", "heldout_truth=.*nowhere is not there"),
        (
            tmp_path,
            "heldout_truth=.* holds no truth for any of 2 videos: looked for a.mp4.parquet, a.mp4.txt",
        ),
    ):
        with pytest.raises(HemError, match=said):
            require_truth(path, ["a.mp4", "b.mp4"], "heldout_truth")
    (tmp_path / "gt.txt").write_text(LINE)
    require_truth(tmp_path / "gt.txt", ["a.mp4"], "heldout_truth")
    with pytest.raises(HemError, match=r"gt\.txt is one file for 2 videos; give a folder"):
        require_truth(tmp_path / "gt.txt", ["a.mp4", "b.mp4"], "heldout_truth")


def test_one_truth_is_not_taken_for_two_videos(make_detections, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        save_detections(tmp_path / "found" / f"{name}.parquet", make_detections([(2, BOX, 1, 0.5)], 6, name))
    (tmp_path / "gt.txt").write_text(LINE)
    with pytest.raises(HemError, match="is one file for 2 videos"):
        run_protocol("video", tmp_path / "found", tmp_path / "gt.txt")
    assert (
        run_protocol("video", tmp_path / "found" / "a.mp4.parquet", tmp_path / "gt.txt").figures["best_f1"]
        == 1
    )


def test_classes_are_matched_by_name(make_detections, make_truth, tmp_path):
    there = (100.0, 0.0, 140.0, 40.0)
    found = make_detections(
        [(2, BOX, 1, 0.5), (2, there, 2, 0.5)], 6, "a.mp4", class_names=("person", "car", "dog")
    )
    other = replace(
        make_truth([(2, BOX, 2), (2, there, 1)], 6, ignore=[(3, BOX, 0)]), class_names=("car", "person")
    )
    save_truth(tmp_path / "a.mp4.parquet", other)
    read = read_truth(tmp_path, found)
    assert read.labels.tolist() == [1, 2, 0] and read.class_names == ("person", "car", "dog")
    save_detections(tmp_path / "found.parquet", found)
    figures = run_protocol("video", tmp_path / "found.parquet", tmp_path).figures
    assert figures["best_f1"] == 1
    assert figures["per_class"]["person"]["best_f1"] == figures["per_class"]["car"]["best_f1"] == 1

    save_truth(tmp_path / "a.mp4.parquet", replace(other, class_names=("car", "pedestrian")))
    with pytest.raises(HemError, match=r"objects of class 'pedestrian', but .* a\.mp4 know person, car, dog"):
        read_truth(tmp_path, found)
    # one class each can only be the same; without names there are numbers alone
    alone = make_truth([(2, BOX, 1)], 6)
    for own, names in ((("face",), ("person",)), ((), ("person", "car")), (("car", "person"), ())):
        save_truth(tmp_path / "a.mp4.parquet", replace(alone, class_names=own))
        assert read_truth(tmp_path, replace(found, class_names=names)).labels.tolist() == [1]
    # a name that no object has needs no counterpart
    save_truth(tmp_path / "a.mp4.parquet", replace(alone, class_names=("car", "bicycle")))
    assert read_truth(tmp_path, found).labels.tolist() == [2]


@pytest.mark.parametrize("kind", ["detections", "examples"])
def test_files_that_number_classes_differently_are_not_counted_together(
    make_detections, make_truth, tmp_path, kind
):
    folder = tmp_path / "found"
    one = make_detections([(2, BOX, 1, 0.5)], 6, "a.mp4", class_names=("person", "car"))
    save_detections(folder / "a.mp4.parquet", one)
    save_truth(tmp_path / "gt" / "a.mp4.parquet", make_truth([(2, BOX, 1)], 6))
    if kind == "detections":
        other = make_detections([], 6, "b.mp4", class_names=("car", "person"))
        save_detections(folder / "b.mp4.parquet", other)
    else:
        save_examples(folder / "hard_examples.parquet", [], class_names=("car", "person"))
    with pytest.raises(HemError, match="number their classes differently: car, person and person, car"):
        run_protocol("video", folder, tmp_path / "gt")
    for path in folder.glob("[bh]*.parquet"):
        path.unlink()
    assert run_protocol("video", folder, tmp_path / "gt").figures["best_f1"] == 1
