"""Truth of a video as one Parquet file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.artifacts.files import read_table, write_table
from hem.errors import HemError
from hem.structures import VideoTruth


def save_truth(path: Path, truth: VideoTruth) -> None:
    """Write one video's truth."""
    columns = {
        "frame_index": truth.frame_index,
        "boxes_xyxy": truth.boxes_xyxy,
        "labels": truth.labels,
        "ignore": truth.ignore,
        "object_id": truth.object_id,
    }
    header = {
        "video_id": truth.video_id,
        "class_names": list(truth.class_names),
        "n_frames": len(truth.labelled_frames),
        "unlabelled_frames": np.flatnonzero(~truth.labelled_frames).tolist(),
    }
    write_table(path, "video_truth", columns, header=header)


def load_truth(path: Path) -> VideoTruth:
    """Read what save_truth wrote.

    Raises:
        HemError: if the file is absent, damaged or of another schema.
    """
    columns, header = read_table(path, "video_truth")
    try:
        return _from_columns(columns, header)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise HemError(f"{path} is not a whole video truth: {error}") from None


def _from_columns(columns: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> VideoTruth:
    labelled = np.ones(int(header["n_frames"]), dtype=np.bool_)
    labelled[np.array(header["unlabelled_frames"], dtype=np.int64)] = False
    return VideoTruth(
        video_id=str(header["video_id"]),
        frame_index=columns["frame_index"].astype(np.int64),
        boxes_xyxy=columns["boxes_xyxy"].astype(np.float64).reshape(-1, 4),
        labels=columns["labels"].astype(np.int64),
        ignore=columns["ignore"].astype(np.bool_),
        object_id=columns["object_id"].astype(np.int64),
        labelled_frames=labelled,
        class_names=tuple(header["class_names"]),
    )
