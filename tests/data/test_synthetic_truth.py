import numpy as np
import pytest

from hem.data.video_truth import load_truth, read_mot_truth, save_truth, truth_for, truth_path
from hem.errors import HemError
from hem.structures import VideoTruth


def truth_of(n_objects, video_id="a/b.mp4"):
    return VideoTruth(
        video_id=video_id,
        frame_index=np.arange(n_objects, dtype=np.int64),
        boxes_xyxy=np.arange(4.0 * n_objects).reshape(-1, 4) + 0.123456789,
        labels=np.arange(n_objects, dtype=np.int64) % 2,
        ignore=np.arange(n_objects) % 3 == 0,
        object_id=np.arange(n_objects, dtype=np.int64) - 1,
        labelled_frames=np.arange(9) != 4,
        class_names=("face", "car"),
    )


@pytest.mark.parametrize("n_objects", [0, 1, 7])
def test_truth_comes_back_exactly(n_objects, tmp_path):
    truth = truth_of(n_objects)
    save_truth(tmp_path / "t.parquet", truth)
    back = load_truth(tmp_path / "t.parquet")
    assert (back.video_id, back.class_names) == (truth.video_id, truth.class_names)
    for name in ("frame_index", "boxes_xyxy", "labels", "ignore", "object_id", "labelled_frames"):
        expected, found = getattr(truth, name), getattr(back, name)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert np.array_equal(found, expected)


def test_truth_is_found_by_video_id_and_endings_do_not_clash(tmp_path):
    for video_id in ("a/b.mp4", "a/b.avi"):
        save_truth(truth_path(tmp_path, video_id), truth_of(3, video_id))
        assert truth_for(tmp_path, video_id).video_id == video_id
    assert truth_for(tmp_path, "a/c.mp4") is None


def test_damaged_truth_is_named(tmp_path):
    path = truth_path(tmp_path, "v.mp4")
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(HemError, match=r"v\.mp4\.parquet"):
        truth_for(tmp_path, "v.mp4")
    with pytest.raises(HemError, match="not there"):
        load_truth(tmp_path / "absent.parquet")


def test_mot_text_is_read_sorted_with_ignore_regions(tmp_path):
    path = tmp_path / "seq" / "gt.txt"
    path.parent.mkdir()
    path.write_text("3,7,1.5,2,10,20,1,-1,-1,-1\n1,7,1,2,10,20,1\n\n1,8,5,6,7,8,0,-1,-1,-1\n")
    truth = read_mot_truth(path, 3, "person")
    assert truth.video_id == "seq"
    assert truth.frame_index.tolist() == [0, 0, 2]
    assert truth.boxes_xyxy.tolist() == [[1, 2, 11, 22], [5, 6, 12, 14], [1.5, 2, 11.5, 22]]
    assert truth.ignore.tolist() == [False, True, False]
    assert truth.object_id.tolist() == [7, 8, 7]
    assert truth.labels.tolist() == [1, 1, 1]
    assert truth.class_names == ("person",)
    assert truth.labelled_frames.tolist() == [True] * 3


def test_mot_text_without_conf_counts_and_empty_text_is_empty(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,7,1,2,10,20\n")
    assert read_mot_truth(path, 1, "person", "v.mp4").ignore.tolist() == [False]
    path.write_text("")
    assert len(read_mot_truth(path, 5).labels) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", "line 1"),
        ("1,2,3,4,x,6", "line 1"),
        ("1,2,3,4,-5,6,1", "negative"),
        ("1,2,3,4,nan,6,1", "line 1"),
        ("0,2,3,4,5,6,1", "frame 0"),
        ("4,2,3,4,5,6,1", "frame 4"),
    ],
)
def test_wrong_mot_lines_are_named(line, message, tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text(line + "\n")
    with pytest.raises(HemError, match=message):
        read_mot_truth(path, 3)


def test_last_frame_is_legal_and_missing_file_is_named(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("3,2,3,4,5,6,1\n")
    assert read_mot_truth(path, 3).frame_index.tolist() == [2]
    with pytest.raises(HemError, match="not there"):
        read_mot_truth(tmp_path / "absent.txt", 3)
