"""Hard examples as Parquet (exact) and as COCO JSON (for other tools)."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from hem.artifacts.files import read_table, write_json, write_table
from hem.structures import HardExample, Kind, VideoInfo


def save_examples(
    path: Path,
    examples: Sequence[HardExample],
    *,
    class_names: Sequence[str],
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write hard examples as Parquet, in the order given."""
    text_of = json.JSONEncoder(sort_keys=True).encode
    columns: dict[str, Any] = {
        "example_id": [e.example_id for e in examples],
        "video_id": [e.video_id for e in examples],
        "video_digest": [e.video_digest for e in examples],
        "frame_index": np.array([e.frame_index for e in examples], dtype=np.int64),
        "time_s": np.array([e.time_s for e in examples], dtype=np.float64),
        "box_xyxy": np.array([e.box_xyxy for e in examples], dtype=np.float64).reshape(-1, 4),
        "label": np.array([e.label for e in examples], dtype=np.int64),
        "kind": [e.kind.value for e in examples],
        "score": np.array([np.nan if e.score is None else e.score for e in examples], dtype=np.float64),
        "weight": np.array([e.weight for e in examples], dtype=np.float64),
        "rule": [e.rule for e in examples],
        "round": np.array([e.round for e in examples], dtype=np.int64),
        "evidence": [text_of(dict(e.evidence)) for e in examples],
    }
    write_table(path, "hard_examples", columns, header={"class_names": list(class_names), **(header or {})})


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
    ordered = sorted(examples, key=lambda e: (e.video_id, e.frame_index, e.kind.value, e.label, e.box_xyxy))
    frames = [next(group) for _, group in groupby(ordered, key=lambda e: (e.video_id, e.frame_index))]
    images = {(example.video_id, example.frame_index): number for number, example in enumerate(frames, 1)}
    payload = {
        "images": (
            _image(example, number, sizes.get(example.video_id, (0, 0)))
            for number, example in enumerate(frames, 1)
        ),
        "annotations": (
            _annotation(example, number, images[example.video_id, example.frame_index])
            for number, example in enumerate(ordered, 1)
        ),
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(class_names)],
    }
    write_json(path, "hard_examples_coco", payload)


def _image(example: HardExample, image_id: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": f"{example.video_id}#{example.frame_index:06d}",
        "video": example.video_id,
        "frame_index": example.frame_index,
        "time_s": example.time_s,
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
