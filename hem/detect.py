"""``python -m hem.detect``: every detection of every video, and the videos with boxes drawn on request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem.allocator import keep_freed_memory
from hem.artifacts import load_detections, load_examples
from hem.compose import entry
from hem.config import DetectConfig, check
from hem.errors import HemError
from hem.predicting import detect_shown
from hem.reporting.steps import Steps
from hem.reporting.strips import annotated, marks_of_detections, marks_of_examples
from hem.structures import FrameBatch, HardExample, VideoDetections, VideoInfo
from hem.training.checkpoint import detector_from, load_checkpoint
from hem.training.measure import accelerator_of, made_otherwise
from hem.training.videos import Videos
from hem.video.manifest import scan_videos
from hem.video.writer import write_video


@entry("detect")
def main(values: dict[str, Any]) -> None:
    """Write one Parquet file (and, with ``overlay``, one MP4) for each video."""
    config = check(DetectConfig, values)
    keep_freed_memory()
    output, path = Path(config.output_dir), Path(config.checkpoint)
    detector = detector_from(load_checkpoint(path), path).to(accelerator_of("auto"))
    found = scan_videos(config.videos, output / "videos")
    data = Videos(found.videos, config.video)
    verdicts = [] if config.verdicts is None else load_examples(Path(config.verdicts))[0]
    with Steps() as steps:
        for skipped in found.skipped:
            steps.say(f"skipped {skipped.path}: {skipped.reason}")
        files = {video: output / f"{video.video_id}.parquet" for video in found.videos}
        model = detector.digest()
        for video, file in files.items():
            differs = made_otherwise(file, model, video, config.floor_score) if file.is_file() else None
            if differs:
                raise HemError(f"{file} {differs}: choose another output_dir, or remove it")
        for video, file in files.items():
            detect_shown(file, detector, model, data, video, config.floor_score, steps)
            if config.overlay:
                shown = output / f"{video.video_id}.overlay.mp4"
                draw_overlay(shown, data, video, load_detections(file), verdicts, config.overlay_score)
        steps.say(f"written to {output}")


def draw_overlay(
    path: Path,
    data: Videos,
    video: VideoInfo,
    detections: VideoDetections,
    verdicts: list[HardExample],
    score_threshold: float,
) -> None:
    """Write a video with its detections (from ``score_threshold``) and verdicts drawn, at its own size."""
    by_frame: dict[int, list[HardExample]] = {}
    for example in verdicts:
        if example.video_id == video.video_id:
            by_frame.setdefault(example.frame_index, []).append(example)
    with data.source(video) as source:
        frames = _drawn(source, detections, by_frame, score_threshold)
        write_video(path, frames, max(video.fps, 1.0))


def _drawn(
    batches: Iterator[FrameBatch] | Any,  # noqa: ANN401
    detections: VideoDetections,
    by_frame: dict[int, list[HardExample]],
    score_threshold: float,
) -> Iterator[NDArray[np.uint8]]:
    for batch in batches:
        for picture, index in zip(batch.frames, batch.frame_indices.tolist(), strict=True):
            marks = marks_of_detections(detections.frame(index), score_threshold)
            marks += marks_of_examples(by_frame.get(index, []))
            width = int(picture.shape[2]) // 2 * 2
            image = annotated(picture, marks, width=width)
            yield np.ascontiguousarray(image[: image.shape[0] // 2 * 2])


if __name__ == "__main__":
    main()
