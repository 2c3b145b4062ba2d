"""Detections of a video as one Parquet file."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hem.artifacts.files import read_table, write_table
from hem.errors import HemError
from hem.structures import FrameGap, VideoDetections, VideoInfo


def header_of(detections: VideoDetections) -> dict[str, Any]:
    """Return all of a VideoDetections that is not a column, as JSON-like values."""
    finite = np.isfinite(detections.floor_score)
    return {
        "video": asdict(detections.video),
        "frame_times_s": [None if np.isnan(t) else float(t) for t in detections.frame_times_s],
        "gaps": [asdict(gap) for gap in detections.gaps],
        "score_range": detections.score_range,
        "floor_score": float(detections.floor_score) if finite else None,
        "class_names": list(detections.class_names),
    }


def from_columns(columns: Mapping[str, np.ndarray], header: Mapping[str, Any], path: Path) -> VideoDetections:
    """Build a VideoDetections from columns and the header that header_of made.

    Raises:
        HemError: naming ``path``, for what is missing, of another kind, or cannot be.
    """
    try:
        return _built(columns, header)
    except HemError as error:
        raise HemError(f"{path}: {error}") from None
    except KeyError as error:  # as another program may write it
        raise HemError(f"{path} lacks {error}: see docs/formats.md, Detections") from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise HemError(f"{path} does not fit docs/formats.md, Detections: {error}") from None


def _built(columns: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> VideoDetections:
    for name, kind in (("frame_index", "iu"), ("labels", "iu"), ("scores", "iuf"), ("boxes_xyxy", "iuf")):
        if columns[name].dtype.kind not in kind:
            wanted = "whole numbers, without nulls" if kind == "iu" else "numbers"
            raise ValueError(f"{name} must be {wanted}, got {columns[name].dtype}")
    if len(columns["boxes_xyxy"]) and columns["boxes_xyxy"].shape[1:] != (4,):
        raise ValueError("boxes_xyxy must be lists of 4 numbers")
    if int(columns["frame_index"].min(initial=0)) < 0:
        raise ValueError(f"frame_index {int(columns['frame_index'].min())} is below 0")
    names, score_range = header["class_names"], header["score_range"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of texts, got {names!r}")
    gaps = tuple(FrameGap(**gap) for gap in header["gaps"])
    if any(gap.end_frame is not None and gap.end_frame < gap.first_frame for gap in gaps):
        raise ValueError("a gap ends before it begins")
    return VideoDetections(
        video=VideoInfo(**header["video"]),
        frame_index=columns["frame_index"],
        boxes_xyxy=columns["boxes_xyxy"],
        scores=columns["scores"],
        labels=columns["labels"],
        frame_times_s=np.array(
            [np.nan if t is None else t for t in header["frame_times_s"]], dtype=np.float64
        ),
        gaps=gaps,
        score_range=None if score_range is None else (float(score_range[0]), float(score_range[1])),
        floor_score=float("-inf") if header["floor_score"] is None else float(header["floor_score"]),
        class_names=tuple(names),
    )


def columns_of(detections: VideoDetections) -> dict[str, np.ndarray]:
    """Return the columns of a VideoDetections by name."""
    return {
        "frame_index": detections.frame_index,
        "boxes_xyxy": detections.boxes_xyxy,
        "scores": detections.scores,
        "labels": detections.labels,
    }


def save_detections(
    path: Path, detections: VideoDetections, made_by: Mapping[str, str] | None = None
) -> None:
    """Write one video's detections; ``made_by`` records digests (detector, video) of what made them."""
    header = {**header_of(detections), "made_by": dict(made_by or {})}
    write_table(path, "detections", columns_of(detections), header=header)


def load_detections(path: Path) -> VideoDetections:
    """Read one video's detections.

    Raises:
        HemError: if the file is absent, damaged or of another schema, or lacks something.
    """
    return from_columns(*read_table(path, "detections"), path)


def detections_in(path: Path, video: VideoInfo) -> VideoDetections:
    """Load one video's detections, under the id and path that the video has now.

    Raises:
        HemError: as load_detections.
    """
    return named_as(load_detections(path), video)


def named_as(found: VideoDetections, video: VideoInfo) -> VideoDetections:
    """Return detections under the id and path of ``video``, which holds the same frames."""
    known = found.video
    if (known.video_id, known.path) == (video.video_id, video.path):
        return found
    return replace(found, video=replace(known, video_id=video.video_id, path=video.path))


def load_header(path: Path) -> dict[str, Any]:
    """Return what header_of made of a file's detections, and ``made_by`` as save_detections was given it.

    Raises:
        HemError: as load_detections.
    """
    return read_table(path, "detections")[1]
