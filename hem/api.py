"""Mining without a command line: three lines of Python for what ``python -m hem.mine`` does."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hem.artifacts import remove_parts, save_coco, save_examples, write_json
from hem.artifacts.evidence import load_evidence, save_evidence
from hem.config import VideoConfig
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.mining.collect import collect_evidence
from hem.mining.presets import Paper, Preset
from hem.mining.sources import read_detections
from hem.structures import HardExample, Kind, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.evidence_pass import counted, folder_of, run_pass
from hem.training.video_data import VideoData

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
    """Return settings that answer `paper` alone, with the least matching; other presets keep ``collect``."""
    if not isinstance(preset, Paper):
        return collect
    return replace(
        collect,
        search_margin=preset.search_margin,
        box_margin=None,
        variants=(),
        max_gap=0,
        window=preset.window,
        paper_score_threshold=(preset.score_threshold, preset.score_threshold),
        paper_iou_threshold=(preset.iou_threshold, preset.iou_threshold),
        paper_min_area=preset.min_area,
        paper_border_margin=preset.border_margin,
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
        collect: how evidence is collected; None = the defaults.
        video: how frames are read; None = the defaults.
        output_dir: where everything goes.
        seed: of random baselines.
        say: told of the frames done.

    Raises:
        HemError: if neither or both of detector and detections are given, or nothing can be read.
    """
    if (detector is None) == (detections is None):
        raise HemError("mining needs either a detector (checkpoint=) or detections=, not both")
    settings = exactly_for(preset, collect or CollectSettings())
    data = VideoData(videos, video or VideoConfig())
    root = output_dir / EVIDENCE
    started = time.monotonic()
    if detector is not None:
        evidence = run_pass(detector, data, settings, root, say)
    else:
        assert detections is not None
        # scores of other programs have no range of their own, and there is no detector to ask again
        anything = (float("-inf"), float("inf"))
        settings = replace(settings, variants=(), score_threshold=anything, neighbour_threshold=anything)
        evidence = _from_detections(data, detections, detections_format, class_names, settings, root, say)
    collected = time.monotonic() - started
    return _answer(evidence, preset, output_dir, seed, collected)


def mine_evidence(root: Path, preset: Preset, *, output_dir: Path, seed: int = 0) -> MiningResult:
    """Answer a preset from evidence collected before; no video is touched.

    Raises:
        HemError: if there is no evidence, or it cannot answer these thresholds.
    """
    inner = root / EVIDENCE
    folders = sorted(path.parent for path in (inner if inner.is_dir() else root).glob("*/detections.parquet"))
    if not folders:
        raise HemError(f"evidence={root} holds no evidence; give the output_dir of an earlier mining run")
    evidence = sorted((load_evidence(folder) for folder in folders), key=lambda one: one.video_id)
    return _answer(evidence, preset, output_dir, seed, 0.0)


def _answer(
    evidence: Sequence[Evidence], preset: Preset, output_dir: Path, seed: int, collected: float
) -> MiningResult:
    started = time.monotonic()
    examples = preset.mine(evidence, seed=seed)
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
        {"preset": type(preset).__name__, "thresholds": chosen, "videos": rows, "seconds": seconds},
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
            with data.source(video) as frames:
                evidence = collect_evidence(
                    counted(frames, show), found, None, kept, gaps=lambda: frames.report().gaps
                )
            save_evidence(folder, evidence)
        done += load_evidence(folder).detections.n_frames
    return [load_evidence(folder_of(root, video)) for video in data.videos]


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
