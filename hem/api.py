"""Mining without a command line: three lines of Python for what ``python -m hem.mine`` does."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hem import settings as shipped
from hem.artifacts import remove_parts, save_coco, save_examples, write_json
from hem.artifacts.evidence import load_evidence, save_evidence
from hem.artifacts.rulings import gather_rulings
from hem.config import VideoConfig
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.paper import PaperThresholds
from hem.mining.presets import Paper, Preset
from hem.mining.sources import read_detections
from hem.mining.stream import parts_needed, stream_paper
from hem.mining.table import MinedTable, frame_times
from hem.ops.rulings import honour
from hem.structures import HardExample, Kind, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.evidence_pass import counted, folder_of, run_pass
from hem.training.video_data import VideoData
from hem.video.source import open_source

EVIDENCE = "evidence"
_DETECTION_SUFFIXES = (".txt", ".json", ".parquet")
Say = Callable[[int], None]


@dataclass(frozen=True)
class MiningResult:
    """What mining gave.

    Attributes:
        examples: hard negatives, hard positives, pseudo-labels and ignore regions of all videos.
        evidence: of each video; other thresholds are answered from it at once.
        rows: one summary row for each video.
        seconds: of collecting, and of querying.
    """

    examples: list[HardExample]
    evidence: list[Evidence]
    rows: list[dict[str, Any]]
    seconds: Mapping[str, float]


def exactly_for(preset: Preset, collect: CollectSettings) -> CollectSettings:
    """Return settings that answer `paper` alone, with the least matching; other presets keep ``collect``.

    Without ``collect.search_margin`` they answer that one preset; with it, every `paper` query in the
    ranges of ``collect`` too.
    """
    if not isinstance(preset, Paper):
        return collect
    wide = collect.search_margin is not None
    score, iou = preset.score_threshold, preset.iou_threshold
    scores = (*collect.paper_score_threshold, score) if wide else (score,)
    ious = (*collect.paper_iou_threshold, iou) if wide else (iou,)
    areas = (collect.paper_min_area, preset.min_area) if wide else (preset.min_area,)
    borders = (collect.paper_border_margin, preset.border_margin) if wide else (preset.border_margin,)
    return replace(
        collect,
        search_margin=preset.search_margin,
        box_margin=None,
        variants=(),
        max_gap=0,
        window=max(preset.window, collect.window if wide else 1),
        paper_score_threshold=(min(scores), max(scores)),
        paper_iou_threshold=(min(ious), max(ious)),
        paper_min_area=min(areas),
        paper_border_margin=min(borders),
    )


def mine_videos(
    videos: Sequence[VideoInfo],
    preset: Preset,
    *,
    detector: Detector | None = None,
    detections: Path | None = None,
    detections_format: str = "auto",
    class_names: tuple[str, ...] = (),
    collect: CollectSettings | None = None,
    video: VideoConfig | None = None,
    output_dir: Path,
    seed: int = 0,
    say: Say | None = None,
    verdicts: Sequence[Path] = (),
) -> MiningResult:
    """Mine videos with a detector, or from detections that any other program made.

    Evidence is kept under ``output_dir/evidence``, a folder a video; videos already there are not
    read again, so an interrupted call goes on. ``hard_examples.json`` (COCO style) and
    ``hard_examples.parquet`` are written beside it.

    Args:
        videos: from hem.video.manifest.scan_videos or frames_as_video.
        preset: one of hem.mining.presets.
        detector: asked for every frame; or
        detections: a file (one video) or a folder with one file for each video, named after it.
        detections_format: ``authors``, ``mot``, ``coco``, ``parquet`` or ``auto``.
        class_names: of the labels in ``detections``.
        collect: how evidence is collected; None = as the commands do (hem.settings.collect()). Where
            `paper` is asked of given detections and ``collect.search_margin`` is None, only its answer
            is worked out, which is the fastest way, and the evidence kept holds the detections without
            appearance; with ``search_margin`` it answers other `paper` settings too.
        verdicts: of reviews (files, or directories that were reviewed) to honour, besides the verdicts
            and removals in ``output_dir`` itself; see hem.ops.rulings.

    Raises:
        HemError: if neither or both of detector and detections are given, or nothing can be read.
    """
    if (detector is None) == (detections is None):
        raise HemError("mining needs either a detector (checkpoint=) or detections=, not both")
    collect = collect or shipped.collect()
    settings = exactly_for(preset, collect)
    data = VideoData(videos, video or VideoConfig())
    root = output_dir / EVIDENCE
    started = time.monotonic()
    examples: list[HardExample] | None = None
    if detections is not None and isinstance(preset, Paper) and collect.search_margin is None:
        evidence, examples = _paper_alone(data, detections, detections_format, class_names, preset, root, say)
    elif detector is not None:
        evidence = run_pass(detector, data, settings, root, say)
    else:
        assert detections is not None
        # scores of other programs have no range of their own, and there is no detector to ask again
        anything = (float("-inf"), float("inf"))
        settings = replace(settings, variants=(), score_threshold=anything, neighbour_threshold=anything)
        evidence = _from_detections(data, detections, detections_format, class_names, settings, root, say)
    collected = time.monotonic() - started
    return _answer(evidence, preset, output_dir, seed, collected, verdicts, root, examples)


def mine_evidence(
    root: Path, preset: Preset, *, output_dir: Path, seed: int = 0, verdicts: Sequence[Path] = ()
) -> MiningResult:
    """Answer a preset from evidence collected before; no video is touched.

    Raises:
        HemError: if there is no evidence, or it cannot answer these thresholds.
    """
    inner = root / EVIDENCE
    folders = sorted(path.parent for path in (inner if inner.is_dir() else root).glob("*/detections.parquet"))
    if not folders:
        raise HemError(f"evidence={root} holds no evidence; give the output_dir of an earlier mining run")
    evidence = sorted((load_evidence(folder) for folder in folders), key=lambda one: one.video_id)
    return _answer(evidence, preset, output_dir, seed, 0.0, verdicts, root)


def _answer(
    evidence: Sequence[Evidence],
    preset: Preset,
    output_dir: Path,
    seed: int,
    collected: float,
    verdicts: Sequence[Path],
    root: Path,
    found: list[HardExample] | None = None,
) -> MiningResult:
    started = time.monotonic()
    rulings = gather_rulings(output_dir, verdicts)
    examples = honour(preset.mine(evidence, seed=seed) if found is None else found, rulings)
    seconds = {"collect": collected, "query": time.monotonic() - started}
    names = next((one.detections.class_names for one in evidence if one.detections.class_names), ())
    names = tuple(names) or tuple(f"class {label}" for label in range(1, _highest(evidence) + 1))
    output_dir.mkdir(parents=True, exist_ok=True)
    save_examples(output_dir / "hard_examples.parquet", examples, class_names=names)
    videos = [one.detections.video for one in evidence]
    save_coco(output_dir / "hard_examples.json", examples, videos, names)
    rows = [row_of(one, [e for e in examples if e.video_id == one.video_id]) for one in evidence]
    chosen = {f.name: getattr(preset, f.name) for f in fields(preset)}  # type: ignore[arg-type]
    write_json(
        output_dir / "mining.json",
        "mining",
        {
            "preset": type(preset).__name__,
            "thresholds": chosen,
            "videos": rows,
            "seconds": seconds,
            "evidence": str(root),
        },
    )
    return MiningResult(examples, list(evidence), rows, seconds)


def _highest(evidence: Sequence[Evidence]) -> int:
    return max((int(one.detections.labels.max(initial=1)) for one in evidence), default=1)


def row_of(evidence: Evidence, examples: Sequence[HardExample]) -> dict[str, Any]:
    """Return one video's summary row."""
    found = evidence.detections
    times = found.frame_times_s[~(found.frame_times_s != found.frame_times_s)]
    counts = {kind.value: sum(example.kind is kind for example in examples) for kind in Kind}
    return {
        "video": evidence.video_id,
        "seconds": float(times[-1] - times[0]) if len(times) else 0.0,
        "frames": found.n_frames,
        "detections": len(found),
        **counts,
        "gaps": [f"frames {gap.first_frame}..{gap.end_frame or 'end'}: {gap.reason}" for gap in found.gaps],
    }


