"""Detections and truth of videos from files, for the ``video`` protocol."""

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hem.artifacts import load_detections, load_examples
from hem.artifacts.truth import load_truth
from hem.errors import HemError
from hem.evaluation.readers import number_rows, read_bytes, text_lines
from hem.structures import HardExample, VideoDetections, VideoTruth


def _kind(path: Path) -> str:
    """Return the schema that hem wrote into a Parquet file, or an empty text."""
    try:
        header = (pq.read_schema(path).metadata or {}).get(b"hem", b"{}")
        return str(json.loads(header).get("schema", ""))
    except (pa.ArrowException, ValueError, OSError):
        return ""


def read_detections(
    path: Path, only: Collection[Path] | None = None
) -> tuple[list[VideoDetections], list[HardExample]]:
    """Read a detections file, or every one under a folder, and the hard examples that lie there.

    Args:
        path: file or folder.
        only: the files of the folder that count, in any order; None for all.

    Raises:
        HemError: if there are no detections, or a file is damaged.
    """
    if path.is_file():
        return [load_detections(path)], []
    files = {file: _kind(file) for file in sorted(path.rglob("*.parquet") if only is None else only)}
    found = [load_detections(file) for file, kind in files.items() if kind.startswith("hem/detections/")]
    if not found:
        raise HemError(f"{path} holds no detections; `python -m hem.detect` writes them (.parquet)")
    examples = [
        example
        for file, kind in files.items()
        if kind.startswith("hem/hard_examples/")
        for example in load_examples(file)[0]
    ]
    return found, examples


def read_truth(path: Path, found: VideoDetections) -> VideoTruth | None:
    """Return the truth of one video, or None where there is none.

    ``path`` is a file, or a folder that holds ``<video id>.parquet`` (as hem writes truth),
    ``<video id>.txt``, or ``gt.txt`` in the folder of the video's id (both MOTChallenge text).

    Raises:
        HemError: if ``path`` is absent or a file is damaged.
    """
    if not path.exists():
        raise HemError(f"{path} is not there; give the truth's file or the folder that holds it")
    video = found.video.video_id
    folder = Path(video).parent
    places = [path / f"{video}.parquet", path / f"{video}.txt", path / folder / "gt.txt"]
    if path.is_file():
        places = [path]
    for place in places:
        if place.is_file():
            own = place.suffix == ".parquet"
            return replace(load_truth(place), video_id=video) if own else _mot_truth(place, found)
    return None


def _mot_truth(path: Path, found: VideoDetections) -> VideoTruth:
    """Read ``frame,id,left,top,width,height,conf`` lines: frames from 1, conf 0 = ignore, label 1."""
    lines = text_lines(read_bytes(path), str(path))
    while lines and not lines[-1]:
        lines.pop()
    rows = number_rows(lines, 1, str(path), 7, "frame,id,left,top,width,height,conf")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if len(rows) and not (rows[0, 0] >= 1 and rows[-1, 0] <= max(found.n_frames, 1)):
        raise HemError(
            f"{path}: frames run from {int(rows[0, 0])} to {int(rows[-1, 0])}, but {found.video.video_id} "
            f"has frames 1 to {found.n_frames}; they belong to different videos"
        )
    if (rows[:, 4:6] < 0).any():
        raise HemError(f"{path}: a box has a negative side")
    return VideoTruth(
        video_id=found.video.video_id,
        frame_index=rows[:, 0].astype(np.int64) - 1,
        boxes_xyxy=np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1),
        labels=np.ones(len(rows), dtype=np.int64),
        ignore=rows[:, 6] == 0,
        object_id=rows[:, 1].astype(np.int64),
        labelled_frames=np.ones(found.n_frames, dtype=bool),
    )
