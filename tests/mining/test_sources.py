import json
from dataclasses import replace

import numpy as np
import pytest

from hem.artifacts import save_detections
from hem.errors import HemError
from hem.mining.sources import read_authors_text, read_coco_results, read_detections, read_mot_text
from hem.structures import VideoInfo

VIDEO = VideoInfo("v.mp4", width=640, height=480, fps=5.0)
AUTHORS = "a.jpg\n2\n1.5 2 10 20 0.7\n3 4 5 6 -0.5\nb.jpg\n0\nc.jpg\n1\n7 8 9 10 139\n"


def written(tmp_path, text, name="d.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_authors_text(tmp_path):
    found = read_detections(written(tmp_path, AUTHORS + "\n\n"), VIDEO)
    assert found.n_frames == 3 and found.frame_index.tolist() == [0, 0, 2]
    np.testing.assert_array_equal(found.boxes_xyxy[0], [1.5, 2, 11.5, 22])
    assert found.scores.tolist() == [0.7, -0.5, 139.0]
    assert found.frame_times_s.tolist() == [0.0, 0.2, 0.4]
    assert len(read_authors_text(written(tmp_path, "a\n0\n"), VIDEO)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n2\n1 2 3 4 0.5\n", "line 2: frame 0 announces 2 boxes"),
        ("a\n1\n1 2 3 4\n", "line 3: expected 5 numbers, got 4"),
        ("a\n1\n1 2 3 4 0.5 6\n", "line 3: expected 5 numbers, got 6"),
        ("a\n1\n1 2 x 4 0.5\n", "line 3"),
        ("a\n1\n1 2 nan 4 0.5\n", "line 3: a number is not finite"),
        ("a\n1\n1 2 3 4 1e999\n", "line 3: a number is not finite"),
        ("a\n1\n1e30 2 3 4 0.5\n", "line 3: a coordinate beyond"),
        ("a\n1\n1 2 -3 4 0.5\n", "line 3: width and height"),
        ("a\n-1\n", "line 2: expected the number of boxes"),
        (
            "a\n1\n1 2 3 4 0.5\n1 2 3 4 0.5\nb\n0\n",
            r"line 5: expected .*\(line 2 announces 1 boxes for frame 0\)",
        ),
        (
            "a\n2\n1 2 3 4 0.5\nb\n0\n",
            r"line 4: expected 5 numbers.*\(line 2 announces 2 boxes for frame 0\)",
        ),
        ("a\n1.0\n1 2 3 4 0.5\n", "line 2: expected the number of boxes"),
        ("a\n99999999999999999999\n", "line 2: expected the number of boxes"),
        ("a\n0\nb\n", "line 3: the file ends"),
    ],
)
def test_broken_authors_text_names_its_line(tmp_path, text, said):
    with pytest.raises(HemError, match=said):
        read_authors_text(written(tmp_path, text), VIDEO)


def test_mot_text(tmp_path):
    path = written(tmp_path, "2,-1,5,6,7,8,0.5,-1,-1,-1\n1,-1,1,2,3,4,93.5\n\n")
    found = read_detections(path, replace(VIDEO, n_frames=4))
    assert found.n_frames == 4 and found.frame_index.tolist() == [0, 1]
    np.testing.assert_array_equal(found.boxes_xyxy[1], [5, 6, 12, 14])
    assert read_mot_text(path, VIDEO).n_frames == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,-1,1,2,3,4,0.5\n", "line 1: frame 0"),
        ("1.5,-1,1,2,3,4,0.5\n", "line 1: frame 1.5"),
        ("1,-1,1,2,3,4,0.5\n1,-1,1,2\n", "line 2: expected 7"),
        ("1,-1,1,2,3,4,inf\n", "line 1: a number is not finite"),
        ("9,-1,1,2,3,4,1\n", "has 4 frames"),
        ("nan,-1,1,2,3,4,1\n", "line 1"),
    ],
)
def test_broken_mot_text_names_its_line(tmp_path, text, said):
    with pytest.raises(HemError, match=said):
        read_mot_text(written(tmp_path, text), replace(VIDEO, n_frames=4))


def entry(**more):
    return {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4.5], "score": 0.25, **more}


