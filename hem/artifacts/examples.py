"""Hard examples as Parquet (exact) and as COCO JSON (for other tools)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hem.artifacts.files import read_table, write_json, write_slices
from hem.errors import HemError
from hem.structures import HardExample, Kind, VideoInfo
from hem.structures.example_list import SLICE, frames_of, in_order

MOST_CLASSES = 100_000
"""Labels are whole numbers counted from 1; a larger one is none, and names for all up to it fill a disk."""
_SORTED = json.JSONEncoder(sort_keys=True)
_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("video_id", pa.string()),
        ("video_digest", pa.string()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        ("box_xyxy", pa.list_(pa.float64(), 4)),
        ("label", pa.int64()),
        ("kind", pa.string()),
        ("score", pa.float64()),
        ("weight", pa.float64()),
        ("rule", pa.string()),
        ("round", pa.int64()),
        ("evidence", pa.string()),
    ]
)


def names_up_to(class_names: Sequence[str], highest: int) -> tuple[str, ...]:
    """Return names of labels 1..``highest`` and of all that have one; those without are ``class <label>``.

    Raises:
        HemError: if ``highest`` is above MOST_CLASSES.
    """
    if highest > MOST_CLASSES:
        raise HemError(
            f"label {highest} is above {MOST_CLASSES}: number the classes of the detections from 1"
        )
    return (*class_names, *(f"class {label}" for label in range(len(class_names) + 1, highest + 1)))


def save_examples(
    path: Path,
    examples: Sequence[HardExample],
    *,
    class_names: Sequence[str],
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write hard examples as Parquet, in the order given, a slice at a time."""
    slices = (_columns(examples[first : first + SLICE]) for first in range(0, len(examples), SLICE))
    given = {"class_names": list(class_names), **(header or {})}
    write_slices(path, "hard_examples", slices, _SCHEMA, header=given)


def _columns(examples: Sequence[HardExample]) -> dict[str, Any]:
    return {
        "example_id": [e.example_id for e in examples],
        "video_id": [e.video_id for e in examples],
        "video_digest": [e.video_digest for e in examples],
        "frame_index": np.array([e.frame_index for e in examples], dtype=np.int64),
        "time_s": np.array([e.time_s for e in examples], dtype=np.float64),
        "box_xyxy": np.array([e.box_xyxy for e in examples], dtype=np.float64).reshape(-1, 4),
        "label": np.array([e.label for e in examples], dtype=np.int64),
        "kind": [e.kind.value for e in examples],
        "score": [e.score for e in examples],  # a list, since NumPy has no null
        "weight": np.array([e.weight for e in examples], dtype=np.float64),
        "rule": [e.rule for e in examples],
        "round": np.array([e.round for e in examples], dtype=np.int64),
        "evidence": [_SORTED.encode(dict(e.evidence)) for e in examples],
    }


def load_examples(path: Path) -> tuple[list[HardExample], dict[str, Any]]:
    """Read hard examples and the header written with them.

    Raises:
        HemError: if the file is absent, damaged or of another schema.
    """
    columns, header = read_table(path, "hard_examples")
    examples = [
        HardExample(
            video_id=str(columns["video_id"][row]),
            video_digest=str(columns["video_digest"][row]),
            frame_index=int(columns["frame_index"][row]),
            time_s=float(columns["time_s"][row]),
            box_xyxy=tuple(columns["box_xyxy"][row].tolist()),
            label=int(columns["label"][row]),
            kind=Kind(str(columns["kind"][row])),
            # null comes as NaN, and files written before null was used hold NaN itself
            score=None if np.isnan(columns["score"][row]) else float(columns["score"][row]),
            weight=float(columns["weight"][row]),
            rule=str(columns["rule"][row]),
            round=int(columns["round"][row]),
            evidence=json.loads(str(columns["evidence"][row])),
        )
        for row in range(len(columns["frame_index"]))
    ]
    return examples, header


def save_coco(
    path: Path,
    examples: Sequence[HardExample],
    videos: Sequence[VideoInfo],
    class_names: Sequence[str],
) -> None:
    """Write hard examples as COCO JSON, sorted, with extra fields beside the standard ones.

    One ``images`` entry for each frame that holds an example (``video``, ``frame_index``,
    ``time_s``); each annotation has ``video``, ``frame_index``, ``bbox`` [left, top, width, height]
    in original pixels, ``score``, ``kind``, ``weight``, ``rule``, ``round``, ``example_id``. Readers
    that know only COCO must keep ``kind`` = hard_positive and pseudo_label and drop the rest; ignore
    regions have ``iscrowd`` = 1.
    """
    sizes = {video.video_id: (video.width, video.height) for video in videos}
    ordered = in_order(examples)
    payload = {
        "images": (
            _image(place, number, sizes.get(place[0], (0, 0)))
            for number, place in enumerate(frames_of(ordered), 1)
        ),
        "annotations": (
            _annotation(example, number, image)
            for number, (example, image) in enumerate(zip(ordered, _image_ids(ordered), strict=True), 1)
        ),
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(class_names)],
    }
    write_json(path, "hard_examples_coco", payload)


def _image_ids(ordered: Sequence[HardExample]) -> Iterator[int]:
    for number, (_, _, _, count) in enumerate(frames_of(ordered), 1):
        yield from repeat(number, count)


def _image(place: tuple[str, int, float, int], image_id: int, size: tuple[int, int]) -> dict[str, Any]:
    video_id, frame_index, time_s, _ = place
    return {
        "id": image_id,
        "file_name": f"{video_id}#{frame_index:06d}",
        "video": video_id,
        "frame_index": frame_index,
        "time_s": time_s,
        "width": size[0],
        "height": size[1],
    }


def _annotation(example: HardExample, annotation_id: int, image_id: int) -> dict[str, Any]:
    left, top, right, bottom = example.box_xyxy
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": example.label,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": int(example.kind is Kind.IGNORE),
        "video": example.video_id,
        "frame_index": example.frame_index,
        "time_s": example.time_s,
        "score": example.score,
        "kind": example.kind.value,
        "weight": example.weight,
        "rule": example.rule,
        "round": example.round,
        "example_id": example.example_id,
        "evidence": dict(example.evidence),
    }
