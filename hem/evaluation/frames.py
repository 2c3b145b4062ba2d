"""Detections and truth of one frame side by side, from stills and from video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures import Detections, Target, VideoDetections, VideoTruth

# What no frame of a video with uneven times lasts: beyond both the clock was set, or recording paused.
_JUMP_S, _JUMP_LENGTHS = 2.0, 10


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """One labelled frame or still.

    Attributes:
        boxes, scores, labels: detections, float64 (N, 4) and (N,), int64 (N,).
        true_boxes, true_labels: objects, float64 (M, 4), int64 (M,) from 1.
        ignore_boxes, ignore_labels: regions that neither count nor hurt; label 0 = of every class.
        group: index of the video (or of the still) in the sequence it came from.
        name: for messages.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    true_boxes: NDArray[np.float64]
    true_labels: NDArray[np.int64]
    ignore_boxes: NDArray[np.float64]
    ignore_labels: NDArray[np.int64]
    group: int
    name: str


def still_frames(detections: Sequence[Detections], targets: Sequence[Target]) -> list[LabelledFrame]:
    """Pair detections with targets, image by image.

    Raises:
        HemError: if the two have different lengths.
    """
    if len(detections) != len(targets):
        raise HemError(
            f"{len(detections)} images have detections but {len(targets)} have targets; give one of each"
        )
    return [
        LabelledFrame(
            boxes=found.boxes_xyxy.cpu().numpy(),
            scores=found.scores.cpu().numpy(),
            labels=found.labels.cpu().numpy(),
            true_boxes=target.boxes_xyxy.cpu().numpy().astype(np.float64),
            true_labels=target.labels.cpu().numpy(),
            ignore_boxes=target.ignore_xyxy.cpu().numpy().astype(np.float64),
            ignore_labels=np.zeros(len(target.ignore_xyxy), dtype=np.int64),
            group=index,
            name=target.name or f"image {index}",
        )
        for index, (found, target) in enumerate(zip(detections, targets, strict=True))
    ]


def pair_videos(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth]
) -> list[tuple[VideoDetections, VideoTruth]]:
    """Pair videos by id, in the order of ``truths``. Videos without truth are left out.

    Raises:
        HemError: if an id occurs twice, a truth has no detections, or a video ends before its truth
            without a gap that says why.
    """
    by_id: dict[str, VideoDetections] = {}
    for one in detections:
        if one.video.video_id in by_id:
            raise HemError(f"video {one.video.video_id} has two sets of detections; keep one")
        by_id[one.video.video_id] = one
    pairs: list[tuple[VideoDetections, VideoTruth]] = []
    for truth in truths:
        if truth.video_id not in by_id:
            raise HemError(f"video {truth.video_id} has truth but no detections; run the detector on it")
        pairs.append((by_id.pop(truth.video_id), truth))
        _check_lengths(*pairs[-1])
    if len({truth.video_id for truth in truths}) < len(truths):
        raise HemError("two truths have the same video id; keep one")
    return pairs


def _check_lengths(found: VideoDetections, truth: VideoTruth) -> None:
    missing = truth.labelled_frames[found.n_frames :]
    cut_off = any(gap.end_frame is None or gap.end_frame > found.n_frames for gap in found.gaps)
    if missing.any() and not cut_off:
        raise HemError(
            f"video {truth.video_id}: truth labels frame {found.n_frames + int(np.flatnonzero(missing)[-1])} "
            f"but the detections end after {found.n_frames} frames; they belong to different files"
        )
    if ((truth.labels < 1) & ~truth.ignore).any():
        raise HemError(f"truth of {truth.video_id}: label 0 is allowed for ignore regions only")


def seen_frames(found: VideoDetections, truth: VideoTruth) -> NDArray[np.bool_]:
    """Return bool (F,), F frames of ``found``: labelled and decoded. Only these enter any figure."""
    labelled = np.zeros(found.n_frames, dtype=bool)
    count = min(found.n_frames, len(truth.labelled_frames))
    labelled[:count] = truth.labelled_frames[:count]
    for gap in found.gaps:
        labelled[gap.first_frame : gap.end_frame] = False
    return labelled & found.decoded


def minutes_of(found: VideoDetections, frames: NDArray[np.bool_]) -> float:
    """Return how long the chosen frames are on screen, in minutes.

    A frame lasts until the next one. Where that is unknown (the last frame, before a gap, where the clock
    goes back) it lasts the median of the others, or 1 / fps in a video of one frame. So it does where the
    clock jumps ahead, by more than 2 seconds and 10 medians: no frame shows the time between.
    """
    lengths = np.diff(found.frame_times_s, append=np.nan)
    known = lengths[np.isfinite(lengths) & (lengths > 0)]
    usual = float(np.median(known)) if len(known) else 1.0 / found.video.fps
    longest = max(_JUMP_S, _JUMP_LENGTHS * usual)
    lengths = np.where((lengths >= 0) & (lengths <= longest), lengths, usual)
    return float(lengths[frames].sum() / 60.0)


def video_frames(found: VideoDetections, truth: VideoTruth, group: int = 0) -> Iterator[LabelledFrame]:
    """Yield every labelled and decoded frame of one video."""
    for index in np.flatnonzero(seen_frames(found, truth)).tolist():
        rows, true_rows = found.rows_of(index), truth.rows_of(index)
        ignore = truth.ignore[true_rows].astype(bool)
        boxes = np.asarray(truth.boxes_xyxy[true_rows], dtype=np.float64)
        labels = truth.labels[true_rows]
        yield LabelledFrame(
            boxes=found.boxes_xyxy[rows],
            scores=found.scores[rows],
            labels=found.labels[rows],
            true_boxes=boxes[~ignore],
            true_labels=labels[~ignore],
            ignore_boxes=boxes[ignore],
            ignore_labels=labels[ignore],
            group=group,
            name=f"{truth.video_id} frame {index}",
        )


def frames_of_videos(
    detections: Sequence[VideoDetections], truths: Sequence[VideoTruth]
) -> list[LabelledFrame]:
    """Return every labelled and decoded frame of the videos that have truth."""
    return [
        frame
        for group, (found, truth) in enumerate(pair_videos(detections, truths))
        for frame in video_frames(found, truth, group)
    ]
