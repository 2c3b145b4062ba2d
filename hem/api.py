"""Mining without a command line: three lines of Python for what ``python -m hem.mine`` does."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hem import settings as shipped
from hem.artifacts import save_coco, save_examples, write_json
from hem.artifacts.evidence import StoredEvidence
from hem.artifacts.examples import names_up_to
from hem.artifacts.places import RUN_DIR, read_stages, require_writable
from hem.artifacts.rulings import gather_rulings
from hem.asked import AnyPath, SomeVideos, detector_of, preset_of, videos_of
from hem.config import VideoConfig
from hem.errors import HemError
from hem.given import Say, digest_of_file, evidence_from, file_for, paper_alone, try_files
from hem.mining.presets import Elicited, Paper, Preset
from hem.mining.run import NO_CALIBRATION
from hem.mining.score_scale import ScoreScale
from hem.mining.trial import try_out
from hem.ops.rulings import honour
from hem.seen import Seen, nothing_of, remarks_on
from hem.stored import EVIDENCE, USED, exactly_for, folders_under, refuse_other_pass
from hem.structures import HardExample, Kind
from hem.structures.evidence import CollectSettings, Evidence
from hem.structures.example_list import counts_of
from hem.training.calibration import load_scale
from hem.training.evidence_pass import run_pass
from hem.training.videos import Videos
from hem.video.manifest import SkippedVideo

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector


@dataclass(frozen=True)
class MiningResult:
    """What mining gave.

    Attributes:
        examples: hard negatives, hard positives, pseudo-labels and ignore regions of all videos, like a
            list; its objects are made when they are asked for.
        evidence: of each video, read when it is asked for, one at a time; other thresholds are answered
            from it at once.
        rows: one summary row for each video.
        seconds: of collecting, and of querying.
        remarks: what is legal and probably not meant.
    """

    examples: Sequence[HardExample]
    evidence: Sequence[Evidence]
    rows: list[dict[str, Any]]
    seconds: Mapping[str, float]
    remarks: Sequence[str] = ()


def mine_videos(
    videos: SomeVideos,
    preset: Preset | str = "hem",
    *,
    detector: "Detector | AnyPath | None" = None,
    detections: AnyPath | None = None,
    detections_format: str = "auto",
    class_names: Sequence[str] = (),
    collect: CollectSettings | None = None,
    video: VideoConfig | None = None,
    output_dir: AnyPath,
    seed: int = 0,
    say: Say | None = None,
    verdicts: Sequence[AnyPath] = (),
    calibration: AnyPath | None = None,
) -> MiningResult:
    """Mine videos with a detector, or from detections that any other program made.

    Evidence is kept under ``output_dir/evidence``, a folder a video; videos already there are not
    read again, and what a detector was asked about the one that was being read is not asked again, so an
    interrupted call goes on. ``hard_examples.json`` (COCO style) and
    ``hard_examples.parquet`` are written beside it.

    Args:
        videos: a file, a folder, or several of either; what hem.video.manifest.scan_videos found in them;
            or VideoInfos, as frames_as_video makes of a folder of images.
        preset: a name of ``conf/mining``, or what hem.settings.preset made of it.
        detector: asked for every frame, or the path of a checkpoint that hem trained; or
        detections: a file (one video) or a folder with one file for each video, named after it.
        detections_format: ``authors``, ``mot``, ``coco``, ``parquet`` or ``auto``.
        class_names: of the labels in ``detections``, from label 1 on.
        collect: how evidence is collected; None = as the commands do (hem.settings.collect()). Where
            `paper` is asked of given detections and ``collect.search_margin`` is None, only its answer
            is worked out, which is the fastest way, and the evidence kept holds the detections without
            appearance; with ``search_margin`` it answers other `paper` settings too.
        verdicts: directories of runs whose verdicts and removals to honour besides those in ``output_dir``
            itself, or files of them; see hem.artifacts.rulings.load_rulings and hem.ops.rulings.
        calibration: what the detector's scores are worth, for presets with score_scale=calibrated: a run's
            ``calibration.json``, or what hem.training.calibration.save_scale wrote.

    Raises:
        HemError: if neither or both of detector and detections are given, a video has no detections,
            ``output_dir`` holds evidence of another detector, other detections or another way to
            collect, or nothing can be read.
    """
    output, preset = Path(output_dir), preset_of(preset)
    require_writable(output, "output_dir")
    detections, calibration = _path(detections), _path(calibration)
    class_names = (class_names,) if isinstance(class_names, str) else tuple(class_names)
    _check_sources(preset, detector is not None, detections is not None)
    detector, scale = detector_of(detector), _calibration_given(preset, calibration)
    collect = collect or shipped.collect()
    if detector is not None:
        collect = collect.reaching(detector.score_range[1])
    settings = exactly_for(preset, collect)
    found = videos_of(videos, output / "videos")
    data = Videos(found.videos, video or VideoConfig())
    root = output / EVIDENCE
    if detections is not None:
        # scores of other programs have no range of their own, and there is no detector to ask again
        low, anything = float("-inf"), (float("-inf"), float("inf"))
        settings = replace(
            settings, floor_score=low, variants=(), score_threshold=anything, neighbour_threshold=anything
        )
    try_out(preset, settings, scale)
    if detections is not None and len(data.videos) > 1:
        try_files(data, detections, detections_format, class_names, root)
    digests = _digests(data, detector, detections, detections_format)
    if calibration is not None and detector is not None:
        load_scale(calibration, asked=digests[0])  # of another detector: found before the pass
    refuse_other_pass(root, data, digests, settings, preset, class_names)
    started = time.monotonic()
    examples: Sequence[HardExample] | None = None
    if detections is not None and isinstance(preset, Paper) and collect.search_margin is None:
        evidence, examples = paper_alone(data, detections, detections_format, class_names, preset, root, say)
    elif detector is not None:
        evidence = run_pass(detector, data, settings, root, say)
    else:
        assert detections is not None
        evidence = evidence_from(data, detections, detections_format, class_names, settings, root, say)
    collected = time.monotonic() - started
    return _answer(
        evidence, preset, output, seed, collected, verdicts, root, calibration, examples, found.skipped
    )


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)


def _check_sources(preset: Preset, detector: bool, detections: bool) -> None:
    if detector == detections:
        given = "both were given" if detections else "neither was given"
        raise HemError(f"mining needs a detector (checkpoint=) or detections=, and {given}")
    if not detector and isinstance(preset, Elicited):
        raise HemError(
            "mining=elicited asks a detector about disturbed frames, and given detections cannot be asked: "
            "give checkpoint=, or mine with `temporal` or `hem`"
        )


def _digests(
    data: Videos, detector: "Detector | None", detections: Path | None, detections_format: str
) -> list[str]:
    """Return for each video the digest of what detects in it."""
    if detector is not None:
        return [detector.digest()] * len(data.videos)
    assert detections is not None
    files = [file_for(detections, video, data.videos) for video in data.videos]
    return [digest_of_file(file, detections_format) for file in files]


def mine_evidence(
    root: AnyPath,
    preset: Preset | str,
    *,
    output_dir: AnyPath,
    seed: int = 0,
    verdicts: Sequence[AnyPath] = (),
    calibration: AnyPath | None = None,
    collected: Mapping[str, Any] | None = None,
) -> MiningResult:
    """Answer a preset from evidence collected before; no video is touched.

    Args:
        root: the ``output_dir`` of an earlier call, or the directory of a run of hem.train.
        preset, output_dir, seed, verdicts, calibration: see mine_videos.
        collected: settings of CollectSettings by name that the evidence must have been collected with, or
            ranges that it must hold.

    Raises:
        HemError: if there is no evidence, it cannot answer these thresholds, was collected otherwise, or is
            twice of one video and no call says which it used last.
    """
    root, output, preset = Path(root), Path(output_dir), preset_of(preset)
    require_writable(output, "output_dir")
    calibration = _path(calibration)
    _calibration_given(preset, calibration)
    kept = _kept_for(root)
    folders, left = folders_under(kept, collected or {})
    if not folders:
        raise HemError(
            f"evidence={root} holds no evidence; give the output_dir of an earlier mining run, or a run of "
            "hem.train that mined"
        )
    answer = _answer(StoredEvidence(folders), preset, output, seed, 0.0, verdicts, kept, calibration)
    return replace(answer, remarks=[*left, *answer.remarks])


def _kept_for(root: Path) -> Path:
    """Return where the evidence lies that an ``evidence`` names: there, or where a run of hem.train says."""
    if (root / "stages.json").is_file() and (kept := read_stages(root).get("evidence")):
        return Path(kept)
    return root


def _calibration_given(preset: Preset, calibration: Path | None) -> ScoreScale | None:
    """Find a calibration that is missing or damaged before the videos are read."""
    if calibration is not None:
        return load_scale(calibration)
    if getattr(preset, "score_scale", "") == "calibrated":
        raise HemError(NO_CALIBRATION)
    return None


def _answer(
    evidence: StoredEvidence,
    preset: Preset,
    output_dir: Path,
    seed: int,
    collected: float,
    verdicts: Sequence[AnyPath],
    root: Path,
    calibration: Path | None = None,
    found: Sequence[HardExample] | None = None,
    skipped: Sequence[SkippedVideo] = (),
) -> MiningResult:
    started = time.monotonic()
    rulings = gather_rulings(output_dir, [Path(one) for one in verdicts])
    scale = None if calibration is None else load_scale(calibration, evidence)
    mined = preset.mine(evidence, seed=seed, calibrated=scale) if found is None else found
    # a loop's variable would keep one while the next is read
    seen = list(map(partial(Seen.of, preset=preset), evidence))
    evidence.let_go()  # with what the rules looked up in it, before files are written
    examples = honour(mined, rulings)
    seconds = {"collect": collected, "query": time.monotonic() - started}
    names = next((one.class_names for one in seen if one.class_names), ())
    names = names_up_to(names, max((one.highest for one in seen), default=1))
    output_dir.mkdir(parents=True, exist_ok=True)
    save_examples(output_dir / "hard_examples.parquet", examples, class_names=names)
    save_coco(output_dir / "hard_examples.json", examples, [one.video for one in seen], names)
    counts = counts_of(examples)
    rows = [
        {**one.row, **{kind.value: counts[one.video.video_id, kind] for kind in Kind}, "gaps": one.gaps}
        for one in seen
    ]
    rows += [nothing_of(one) for one in skipped]
    chosen = {f.name: _plain(getattr(preset, f.name)) for f in fields(preset)}  # type: ignore[arg-type]
    write_json(
        output_dir / "mining.json",
        "mining",
        {
            "preset": type(preset).__name__,
            "thresholds": chosen,
            "videos": rows,
            "seconds": seconds,
            RUN_DIR: str(output_dir.resolve()),
            "evidence": str(root.resolve()),
            USED: [folder.name for folder in evidence.folders],
        },
    )
    return MiningResult(examples, evidence, rows, seconds, remarks_on(preset, seen))


def _plain(value: object) -> object:
    """Return what JSON can hold: infinite thresholds as text."""
    return str(value) if isinstance(value, float) and math.isinf(value) else value