def _from_detections(
    data: VideoData,
    detections: Path,
    source: str,
    class_names: tuple[str, ...],
    settings: CollectSettings,
    root: Path,
    say: Say | None,
) -> list[Evidence]:
    root.mkdir(parents=True, exist_ok=True)
    remove_parts(root)
    done = 0
    kept_evidence = []
    for video in data.videos:
        folder = folder_of(root, video)
        if not folder.exists():
            before = done

            def show(frames: int, before: int = before) -> None:
                if say:
                    say(before + frames)

            found = read_detections(
                _file_for(detections, video, len(data.videos)), video, source, class_names
            )
            kept = replace(settings, floor_score=float("-inf"))
            with data.source(video, grey=True) as frames:
                save_evidence(
                    folder,
                    collect_evidence(
                        counted(frames, show), found, None, kept, gaps=lambda: frames.report().gaps
                    ),
                )
        kept_evidence.append(load_evidence(folder))
        done += kept_evidence[-1].detections.n_frames
    return kept_evidence


def _paper_alone(
    data: VideoData,
    detections: Path,
    source: str,
    class_names: tuple[str, ...],
    preset: Paper,
    root: Path,
    say: Say | None,
) -> tuple[list[Evidence], list[HardExample]]:
    """Answer `paper` in one forward pass over each video that has no evidence which answers it."""
    root.mkdir(parents=True, exist_ok=True)
    remove_parts(root)
    kept, examples = [], []
    for video in data.videos:
        folder = folder_of(root, video)
        evidence = load_evidence(folder) if folder.exists() else None
        if evidence is not None and evidence.collected.search_margin is not None:
            examples += preset.mine([evidence])
        else:
            path = _file_for(detections, video, len(data.videos))
            found = read_detections(path, video, source, class_names)
            table, found = stream_video(video, found, preset.thresholds, data.settings)
            examples += table.examples()
            flags = np.zeros(found.n_frames, dtype=np.bool_)
            nothing = CollectSettings(floor_score=float("-inf"), search_margin=None, box_margin=None)
            evidence = Evidence(found, flags, flags, nothing)
            if not folder.exists():
                save_evidence(folder, evidence)
        kept.append(evidence)
        if say:
            say(sum(one.detections.n_frames for one in kept))
    return kept, examples


