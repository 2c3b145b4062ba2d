"""Before training: does anything that is evaluated on show what is trained on or mined?

Cheap on purpose: equal files are found among all images, near-duplicates among a sample of images and
of the first frames of some videos. So a leak that is named is there; one that is rare, or hides late in
a video, may go unnoticed.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hem.artifacts import digest_of, read_json, write_json
from hem.config import TrainConfig
from hem.data.base import DetectionDataset
from hem.data.bundle import DataBundle
from hem.data.leaks import Looks, alike, leak_report, looks_of_frames, looks_of_images
from hem.data.splits import SAME_SCENE
from hem.errors import HemError
from hem.structures import VideoInfo
from hem.video.stream import VideoStream

MOST_IMAGES = 300
MOST_VIDEOS = 24
FIRST_FRAMES, STRIDE = 150, 30
_LONG_NAME = 12  # characters; shorter names of images and videos may be equal by chance
_VERSION = 1
_log = logging.getLogger(__name__)


def note_of_leaks(
    config: TrainConfig, data: DataBundle, mined: Sequence[VideoInfo], heldout: Sequence[VideoInfo]
) -> str:
    """Return what every table must say of the split, after telling of leaks as ``evaluation.leaks`` asks.

    Found once for the same images and videos; the answer is kept under ``store_dir``.

    Raises:
        HemError: if something leaks and ``evaluation.leaks`` is ``refuse``.
    """
    if config.evaluation.leaks == "off":
        return data.note
    lines = _kept(config, data, mined, heldout)
    if data.note == SAME_SCENE:  # asked for, and marked
        lines = [line for line in lines if not line.startswith("train and test leak")]
    if lines and config.evaluation.leaks == "refuse":
        raise HemError(
            "; ".join(lines) + ". Take one side out, or go on with evaluation.leaks=report, which puts "
            "this beside every figure"
        )
    for line in lines:
        _log.warning("LEAK: %s. Figures flatter what was trained or mined on it", line)
    return "; ".join([data.note, *lines] if data.note else lines)


def _kept(
    config: TrainConfig, data: DataBundle, mined: Sequence[VideoInfo], heldout: Sequence[VideoInfo]
) -> list[str]:
    key = {
        "version": [_VERSION, MOST_IMAGES, MOST_VIDEOS, FIRST_FRAMES, STRIDE],
        "data": [data.digest, data.heldout_digest],
        "roots": [str(getattr(part, "root", "")) for part in (data.train, data.test)],
        "videos": [[video.digest for video in videos] for videos in (mined, heldout)],
    }
    path = Path(config.store_dir) / "leaks" / f"{digest_of(key)[:16]}.json"
    if path.is_file():
        return [str(line) for line in read_json(path, "leaks")["lines"]]
    lines = find_leaks(config, data, mined, heldout)
    write_json(path, "leaks", {"lines": lines})
    return lines


def find_leaks(
    config: TrainConfig, data: DataBundle, mined: Sequence[VideoInfo], heldout: Sequence[VideoInfo]
) -> list[str]:
    """Return one line for each pair of parts that leaks: training, mined video; test images, test video."""
    train, test = (part if isinstance(part, DetectionDataset) else None for part in (data.train, data.test))
    lines: list[str | None] = []
    if train is not None and test is not None:
        lines.append(leak_report(train, test, MOST_IMAGES))
    if test is not None and mined:
        lines.append(_same_names(mined, test))
    stills = [None if part is None else looks_of_images(part, MOST_IMAGES) for part in (train, test)]
    films = [_looks_of_videos(config, videos) for videos in (mined, heldout)]
    for first, second, what in (
        (films[0], stills[1], "mined video and test images"),
        (films[0], films[1], "mined and held-out video"),
        (stills[0], films[1], "training images and held-out video"),
    ):
        if first is not None and second is not None:
            lines.append(_alike(first, second, what))
    return [line for line in lines if line is not None]


def _alike(first: Looks, second: Looks, what: str) -> str | None:
    pairs = alike(first, second)
    if not pairs:
        return None
    return (
        f"{what} look the same in {len(pairs)} pair(s) of pictures, such as {pairs[0].first} and "
        f"{pairs[0].second}"
    )


def _same_names(mined: Sequence[VideoInfo], test: DetectionDataset) -> str | None:
    """Some datasets name an image or a sequence after the video it was taken from."""
    groups = {
        Path(group).name for group, file in zip(test.groups, test.image_ids, strict=True) if group != file
    }
    stems = {Path(name).stem for name in test.image_ids}
    names = groups | {stem for stem in stems if len(stem) >= _LONG_NAME}
    shared = sorted(video.video_id for video in mined if Path(video.video_id).stem in names)
    if not shared:
        return None
    return f"{len(shared)} mined video(s) have the name of test images, such as {', '.join(shared[:3])}"


def _looks_of_videos(config: TrainConfig, videos: Sequence[VideoInfo]) -> Looks | None:
    if not videos:
        return None
    rows = np.unique(np.linspace(0, len(videos) - 1, min(len(videos), MOST_VIDEOS)).astype(int))
    return looks_of_frames(_frames(config, [videos[row] for row in rows.tolist()]))


def _frames(config: TrainConfig, videos: Sequence[VideoInfo]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    settings = config.video
    stream = VideoStream(
        videos,
        decoder=settings.decoder,
        batch_size=1,
        stride=STRIDE,
        max_frames=FIRST_FRAMES,
        guard=settings.guard,
        stall_s=settings.stall_s,
    )
    for video in videos:
        for batch in stream.read(video):
            for frame, index in zip(batch.frames, batch.frame_indices.tolist(), strict=True):
                pixels = np.ascontiguousarray(frame.cpu().numpy().transpose(1, 2, 0))
                yield f"{video.video_id} frame {index}", pixels
