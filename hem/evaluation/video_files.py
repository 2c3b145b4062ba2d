"""Detections and truth of videos from files, for the ``video`` protocol."""

import json
from collections.abc import Collection, Sequence
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
        HemError: if there are no detections, a file is damaged, or files number their classes differently.
    """
    if path.is_file():
        return [load_detections(path)], []
    files = {file: _kind(file) for file in sorted(_all_of(path) if only is None else only)}
    found = [load_detections(file) for file, kind in files.items() if kind.startswith("hem/detections/")]
    if not found:
        raise HemError(f"{path} holds no detections; `python -m hem.detect` writes them (.parquet)")
    mined = [load_examples(file) for file, kind in files.items() if kind.startswith("hem/hard_examples/")]
    named = [tuple(one.class_names) for one in found] + [tuple(header["class_names"]) for _, header in mined]
    if len(lists := sorted({names for names in named if names})) > 1:
        raise HemError(
            f"files below {path} number their classes differently: {', '.join(lists[0])} and "
            f"{', '.join(lists[1])}; evaluate them apart"
        )
    return found, [example for examples, _ in mined for example in examples]


def _all_of(path: Path) -> list[Path]:
    """Return the Parquet files below a folder; of frames kept for replay the examples are there already."""
    return [file for file in path.rglob("*.parquet") if "replay" not in file.relative_to(path).parts[:-1]]


def read_truth(path: Path, found: VideoDetections) -> VideoTruth | None:
    """Return the truth of one video, or None where there is none.

    ``path`` is a file, or a folder that holds ``<video id>.parquet`` (as hem writes truth),
    ``<video id>.txt``, or ``gt.txt`` in the folder of the video's id (both MOTChallenge text). Where truth
    and detections both name their classes, labels are numbered as the detections' are.

    Raises:
        HemError: if ``path`` is absent, a file is damaged, or objects are of a class that the detections do
            not name.
    """
    if not path.exists():
        raise HemError(f"{path} is not there; give the truth's file or the folder that holds it")
    video = found.video.video_id
    place = truth_place(path, video)
    if place is None:
        return None
    if place.suffix != ".parquet":
        return _mot_truth(place, found)
    return _numbered_alike(replace(load_truth(place), video_id=video), found, place)


def _numbered_alike(truth: VideoTruth, found: VideoDetections, place: Path) -> VideoTruth:
    """Return the truth with the detections' labels: by name, for two lists may hold one class in two places.

    Where either names nothing, or each has one class, the numbers count.
    """
    own, names = tuple(truth.class_names), tuple(found.class_names)
    if own == names or not own or not names or len(own) == len(names) == 1:
        return truth
    numbers = np.zeros(max(int(truth.labels.max(initial=0)), len(own)) + 1, dtype=np.int64)  # 0: every class
    for label in np.unique(truth.labels[truth.labels > 0]).tolist():
        name = own[label - 1] if label <= len(own) else f"(label {label}, without a name)"
        if name not in names:
            raise HemError(
                f"{place}: objects of class {name!r}, but the detections of {found.video.video_id} know "
                f"{', '.join(names)}; rename the class, or leave its objects out of the truth"
            )
        numbers[label] = names.index(name) + 1
    return replace(truth, labels=numbers[truth.labels], class_names=names)


def truth_place(path: Path, video_id: str) -> Path | None:
    """Return the file with a video's truth, as read_truth looks for it; None if there is none."""
    if path.is_file():
        return path
    places = (path / f"{video_id}.parquet", path / f"{video_id}.txt", path / Path(video_id).parent / "gt.txt")
    return next((place for place in places if place.is_file()), None)


def require_truth(path: Path, video_ids: Sequence[str], key: str) -> None:
    """Raise HemError where a setting ``key`` names no truth, or one file for several videos."""
    if not path.exists():
        raise HemError(f"{key}={path} is not there; give the truth's file or the folder that holds it")
    if path.is_file() and len(video_ids) > 1:
        raise HemError(
            f"{key}={path} is one file for {len(video_ids)} videos; give a folder with one for each, named "
            "after it (clip.mp4 -> clip.mp4.parquet, or clip.mp4.txt in MOT text)"
        )
    if video_ids and all(truth_place(path, one) is None for one in video_ids):
        raise HemError(
            f"{key}={path} holds no truth for any of {len(video_ids)} videos: looked for "
            f"{video_ids[0]}.parquet, {video_ids[0]}.txt (MOT text) and the like"
        )


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
