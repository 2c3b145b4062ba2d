"""``python -m hem.detect``: every detection of every video, and the videos with boxes drawn on request."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.allocator import keep_freed_memory
from hem.artifacts import load_detections, load_examples
from hem.artifacts.places import require_writable
from hem.compose import entry
from hem.config import DetectConfig, check
from hem.errors import HemError
from hem.predicting import detect_shown
from hem.reporting.steps import Steps
from hem.reporting.strips import MarkedBox, Pixels, annotated, marks_of_detections, marks_of_examples
from hem.structures import FrameBatch, HardExample, VideoDetections, VideoInfo
from hem.training.checkpoint import detector_from, load_checkpoint
from hem.training.measure import accelerator_of, made_otherwise
from hem.training.videos import Videos
from hem.video.manifest import OVERLAY, scan_videos
from hem.video.writer import write_video

_GREY = 128
_TICK_S = 1 / 90_000  # write_video's own: closer times than that would fall together


@entry("detect")
def main(values: dict[str, Any]) -> None:
    """Write one Parquet file (and, with ``overlay``, one MP4) for each video."""
    config = check(DetectConfig, values)
    keep_freed_memory()
    output, path = Path(config.output_dir), Path(config.checkpoint)
    require_writable(output, "output_dir")
    detector = detector_from(load_checkpoint(path), path).to(accelerator_of("auto"))
    verdicts = [] if config.verdicts is None else load_examples(Path(config.verdicts))[0]
    with Steps() as steps:
        found = scan_videos(config.videos, output / "videos", steps.reading("videos"))
        data = Videos(found.videos, config.video)
        for one in found.left_out:
            steps.say(f"skipped {one.path}: {one.reason}")
        files = {video: output / f"{video.video_id}.parquet" for video in found.videos}
        model = detector.digest()
        for video, file in files.items():
            differs = made_otherwise(file, model, video, config.floor_score) if file.is_file() else None
            if differs:
                raise HemError(f"{file} {differs}: choose another output_dir, or remove it")
        for video, file in files.items():
            detect_shown(file, detector, model, data, video, config.floor_score, steps)
            if config.overlay:
                shown, detections = output / f"{video.video_id}{OVERLAY}", load_detections(file)
                if detections.n_frames == 0:
                    steps.say(f"{video.video_id}: no overlay, since no frame could be decoded")
                    continue
                draw_overlay(shown, data, video, detections, verdicts, config.overlay_score)
        steps.say(f"written to {output}")


def draw_overlay(
    path: Path,
    data: Videos,
    video: VideoInfo,
    detections: VideoDetections,
    verdicts: list[HardExample],
    score_threshold: float,
) -> None:
    """Write a video with its detections (from ``score_threshold``) and verdicts drawn, at its own size.

    Frame k of it is frame k of the video, shown at the same time. A frame that could not be decoded is the
    last picture before it (grey if there is none) with a note on it.

    Raises:
        HemError: if the video has no frames, or cannot be read or written.
    """
    by_frame: dict[int, list[HardExample]] = {}
    for example in verdicts:
        if example.video_id == video.video_id:
            by_frame.setdefault(example.frame_index, []).append(example)
    fps = max(video.fps, 1.0)
    with data.source(video) as source:
        frames = _drawn(source, video, detections, by_frame, score_threshold)
        write_video(path, frames, fps, times_s=shown_times(detections.frame_times_s, fps))


def shown_times(times_s: NDArray[np.float64], fps: float) -> list[float]:
    """Return when each frame is shown, strictly increasing seconds.

    Args:
        times_s: float64 (N,), NaN where a frame could not be decoded.
        fps: frames per second where there is no known time on both sides.
    """
    index = np.arange(len(times_s))
    known = np.flatnonzero(~np.isnan(times_s))
    if len(known) == 0:
        return list(index / fps)
    first, last = known[0], known[-1]
    times = np.interp(index, known, times_s[known])
    times[:first] = times[first] - (first - index[:first]) / fps
    times[last + 1 :] = times[last] + (index[last + 1 :] - last) / fps
    ticks = np.round((times - min(times[0], 0.0)) / _TICK_S).astype(np.int64)
    return list((np.maximum.accumulate(ticks - index) + index) * _TICK_S)  # at least a tick apart


def _drawn(
    batches: Iterable[FrameBatch],
    video: VideoInfo,
    detections: VideoDetections,
    by_frame: dict[int, list[HardExample]],
    score_threshold: float,
) -> Iterator[Pixels]:
    """Yield one picture for each frame of ``detections``; at most two batches lie in memory."""
    last = torch.full((3, max(video.height, 1), max(video.width, 1)), _GREY, dtype=torch.uint8)
    decoded = (
        (index, one) for b in batches for index, one in zip(b.frame_indices.tolist(), b.frames, strict=True)
    )
    following = next(decoded, None)
    for index in range(detections.n_frames):
        if following is not None and following[0] == index:
            last, following = following[1], next(decoded, None)
            marks = marks_of_detections(detections.frame(index), score_threshold)
            yield _picture(last, marks + marks_of_examples(by_frame.get(index, [])))
        else:
            yield _noted(_picture(last, []), f"frame {index}: not decoded")


def _picture(frame: Tensor, marks: list[MarkedBox]) -> Pixels:
    """Return a frame with its boxes, uint8 (H, W, 3), cut to even sides, which every player can show."""
    image = annotated(frame, marks, width=max(int(frame.shape[2]) // 2 * 2, 2))
    return np.ascontiguousarray(image[: max(image.shape[0] // 2 * 2, 1)])


def _noted(image: Pixels, text: str) -> Pixels:
    """Return an image with a line of text on a dark bar along its top, as large as fits."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(1.0, (image.shape[1] - 4) / width)
    bar = round((height + below) * scale) + 6
    noted = image.copy()
    noted[:bar] = 0
    cv2.putText(noted, text, (2, round(height * scale) + 3), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return noted


if __name__ == "__main__":
    main()
