"""Parquet that another program wrote: what fits is read, what does not is named with its file."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hem.artifacts import load_detections
from hem.errors import HemError

HEADER = {
    "video": {"video_id": "v.mp4"}, "frame_times_s": [k / 25 for k in range(5)], "gaps": [],
    "score_range": None, "floor_score": None, "class_names": [],
}  # fmt: skip
BOXES = [[4.0, 8.0, 24.0, 48.0], [6.0, 8.0, 26.0, 48.0]]


def written(path: Path, header: dict | None = None, metadata: str | None = None, **columns: object) -> Path:
    given = {"frame_index": [0, 3], "boxes_xyxy": BOXES, "scores": [0.9, 0.8], "labels": [1, 1], **columns}
    document = {"schema": "hem/detections/1", "header": {**HEADER, **(header or {})}}
    text = json.dumps(document) if metadata is None else metadata
    pq.write_table(pa.table(given).replace_schema_metadata({"hem": text}), path)
    return path


@pytest.mark.parametrize(
    "boxes",
    [
        BOXES,
        pa.array(BOXES, pa.large_list(pa.float32())),
        pa.array(BOXES, pa.list_(pa.float64(), 4)),
        [[4, 8, 24, 48], [6, 8, 26, 48]],
    ],
    ids=["lists", "large lists", "fixed lists", "whole numbers"],
)
def test_boxes_may_be_lists_of_any_kind(tmp_path: Path, boxes: object) -> None:
    found = load_detections(written(tmp_path / "a.parquet", boxes_xyxy=boxes))
    np.testing.assert_array_equal(found.boxes_xyxy, BOXES)
    empty = {"frame_index": pa.int64(), "labels": pa.int64(), "scores": pa.float64()}
    nothing = {name: pa.array([], kind) for name, kind in empty.items()}
    none = written(tmp_path / "b.parquet", **nothing, boxes_xyxy=pa.array([], pa.list_(pa.float64())))
    assert len(load_detections(none)) == 0


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"boxes_xyxy": [BOXES[0], BOXES[1][:3]]}, r"lists of \[3, 4\] numbers"),
        ({"boxes_xyxy": [BOXES[0], None]}, "nulls"),
        ({"boxes_xyxy": [box[:3] for box in BOXES]}, "lists of 4 numbers"),
        ({"frame_index": [0.0, 3.5]}, "frame_index must be whole numbers"),
        ({"frame_index": [0, None]}, "frame_index must be whole numbers, without nulls"),
        ({"frame_index": [-1, 3]}, "frame_index -1 is below 0"),
        ({"scores": ["0.9", "0.8"]}, "scores must be numbers"),
        ({"scores": [True, False]}, "scores must be numbers"),
        ({"labels": [1.5, 1.0]}, "labels must be whole numbers"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path: Path, columns: dict, said: str) -> None:
    with pytest.raises(HemError, match=f"a.parquet.*{said}"):
        load_detections(written(tmp_path / "a.parquet", **columns))


@pytest.mark.parametrize(
    "header",
    [
        {"frame_times_s": "abc"},
        {"frame_times_s": None},
        {"class_names": "face"},
        {"class_names": [1]},
        {"gaps": 5},
        {"gaps": [{"first_frame": 1}]},
        {"gaps": [{"first_frame": 9, "end_frame": 3, "reason": "x"}]},
        {"score_range": [1]},
        {"score_range": "x"},
        {"video": 7},
        {"video": {"video_id": 5}},
        {"floor_score": "x"},
    ],
    ids=str,
)
def test_headers_that_do_not_fit_are_named(tmp_path: Path, header: dict) -> None:
    with pytest.raises(HemError, match=r"a\.parquet"):
        load_detections(written(tmp_path / "a.parquet", header))


@pytest.mark.parametrize(
    "metadata", ["[]", "null", '"x"', "{", '{"schema": "hem/detections/1", "header": []}']
)
def test_metadata_that_is_no_header_is_named(tmp_path: Path, metadata: str) -> None:
    with pytest.raises(HemError, match=r"a\.parquet"):
        load_detections(written(tmp_path / "a.parquet", metadata=metadata))
