"""What a detector finds on held-out stills and video, kept on disk so that figures can be taken again."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hem.artifacts import load_detections, save_detections
from hem.artifacts.detections import load_header
from hem.errors import HemError
from hem.evaluation.coco import coco_figures, video_coco_figures
from hem.evaluation.video import OperatingPoint, baseline_point, video_figures
from hem.ops.ahead import asked_ahead
from hem.structures import (
    Detections,
    FrameGap,
    ImageSource,
    Target,
    VideoDetections,
    VideoInfo,
    VideoTruth,
)
from hem.structures.video import length_of
from hem.training.answers import RememberedAnswers, notes_beside, remembered
from hem.training.videos import Videos
from hem.video.source import FrameSource

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

Report = Callable[[int, int | None], None]
"""Called with (done, in all or None when unknown)."""
STILLS = "stills.parquet"


def detect_stills(
    detector: "Detector",
    dataset: ImageSource,
    floor_score: float,
    batch_size: int,
    report: Report | None = None,
) -> list[Detections]:
    """Return the detections of every image, in order, at or above ``floor_score``."""
    found: list[Detections] = []
    for first in range(0, len(dataset), batch_size):
        rows = range(first, min(first + batch_size, len(dataset)))
        images = [dataset[row].image for row in rows]
        found += detector.detect(images, floor_score)
        if report:
            report(len(found), len(dataset))
    return found


def detect_video(
    detector: "Detector",
    source: FrameSource,
    floor_score: float,
    report: Report | None = None,
    answers: RememberedAnswers | None = None,
) -> VideoDetections:
    """Return the detections of every frame of one video.

    Args:
        detector: asked for every frame.
        source: the frames.
        floor_score: lowest score kept.
        report: told of the frames done.
        answers: of the same detector, asked instead of it, so that what an interrupted call was told is
            not asked again; see hem.training.answers.remembered.

    Stretches that could not be decoded are gaps, not empty frames: figures leave them out, where
    empty frames would count their objects as missed.
    """
    video = source.video
    frames: list[Detections] = []
    times: dict[int, float] = {}
    for batch, found in asked_ahead(source, answers or partial(detector.detect, floor_score=floor_score)):
        video = batch.video
        for answer, index, time_s in zip(
            found, batch.frame_indices.tolist(), batch.times_s.tolist(), strict=True
        ):
            times[index] = time_s
            frames.append(
                Detections(answer.boxes_xyxy, answer.scores, answer.labels, index, time_s, video.video_id)
            )
        if report:
            report(len(times), None)
    gaps = source.report().gaps
    length = length_of(max(times, default=-1) + 1, gaps)
    frame_times = np.array([times.get(index, np.nan) for index in range(length)])
    return VideoDetections.from_frames(
        video,
        frames,
        frame_times,
        gaps=gaps,
        score_range=detector.score_range,
        floor_score=floor_score,
        class_names=detector.class_names,
    )


def detect_to(
    file: Path,
    detector: "Detector",
    digest: str,
    videos: Videos,
    video: VideoInfo,
    floor_score: float,
    report: Report | None = None,
) -> str | None:
    """Write the detections of one video unless they are there; an interrupted call is gone on with.

    Args:
        file: where to; one that is there is taken as it is, see made_otherwise.
        detector, digest: who is asked, and its digest, which takes a look at every weight.
        videos: how ``video`` is read.
        floor_score: detections below it are left out.
        report: called with the frames done so far, and None for how many there are.

    Returns:
        What went wrong while reading, if the video could not be read to its end; None for a file that was
        there. Which frames are lost stands in the file: see stored_gaps.
    """
    if file.is_file():
        shutil.rmtree(notes_beside(file), ignore_errors=True)  # of a call killed at its very end
        return None
    with remembered(detector, digest, video, floor_score, file) as answers:
        with videos.source(video) as source:
            found = detect_video(detector, source, floor_score, report, answers)
            error = source.report().error
        save_detections(file, found, {"model": digest})
        answers.forget()
    return error


def stored_gaps(file: Path) -> tuple[FrameGap, ...]:
    """Return the stretches that could not be decoded when detect_to wrote a file, in order.

    Raises:
        HemError: if the file is absent or damaged.
    """
    return tuple(FrameGap(**gap) for gap in load_header(file)["gaps"])


def made_otherwise(file: Path, model: str, video: VideoInfo, floor_score: float) -> str | None:
    """Return in what a file differs from what detect_to would write, None if in nothing.

    Args:
        file: that detect_to wrote before.
        model: digest of the detector.

    Raises:
        HemError: if the file is damaged.
    """
    header = load_header(file)
    if header["made_by"].get("model") != model:
        return "holds detections of another detector"
    if header["video"]["digest"] != video.digest:
        return "holds detections of another video of the same name"
    if header["floor_score"] != floor_score:
        return f"was made with floor_score={header['floor_score']}, not {floor_score}"
    return None


def save_stills(path: Path, found: Sequence[Detections], class_names: Sequence[str]) -> None:
    """Write detections of stills as those of a video whose frame k is image k."""
    frames = [Detections(d.boxes_xyxy, d.scores, d.labels, index) for index, d in enumerate(found)]
    as_video = VideoDetections.from_frames(
        VideoInfo("stills"), frames, np.zeros(len(found)), class_names=tuple(class_names)
    )
    save_detections(path, as_video)


def load_stills(path: Path) -> list[Detections]:
    """Read what save_stills wrote."""
    return list(load_detections(path))


def targets_of(dataset: ImageSource) -> list[Target]:
    """Return the targets of a dataset without decoding its images where it allows that."""
    target = getattr(dataset, "target", None)
    if target is not None:
        return [target(index) for index in range(len(dataset))]
    return [dataset[index].target for index in range(len(dataset))]


def figures(
    stills: Sequence[Detections],
    targets: Sequence[Target],
    videos: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    class_names: Sequence[str],
    point: OperatingPoint | None,
) -> dict[str, Any]:
    """Return everything the summary says of one arm; what was not measured is None.

    Args:
        stills, targets: detections and labels of the held-out stills.
        videos, truths: the same of the held-out videos; both may be empty.
        class_names: names of labels 1, 2, ….
        point: the comparison's operating point, or None without held-out video.
    """
    on_stills = coco_figures(stills, targets, class_names)
    result: dict[str, Any] = {
        "AP": on_stills["AP"],
        "AP50": on_stills["AP50"],
        "video_AP": None,
        "video_AP50": None,
        "recall": None,
        "false_alarms_per_minute": None,
        "false_alarms_per_frame": None,
        "flickers_per_minute": None,
        "threshold": None,
        "per_class": {"stills": on_stills["per_class"]},
    }
    if point is not None and truths:
        on_video = video_coco_figures(videos, truths, class_names)
        at_point = video_figures(point, videos, truths, class_names)
        result["video_AP"], result["video_AP50"] = on_video["AP"], on_video["AP50"]
        result["per_class"] |= {"video": on_video["per_class"], "operating_point": at_point.pop("per_class")}
        result |= at_point
    return result


def point_of(
    stills: Sequence[Detections],
    targets: Sequence[Target],
    videos: Sequence[VideoDetections],
    truths: Sequence[VideoTruth],
    class_names: Sequence[str],
) -> OperatingPoint | None:
    """Return the operating point that the baseline sets, or None without held-out video."""
    if not truths:
        return None
    return baseline_point(stills, targets, videos, truths, len(class_names))


def accelerator_of(name: str) -> torch.device:
    """Return the device of ``trainer.accelerator``.

    Raises:
        HemError: if a GPU is asked for and torch sees none.
    """
    if name == "gpu" and not torch.cuda.is_available():
        why = "" if torch.version.cuda or torch.version.hip else " (this torch was built without GPU support)"
        raise HemError(
            f"trainer.accelerator=gpu, but torch sees no GPU on this machine{why}: give "
            "trainer.accelerator=auto or cpu, or make the GPU visible (driver, CUDA_VISIBLE_DEVICES)"
        )
    use_gpu = name == "gpu" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")
