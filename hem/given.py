"""Mining videos whose detections any other program made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from hem.artifacts import digest_of, remove_parts, sha256_file
from hem.artifacts.evidence import StoredEvidence, evidence_in, load_evidence, save_evidence
from hem.config import VideoConfig
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.paper import PaperJudge, PaperThresholds, check_paper_range
from hem.mining.presets import Paper
from hem.mining.sources import format_of, read_detections
from hem.mining.stream import stream_paper
from hem.mining.table import MinedTable, frame_times, some_of
from hem.structures import FrameGap, GreyBatch, GreyPicture, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.structures.example_list import ExampleList
from hem.training.evidence_pass import counted, folder_of, refuse_nothing
from hem.training.videos import Videos
from hem.video.packets import packet_times
from hem.video.source import FrameSource, open_source

_DETECTION_SUFFIXES = (".txt", ".json", ".parquet")
Say = Callable[[int], None]


def try_files(data: Videos, detections: Path, source: str, class_names: tuple[str, ...], root: Path) -> None:
    """Read the detections of each video without evidence under ``root`` once, before hours go into the first.

    Raises:
        HemError: as evidence_from would, when it came to that video.
    """
    for video in data.videos:
        if not folder_of(root, video, data.videos).exists():
            read_detections(file_for(detections, video, data.videos), video, source, class_names)


def evidence_from(
    data: Videos,
    detections: Path,
    source: str,
    class_names: tuple[str, ...],
    settings: CollectSettings,
    root: Path,
    say: Say | None,
) -> StoredEvidence:
    """Collect the evidence of every video that has none yet under ``root``.

    Args:
        data: the videos, and how they are read.
        detections, source, class_names: see hem.api.mine_videos.
        settings: how to collect, without disturbances.
        root: a folder a video is kept there.
        say: told of the frames dealt with.

    Raises:
        HemError: if detections are absent or cannot be read, or a video gave no frame.
    """
    remove_parts(root)
    done, decoded = 0, False
    for video in data.videos:
        folder = folder_of(root, video, data.videos)
        if folder.exists():
            done += load_evidence(folder).detections.n_frames
            continue
        before = done

        def show(frames: int, before: int = before) -> None:
            if say:
                say(before + frames)

        path = file_for(detections, video, data.videos)
        found = detections_of(video, path, source, class_names)
        with data.source(video, grey=True) as frames:
            batches = frames.grey_batches()
            evidence = collect_evidence(
                counted(batches, show),
                found,
                None,
                settings,
                detector_digest=digest_of_file(path, source),
                gaps=partial(_gaps_behind, batches, frames, found),
                video=video,
            )
        save_evidence(folder, replace(evidence, pixels=data.pixels))
        done += evidence.detections.n_frames
        decoded |= bool(evidence.detections.decoded.any())
        del evidence  # one video's in memory at a time
    collected = StoredEvidence((folder_of(root, video, data.videos), video) for video in data.videos)
    if not decoded:  # what was just written need not be read for it
        refuse_nothing(collected)
    return collected


def _gaps_behind(
    batches: Iterator[GreyBatch], source: FrameSource, detections: VideoDetections
) -> tuple[FrameGap, ...]:
    next(batches, None)  # what was read may end exactly where the detections do
    return gaps_beside(source, detections)


def paper_alone(
    data: Videos,
    detections: Path,
    source: str,
    class_names: tuple[str, ...],
    preset: Paper,
    root: Path,
    say: Say | None,
) -> tuple[StoredEvidence, ExampleList]:
    """Answer `paper` in one forward pass over each video that has no evidence which answers it."""
    remove_parts(root)
    kept: list[tuple[Path, VideoInfo] | Evidence] = []
    evidence: Evidence | None = None
    examples: list[ExampleList] = []
    done = 0
    for video in data.videos:
        folder = folder_of(root, video, data.videos)
        evidence = evidence_in(folder, video) if folder.exists() else None
        if evidence is not None and _answers(evidence, preset.thresholds):
            examples.append(preset.mine([evidence]))
            kept.append((folder, video))
        else:
            path = file_for(detections, video, data.videos)
            found = detections_of(video, path, source, class_names)
            _refuse_floor(path, found, preset.thresholds)
            table, found = stream_video(video, found, preset.thresholds, data.settings)
            examples.append(table.taught())
            flags = np.zeros(found.n_frames, dtype=np.bool_)
            nothing = CollectSettings(floor_score=float("-inf"), search_margin=None, box_margin=None)
            digest = digest_of_file(path, source)
            evidence = Evidence(found, flags, flags, nothing, detector_digest=digest, pixels=data.pixels)
            kept.append(evidence if folder.exists() else (folder, video))
            if not folder.exists():
                save_evidence(folder, evidence)
        done += evidence.detections.n_frames
        if say:
            say(done)
    mined = StoredEvidence(kept, last=evidence)
    refuse_nothing(mined)
    return mined, ExampleList.joined(examples)


def _refuse_floor(path: Path, found: VideoDetections, thresholds: PaperThresholds) -> None:
    if found.floor_score > thresholds.score_threshold:
        raise HemError(
            f"mining.score_threshold is {thresholds.score_threshold:g}, but {path} says it holds nothing "
            f"below {found.floor_score:g}: neighbours would be missing; raise the threshold, or give "
            "detections down to it"
        )


def _answers(evidence: Evidence, thresholds: PaperThresholds) -> bool:
    try:
        check_paper_range(evidence, thresholds)
    except HemError:
        return False
    return True


def stream_video(
    video: VideoInfo, detections: VideoDetections, thresholds: PaperThresholds, settings: VideoConfig
) -> tuple[MinedTable, VideoDetections]:
    """Return `paper`'s answer, and the detections with the times and damage met while reading."""
    # a guarded decoder tells nothing of frames that were not asked for, not even their times
    tells_all = settings.guard != "always" and settings.decoder in ("auto", "pyav")
    judge = PaperJudge(detections, thresholds)
    only = np.flatnonzero(judge.frames_needed).tolist() if tells_all else None
    with open_source(
        video,
        decoder=settings.decoder,
        device=settings.device,
        batch_size=settings.batch_size,
        end_frame=detections.n_frames + 1,  # to know whether the video goes on
        only=only,
        guard=settings.guard,
        stall_s=settings.stall_s,
        grey=True,
    ) as source:
        batches = source.grey_batches()

        def pictures(_: object) -> Iterator[tuple[int, GreyPicture]]:
            for batch in batches:
                yield from zip(batch.frame_indices, batch.pictures, strict=True)

        table = stream_paper(judge, pictures)
        for _ in batches:  # to the end: damage behind the last candidate is reported too
            pass
        times = source.times_s(detections.n_frames)
        gaps = gaps_beside(source, detections)
    found = replace(detections, frame_times_s=times, gaps=gaps or detections.gaps)
    table = some_of(table, found.decoded[table.frame_index])  # what cannot be read cannot be shown again
    return replace(table, time_s=frame_times(found)[table.frame_index]), found


