import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hem import __version__
from hem.artifacts import (
    digest_of,
    load_detections,
    load_examples,
    read_json,
    read_table,
    remove_parts,
    save_coco,
    save_detections,
    save_examples,
    whole_directory,
    whole_file,
    write_json,
    write_table,
)
from hem.artifacts.files import PROGRAM, write_slices
from hem.errors import HemError
from hem.structures import Detections, FrameGap, HardExample, Kind, VideoDetections, VideoInfo


def test_a_failed_write_leaves_the_older_file_and_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, "thing", {"value": 1})
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path, "thing")["value"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_directory_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_directory(tmp_path / "out") as temporary:
        (temporary / "x").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_finished_directory_is_never_overwritten(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out") as temporary:
        (temporary / "x").write_text("whole")
    with pytest.raises(HemError, match="exists already"), whole_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "x").read_text() == "whole"


def test_parts_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.json.0123abcd.part").write_text("half")
    (tmp_path / ".out.0123abcd.part").mkdir()
    (tmp_path / "kept").write_text("whole")
    remove_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_every_file_says_what_program_made_it_and_is_the_same_each_time(tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_json(folder / "a.json", "thing", {"value": 1}, made_by={"model": "m"})
        write_table(folder / "a.parquet", "thing", {"x": np.arange(3)}, header={"made_by": {"model": "m"}})
        write_table(folder / "b.parquet", "thing", {"x": np.arange(3)})
        schema = pa.schema([("x", pa.int64())])
        write_slices(folder / "c.parquet", "thing", [{"x": np.arange(3)}], schema)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    program = PROGRAM
    assert program == f"hem {__version__}"
    assert read_json(folder / "a.json", "thing")["made_by"] == {"program": program, "model": "m"}
    assert read_table(folder / "a.parquet", "thing")[1]["made_by"] == {"program": program, "model": "m"}
    for name in ("b", "c"):
        assert read_table(folder / f"{name}.parquet", "thing")[1]["made_by"] == {"program": program}
    assert written[0] == written[1]


def test_json_refuses_what_was_not_measured_as_nan(tmp_path: Path) -> None:
    with pytest.raises(HemError, match="use null"):
        write_json(tmp_path / "a.json", "thing", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[1]", "schema None"),
        ('{"schema": "hem/thing/9"}', "expected 'hem/thing/1'"),
    ],
)
def test_foreign_json_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(HemError, match=message) as caught:
        read_json(path, "thing")
    assert str(path) in str(caught.value)
    with pytest.raises(HemError, match="not there"):
        read_json(tmp_path / "b.json", "thing")


def test_tables_keep_dtypes_shapes_and_header(tmp_path: Path) -> None:
    columns = {
        "box": np.arange(8.0).reshape(2, 4),
        "n": np.array([1, 2], dtype=np.int16),
        "flag": np.array([True, False]),
        "name": ["a", "ü"],
    }
    write_table(tmp_path / "t.parquet", "thing", columns, header={"k": [1, None]})
    read, header = read_table(tmp_path / "t.parquet", "thing")
    assert header == {"k": [1, None], "made_by": {"program": PROGRAM}}
    for name, column in columns.items():
        np.testing.assert_array_equal(read[name], np.asarray(column, dtype=read[name].dtype))
    assert read["n"].dtype == np.int16


def test_a_damaged_table_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, "thing", {"n": np.arange(100)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HemError, match=r"t\.parquet"):
        read_table(path, "thing")
    write_table(path, "other", {"n": np.arange(1)})
    with pytest.raises(HemError, match="hem/other/1"):
        read_table(path, "thing")


def test_detections_come_back_exactly(tmp_path: Path) -> None:
    frames = [Detections(torch.tensor([[0.1, 0.2, 3.3, 4.4]]), torch.tensor([0.7]), torch.tensor([2]), 1)]
    video = VideoDetections.from_frames(
        VideoInfo("a/b.mp4", "d" * 64, "/x", 64, 48, 29.97, 3),
        frames,
        [0.0, np.nan, 0.08],
        gaps=(FrameGap(1, 2, "damaged"),),
        score_range=(0.0, 1.0),
        class_names=("cat", "dog"),
    )
    save_detections(tmp_path / "d.parquet", video)
    read = load_detections(tmp_path / "d.parquet")
    assert read.video == video.video
    assert (read.gaps, read.score_range, read.class_names) == (video.gaps, (0.0, 1.0), ("cat", "dog"))
    assert read.floor_score == float("-inf")
    for name in ("frame_index", "boxes_xyxy", "scores", "labels", "frame_times_s"):
        np.testing.assert_array_equal(getattr(read, name), getattr(video, name))


def test_an_empty_video_comes_back(tmp_path: Path) -> None:
    save_detections(tmp_path / "d.parquet", VideoDetections.from_frames(VideoInfo("v"), [], [0.0, 1.0]))
    assert len(load_detections(tmp_path / "d.parquet")) == 0


def hard(kind: Kind, score: float | None) -> HardExample:
    return HardExample(
        "a.mp4", "d" * 64, 5, 0.2, (1.5, 2.5, 11.5, 22.5), 1, kind, score, 0.5, "hem", 2, {"ncc_before": 0.9}
    )


def test_examples_come_back_exactly(tmp_path: Path) -> None:
    examples = [hard(Kind.HARD_NEGATIVE, 0.9), hard(Kind.HARD_POSITIVE, None)]
    save_examples(tmp_path / "e.parquet", examples, class_names=("face",), header={"preset": "hem"})
    read, header = load_examples(tmp_path / "e.parquet")
    assert read == examples
    assert header["preset"] == "hem"
    save_examples(tmp_path / "none.parquet", [], class_names=("face",))
    assert load_examples(tmp_path / "none.parquet")[0] == []


@pytest.mark.parametrize("scores", [[0.25, None, 1 / 3], [None, None], [1.0, 0.0], [None, 1]])
def test_a_score_that_is_not_known_is_null_in_the_table(tmp_path: Path, scores: list[float | None]) -> None:
    examples = [hard(Kind.HARD_POSITIVE, score) for score in scores]
    save_examples(tmp_path / "e.parquet", examples, class_names=("face",))
    column = pq.read_table(tmp_path / "e.parquet").column("score")
    assert column.type == pa.float64()
    assert column.to_pylist() == scores
    assert [example.score for example in load_examples(tmp_path / "e.parquet")[0]] == scores


def test_a_score_of_nan_as_older_files_have_it_is_not_known(tmp_path: Path) -> None:
    save_examples(tmp_path / "e.parquet", [hard(Kind.HARD_POSITIVE, None)], class_names=("face",))
    table = pq.read_table(tmp_path / "e.parquet")
    at = table.schema.get_field_index("score")
    old = table.set_column(at, table.schema.field(at), pa.array([float("nan")]))
    pq.write_table(old, tmp_path / "old.parquet")
    assert old.column("score").null_count == 0
    assert load_examples(tmp_path / "old.parquet")[0] == [hard(Kind.HARD_POSITIVE, None)]


def test_detections_that_another_program_wrote_as_documented_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    section = page.split("## Detections")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    assert "import hem" not in code
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    read = load_detections(tmp_path / "clip.mp4.parquet")
    assert (read.video.video_id, read.n_frames, read.class_names) == ("clip.mp4", 4, ("face", "person"))
    assert read.gaps == (FrameGap(2, 3, "cannot be decoded"),)
    assert read.frame(0).scores.tolist() == [0.9, 0.4] and read.frame(3).labels.tolist() == [1]
    assert len(read.frame(1)) == 0 and read.floor_score == 0.05
    save_detections(tmp_path / "again.parquet", read)
    theirs, ours = (
        read_table(tmp_path / name, "detections") for name in ("clip.mp4.parquet", "again.parquet")
    )
    assert theirs[1].keys() == ours[1].keys()  # nothing more is needed, and nothing is left out
    assert {k: (v.dtype, v.shape) for k, v in theirs[0].items()} == {
        k: (v.dtype, v.shape) for k, v in ours[0].items()
    }


def test_coco_form_has_the_stable_fields(tmp_path: Path) -> None:
    save_coco(
        tmp_path / "h.json", [hard(Kind.IGNORE, 0.3)], [VideoInfo("a.mp4", width=64, height=48)], ("face",)
    )
    document = json.loads((tmp_path / "h.json").read_text())
    (annotation,) = document["annotations"]
    assert annotation["bbox"] == [1.5, 2.5, 10.0, 20.0]
    wanted = {"video": "a.mp4", "frame_index": 5, "score": 0.3, "kind": "ignore", "weight": 0.5, "iscrowd": 1}
    assert wanted.items() <= annotation.items()
    assert document["images"][0]["width"] == 64
    assert document["categories"] == [{"id": 1, "name": "face"}]


def test_digest_does_not_depend_on_key_order() -> None:
    assert digest_of({"a": 1, "b": [1.5, None]}) == digest_of({"b": [1.5, None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


@pytest.mark.parametrize("name", ["video", "gaps", "frame_times_s"])
def test_a_header_that_lacks_something_is_named(tmp_path, name):
    path = tmp_path / "found.parquet"
    save_detections(path, VideoDetections.from_frames(VideoInfo("a.mp4"), [], np.zeros(2)))
    columns, header = read_table(path, "detections")
    del header[name]
    write_table(path, "detections", columns, header=header)
    with pytest.raises(HemError, match=rf"found\.parquet lacks '{name}'"):
        load_detections(path)
