"""Truth of videos in files: hem's own Parquet form, and MOT text."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hem.artifacts.truth import load_truth, save_truth
from hem.errors import HemError
from hem.structures import VideoTruth

__all__ = ["load_truth", "read_mot_truth", "save_truth", "truth_for", "truth_path"]


def truth_path(truth_root: Path, video_id: str) -> Path:
    """Return where the truth of ``video_id`` lies: its id with ``.parquet`` behind the whole name."""
    return truth_root / f"{video_id}.parquet"


def truth_for(truth_root: Path, video_id: str) -> VideoTruth | None:
    """Return the truth of one video of a scanned folder, or None if there is none.

    Raises:
        HemError: if there is one and it cannot be read.
    """
    path = truth_path(truth_root, video_id)
    return load_truth(path) if path.is_file() else None


def _mot_rows(path: Path) -> NDArray[np.float64]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise HemError(f"{path} is not there") from None
    except UnicodeDecodeError:
        raise HemError(f"{path} is not MOT text") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = [float(part) for part in line.split(",")[:7]]
        except ValueError:
            values = []
        if len(values) < 6 or not np.isfinite(values).all():
            raise HemError(
                f"{path} line {number}: expected 'frame,id,left,top,width,height[,conf…]', got {line!r}"
            )
        if values[4] < 0 or values[5] < 0:
            raise HemError(f"{path} line {number}: width and height must not be negative, got {line!r}")
        rows.append(values if len(values) == 7 else [*values, 1.0])
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def read_mot_truth(
    path: Path, n_frames: int, class_name: str = "object", video_id: str | None = None
) -> VideoTruth:
    """Read MOTChallenge ground truth text, one class.

    Lines are ``frame,id,left,top,width,height,conf,…``; frames count from 1, boxes are taken as
    written, ``conf`` 0 is a region to ignore (absent: an object). Every frame counts as labelled.

    Args:
        path: the text file.
        n_frames: frames of the video (the text does not say).
        class_name: name of label 1.
        video_id: identity of the video; the folder's name when None.

    Raises:
        HemError: if the file is absent, a line is not of this form, or a frame lies outside 1..n_frames.
    """
    rows = _mot_rows(path)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    frames = rows[:, 0].astype(np.int64) - 1
    outside = (frames < 0) | (frames >= n_frames)
    if outside.any():
        wrong = int(frames[outside][0]) + 1
        raise HemError(f"{path}: frame {wrong} lies outside the video's 1..{n_frames}")
    boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    return VideoTruth(
        video_id=video_id or path.resolve().parent.name,
        frame_index=frames,
        boxes_xyxy=boxes,
        labels=np.ones(len(rows), dtype=np.int64),
        ignore=rows[:, 6] == 0,
        object_id=rows[:, 1].astype(np.int64),
        labelled_frames=np.ones(n_frames, dtype=np.bool_),
        class_names=(class_name,),
    )