def gaps_beside(source: FrameSource, detections: VideoDetections) -> tuple[FrameGap, ...]:
    """Return what of the detections' frames could not be decoded, and where their number is not the video's.

    A gap of which nothing is known behind it stays open.
    """
    report, n_frames = source.report(), detections.n_frames
    gaps = [
        gap if gap.end_frame is None else replace(gap, end_frame=min(gap.end_frame, n_frames))
        for gap in report.gaps
        if gap.first_frame < n_frames  # how far behind the last detection was read is chance
    ]
    length = report.video.n_frames
    if source.has_read(n_frames):
        gaps.append(FrameGap(n_frames, None, f"the detections tell of {n_frames} frames, the video goes on"))
    elif report.error is None and length is not None and length < n_frames:
        reason = f"the video has {length} frames, the detections tell of {n_frames}"
        gaps.append(FrameGap(length, n_frames, reason))
    return tuple(gaps)


def digest_of_file(path: Path, source: str = "auto") -> str:
    """Return the digest of a file with detections, and of a format that it would not be taken for."""
    digest = sha256_file(path)
    return digest if format_of(path, source) == format_of(path) else digest_of([digest, source])


def detections_of(
    video: VideoInfo, path: Path, source: str = "auto", class_names: tuple[str, ...] = ()
) -> VideoDetections:
    """Read a video's detections; they cover the whole video also where nothing is found at its end.

    MOT text and COCO results say nothing of frames without detections, so that the video's packets are
    counted; the other formats tell how many frames there are.
    """
    found = read_detections(path, video, source, class_names)
    if video.n_frames is not None or format_of(path, source) not in ("mot", "coco"):
        return found
    n_frames = max(found.n_frames, len(packet_times(video.path)))
    return replace(found, frame_times_s=np.arange(n_frames, dtype=np.float64) / video.fps)


def file_for(detections: Path, video: VideoInfo, among: Sequence[VideoInfo]) -> Path:
    """Return the file with a video's detections: ``detections`` itself, or one in it that is named alike.

    Named after the whole name (clip.mp4.txt) or, if no other video of ``among`` is called so, after
    the name without its suffix (clip.txt).

    Raises:
        HemError: if there is none, one file is given for several videos, or it may belong to either of two.
    """
    if detections.is_file():
        if len(among) > 1:
            raise HemError(
                f"detections={detections} is one file for {len(among)} videos; give a folder with one file "
                "for each video, named after it (clip.mp4 -> clip.txt)"
            )
        return detections
    if not detections.exists():
        raise HemError(f"detections={detections} is not there")
    stem = _stem(video)
    exact, short = (
        [detections / f"{name}{s}" for s in _DETECTION_SUFFIXES] for name in (video.video_id, stem)
    )
    there = [path for path in exact if path.is_file()] or [path for path in short if path.is_file()]
    path = next(iter(there), None)
    if len(there) > 1:
        both = " and ".join(str(one) for one in there)
        raise HemError(f"{both} both hold detections of {video.video_id}: leave one of them there")
    if path is None:
        looked = short[0].name
        raise HemError(f"no detections of {video.video_id} in {detections}; looked for {looked} and the like")
    alike = [one.video_id for one in among if _stem(one) == stem and one.video_id != video.video_id]
    if alike and path in short:
        raise HemError(
            f"{path} may belong to {video.video_id} or to {alike[0]}: name it {video.video_id}{path.suffix}"
        )
    return path


def _stem(video: VideoInfo) -> Path:
    return Path(video.video_id).with_suffix("")