def stream_video(
    video: VideoInfo, detections: VideoDetections, thresholds: PaperThresholds, settings: VideoConfig
) -> tuple[MinedTable, VideoDetections]:
    """Return `paper`'s answer, and the detections with the times and damage met while reading."""
    # a guarded decoder tells nothing of frames that were not asked for, not even their times
    tells_all = settings.guard != "always" and settings.decoder in ("auto", "pyav")
    parts = parts_needed(detections, thresholds)
    only = sorted(parts) if tells_all else None
    with open_source(
        video,
        decoder=settings.decoder,
        device=settings.device,
        batch_size=settings.batch_size,
        end_frame=detections.n_frames,
        only=only,
        guard=settings.guard,
        stall_s=settings.stall_s,
        grey=True,
        grey_where=lambda index: parts.get(index, ()),
    ) as source:
        batches = iter(source)

        def pictures(_: object) -> Iterator[tuple[int, NDArray[np.uint8]]]:
            for batch in batches:
                yield from zip(batch.frame_indices.tolist(), batch.frames[:, 0].cpu().numpy(), strict=True)

        table = stream_paper(detections, pictures, thresholds)
        for _ in batches:  # to the end: damage behind the last candidate is reported too
            pass
        times = np.full(detections.n_frames, np.nan)
        at = [index for index in source.times_s if index < len(times)]
        times[at] = [source.times_s[index] for index in at]
        gaps = source.report().gaps
    if np.isnan(times).all():
        raise HemError(f"{video.video_id}: no frame could be decoded, so there is nothing to mine")
    found = replace(detections, frame_times_s=times, gaps=gaps or detections.gaps)
    return replace(table, time_s=frame_times(found)[table.frame_index]), found


def _file_for(detections: Path, video: VideoInfo, n_videos: int) -> Path:
    if detections.is_file():
        if n_videos > 1:
            raise HemError(
                f"detections={detections} is one file for {n_videos} videos; give a folder with one file "
                "for each video, named after it (clip.mp4 -> clip.txt)"
            )
        return detections
    stem = Path(video.video_id).with_suffix("")
    tried = [detections / f"{name}{s}" for name in (stem, video.video_id) for s in _DETECTION_SUFFIXES]
    for path in tried:
        if path.is_file():
            return path
    raise HemError(
        f"no detections of {video.video_id} in {detections}; looked for {tried[0].name} and the like"
    )
