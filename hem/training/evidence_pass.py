"""One pass of a detector over every video: detections and evidence on disk, one folder a video."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from hem.artifacts import remove_parts
from hem.artifacts.evidence import StoredEvidence, load_evidence, save_evidence
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.elicited import elicit
from hem.structures import FrameBatch, GreyBatch, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.answers import RememberedAnswers, notes_beside, remembered
from hem.training.videos import Videos
from hem.video.stream import shard_videos

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

Counted = TypeVar("Counted", FrameBatch, GreyBatch)
FrameReport = Callable[[int], None]
"""Called with the frames done so far, over all videos."""


def name_of(video: VideoInfo, among: Sequence[VideoInfo] = (), digits: int = 16) -> str:
    """Return what a video's results are known by: its digest, whatever the video is called.

    Videos may hold the same content: all but the first of those ``among`` go by their id too.

    Args:
        video: the video.
        among: all videos of the same pass, in their order.
        digits: of the digest.
    """
    name = video.digest[:digits]
    first = next((one for one in among if one.digest == video.digest), video)
    if first.video_id != video.video_id:
        name += "-" + hashlib.sha256(video.video_id.encode()).hexdigest()[:8]
    return name


def folder_of(root: Path, video: VideoInfo, among: Sequence[VideoInfo] = ()) -> Path:
    """Return where one video's evidence lies; see name_of."""
    return root / name_of(video, among)


def run_pass(
    detector: "Detector",
    videos: Videos,
    settings: CollectSettings,
    root: Path,
    report: FrameReport | None = None,
) -> StoredEvidence:
    """Collect evidence of every video that has none yet under ``root``; all of it is read when asked for.

    A video that was finished before a kill is not read again. Of the one that was being read, what the
    detector answered lies in a hidden folder beside its evidence: its frames are decoded once more, but
    the detector is asked from there on only. Under a process group each rank takes every n-th video by
    length, and all ranks return the same evidence.

    Raises:
        HemError: if no video gave a single frame.
    """
    rank, ranks = _rank()
    if rank == 0:
        remove_parts(root)
    _barrier()
    done, digest, decoded = 0, "", False
    for video in shard_videos(videos.videos, rank, ranks):
        folder = folder_of(root, video, videos.videos)
        if not folder.exists():
            before, digest = done, digest or detector.digest()  # once, and not if all was finished before

            def show(frames: int, before: int = before) -> None:
                if report:
                    report(before + frames)

            collect = asdict(settings)
            with remembered(detector, digest, video, settings.floor_score, folder, collect) as answers:
                evidence = _one(detector, digest, videos, video, settings, show, answers)
                save_evidence(folder, evidence)
                answers.forget()
            done += evidence.detections.n_frames
            decoded |= bool(evidence.detections.decoded.any())
            del evidence  # one video's in memory at a time
        else:
            shutil.rmtree(notes_beside(folder), ignore_errors=True)  # of a pass killed at its very end
            done += load_evidence(folder).detections.n_frames
        if report:
            report(done)
    _barrier()
    found = StoredEvidence((folder_of(root, video, videos.videos), video) for video in videos.videos)
    if not decoded:  # what was just written need not be read for it
        refuse_nothing(found)
    return found


def refuse_nothing(found: StoredEvidence) -> None:
    """Raise HemError unless a frame of some video was decoded; one video without any is a gap like others."""
    if any(one.detections.decoded.any() for one in found):
        return
    why = (f"{one.video_id}: {gap.reason}" for one in found for gap in one.detections.gaps)
    raise HemError(f"not one frame could be decoded from {len(found)} videos ({next(why, 'they hold none')})")


def _one(
    detector: "Detector",
    digest: str,
    videos: Videos,
    video: VideoInfo,
    settings: CollectSettings,
    report: Callable[[int], object],
    answers: RememberedAnswers,
) -> Evidence:
    with videos.source(video) as source:
        evidence = collect_evidence(
            counted(source, report),
            None,
            answers,
            settings,
            elicit=elicit,
            detector_digest=digest,
            class_names=detector.class_names,
            score_range=detector.score_range,
            gaps=lambda: source.report().gaps,
            video=video,
        )
    return replace(evidence, pixels=videos.pixels)


def counted(batches: Iterable[Counted], report: Callable[[int], object]) -> Iterator[Counted]:
    """Pass batches through, telling ``report`` how many frames were dealt with."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        report(done)


def _rank() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _barrier() -> None:
    if _rank()[1] > 1:
        torch.distributed.barrier()