def test_coco_results(tmp_path):
    path = written(tmp_path, json.dumps([entry(), entry(image_id=0, category_id=1)]), "r.json")
    found = read_detections(path, VIDEO)
    assert found.frame_index.tolist() == [0, 1] and found.labels.tolist() == [1, 2]
    np.testing.assert_array_equal(found.boxes_xyxy[1], [1, 2, 4, 6.5])
    moved = read_coco_results(path, VIDEO, frame_of_image={0: 5, 1: 3})
    assert moved.frame_index.tolist() == [3, 5] and moved.labels.tolist() == [2, 1]
    with pytest.raises(HemError, match="image_id 1"):
        read_coco_results(path, VIDEO, frame_of_image={0: 5})


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"annotations": []}, "JSON list"),
        ([entry(), 3], "entry 1"),
        ([entry(bbox=[1, 2, 3])], "entry 0: bbox"),
        ([entry(score="high")], "entry 0: bbox and score"),
        ([entry(score=10**400)], "entry 0: a number is not finite"),
        ([entry(category_id=0)], "entry 0: category_id"),
        ([entry(image_id=True)], "entry 0: image_id"),
        ([{"image_id": 1}], "entry 0: category_id is missing"),
    ],
)
def test_broken_coco_results_name_their_entry(tmp_path, payload, said):
    with pytest.raises(HemError, match=said):
        read_coco_results(written(tmp_path, json.dumps(payload), "r.json"), VIDEO)


def test_files_that_cannot_be_read(tmp_path):
    for reader in (read_authors_text, read_mot_text, read_coco_results):
        with pytest.raises(HemError, match="not there"):
            reader(tmp_path / "no", VIDEO)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HemError, match="readable text"):
        read_authors_text(tmp_path / "b.txt", VIDEO)
    with pytest.raises(HemError, match="readable JSON"):
        read_coco_results(written(tmp_path, "[{", "r.json"), VIDEO)
    with pytest.raises(HemError, match="format"):
        read_detections(written(tmp_path, AUTHORS), VIDEO, "yolo")


def test_parquet_is_taken_for_the_video_that_it_is_given_for(tmp_path):
    """Its own may be of another machine, or of before a renaming; frames are read from this one."""
    found = read_authors_text(written(tmp_path, AUTHORS), VIDEO)
    save_detections(tmp_path / "d.parquet", found)
    back = read_detections(tmp_path / "d.parquet", VideoInfo("other"))
    assert back.video == VideoInfo("other")
    np.testing.assert_array_equal(back.boxes_xyxy, found.boxes_xyxy)


@pytest.mark.parametrize(("size", "said"), [((640, 480), ""), ((0, 0), ""), ((320, 480), "640 x 480")])
def test_parquet_of_another_size_of_the_video_is_refused(tmp_path, size, said):
    found = read_authors_text(written(tmp_path, AUTHORS), replace(VIDEO, width=640, height=480, digest=""))
    save_detections(tmp_path / "d.parquet", found)
    video = VideoInfo("v.mp4", width=size[0], height=size[1])
    if said:
        with pytest.raises(
            HemError, match=f"d.parquet holds boxes on pictures of {said}.*v.mp4 has 320 x 480"
        ):
            read_detections(tmp_path / "d.parquet", video)
    else:
        assert read_detections(tmp_path / "d.parquet", video).video == video


def test_a_name_with_commas_stands_above_a_count(tmp_path):
    found = read_detections(written(tmp_path, "a,b,c,d,e,f,0\n1\n1 2 3 4 0.5\n"), VIDEO)
    assert found.n_frames == 1 and found.scores.tolist() == [0.5]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "utf-8"])
def test_names_of_pictures_may_be_in_any_encoding(tmp_path, encoding):
    name = "дом" if encoding == "cp1251" else "Straße"
    path = tmp_path / "found.txt"
    path.write_bytes(f"{name}/1\n1\n1 2 3 4 0.5\n{name}/2\n0\n".encode(encoding))
    found = read_detections(path, VideoInfo("v", width=64, height=64, fps=10.0))
    assert found.n_frames == 2 and found.boxes_xyxy.tolist() == [[1, 2, 4, 6]]
