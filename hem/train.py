"""``python -m hem.train +experiment=NAME``: baseline, mining, arms, and their comparison."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hem.allocator import keep_freed_memory
from hem.artifacts import made_folder, read_json, remove_parts, save_coco, save_examples, write_json
from hem.artifacts.places import RUN_DIR, require_writable
from hem.building import build_parts, truth_folder
from hem.compose import entry
from hem.config import TrainConfig, check
from hem.errors import HemError
from hem.evaluation.video_files import read_truth
from hem.honouring import honouring
from hem.measured import measured
from hem.reporting.intervals import video_intervals
from hem.reporting.objectives import check_objective, main_mining_arm, objective_value
from hem.reporting.run_log import RunLog
from hem.reporting.run_report import write_report
from hem.reporting.steps import Steps
from hem.structures import VideoDetections, VideoTruth
from hem.training.calibration import CALIBRATION
from hem.training.checkpoint import load_checkpoint
from hem.training.experiment import EXAMPLES, Experiment
from hem.training.measure import STILLS, accelerator_of, figures, load_stills, point_of, targets_of
from hem.training.stages import StageStore
from hem.training.summary import MinedBy, mining_figures, summary

SUMMARY = "summary.json"
CONFIG = "config.json"


@entry("train")
def main(values: dict[str, Any]) -> float | None:
    """Run an experiment; returns the objective that sweeps minimise or maximise, if one is named."""
    config = check(TrainConfig, values)
    keep_freed_memory()
    if config.objective is not None:
        check_objective(config.objective, list(config.arms))
    run = Path(config.output_dir)
    require_writable(Path(config.store_dir), "store_dir")
    remove_parts(run)
    plain = config.model_dump(mode="json")
    with (
        made_folder(run),
        Steps() as steps,
        RunLog(config.logger, run, name=config.name, seed=config.seed, config=plain) as log,
    ):
        document = run_experiment(config, run, steps, log)
    return objective(run, document, config)


def run_experiment(config: TrainConfig, run: Path, steps: Steps, log: RunLog) -> dict[str, Any]:
    """Run every stage that is not finished, write the run directory, and return the summary."""
    started = time.monotonic()
    if config.trainer.devices > 1:
        raise HemError(
            f"trainer.devices={config.trainer.devices}: a run trains on one device; start runs side by side "
            "instead, of other seeds or detectors, each with one device to see (CUDA_VISIBLE_DEVICES)"
        )
    accelerator_of(config.trainer.accelerator)  # a GPU that is not there is missed before data are made
    if config.checkpoint is not None:
        load_checkpoint(Path(config.checkpoint))  # a wrong file is found before anything is made
    parts, skipped = build_parts(config, steps.progress, log.loggers)
    for one in skipped:
        steps.say(f"skipped {one['path']}: {one['reason']}")
    parts = honouring(parts, run, steps.say)
    write_json(run / CONFIG, "config", {"config": config.model_dump(mode="json")})
    store = StageStore(Path(config.store_dir), steps.say)
    experiment = Experiment(parts, store)
    document = compare(experiment, run, skipped, steps)
    document["seconds"]["total"] = time.monotonic() - started
    write_json(run / SUMMARY, "summary", document)
    report, strips = write_report(run, steps.say)
    log.finished(document, dict(list(strips.items())[: config.logger.max_pictures]))
    steps.table(document)
    steps.say(f"report: {run / 'report.html'} ({report.examples} mined examples)")
    steps.say(f"written to {run}")
    return document


def compare(experiment: Experiment, run: Path, skipped: list[dict[str, str]], steps: Steps) -> dict[str, Any]:
    """Train and measure the baseline and every arm; return the summary without the total time."""
    config = experiment.config
    baseline = experiment.baseline()
    mining_arms = [name for name, arm in config.arms.items() if arm.mining is not None]
    evidence = experiment.evidence_folder(baseline) if mining_arms else None
    calibration = experiment.calibration(baseline)
    if calibration is not None:
        shutil.copyfile(calibration, run / CALIBRATION)
    mined = {name: _query(experiment, name, evidence, run) for name in mining_arms if evidence is not None}
    lost = _lost(next((one.detections for one in mined.values()), []), steps)
    checkpoints = {"baseline": baseline}
    for name in config.arms:
        checkpoints[name] = experiment.arm(name, baseline, evidence) / "checkpoint.pt"
    folders = {name: experiment.predictions(name, path) for name, path in checkpoints.items()}
    lost += _lost(experiment.heldout_detections(folders["baseline"]), steps)
    write_json(
        run / "stages.json",
        "stages",
        {
            RUN_DIR: str(run.resolve()),
            "checkpoints": {name: str(path.resolve()) for name, path in checkpoints.items()},
            "predictions": {name: str(path.resolve()) for name, path in folders.items()},
            "evidence": None if evidence is None else str(evidence.resolve()),
            "calibration": None if calibration is None else str(calibration.resolve()),
        },
    )
    shown = None if evidence is None else str(evidence.resolve())
    document, seen = _measured(experiment, folders, mined, [*skipped, *lost], shown)
    write_json(run / "measured.json", "measured", {RUN_DIR: str(run.resolve()), **seen})
    return document


def _lost(videos: Sequence[VideoDetections], steps: Steps) -> list[dict[str, str]]:
    """Say which stretches of videos could not be decoded; nothing is measured or mined there."""
    found = [{"path": one.video.path, "reason": f"not decoded: {gap}"} for one in videos for gap in one.gaps]
    for one in found:
        steps.say(f"{one['path']}: {one['reason']}")
    return found


def _query(experiment: Experiment, name: str, evidence: Path, run: Path) -> MinedBy:
    """Answer one arm's preset from the shared evidence, and keep what it found in the run directory."""
    started = time.monotonic()
    found = experiment.evidence(evidence)
    examples = experiment.mine(name, found)
    seconds = time.monotonic() - started + experiment.store.seconds.get("evidence", 0.0)
    names = experiment.parts.data.class_names
    folder = run / "mined"
    save_examples(folder / f"{name}.parquet", examples, class_names=names)
    if name == main_mining_arm(experiment.config):
        save_examples(run / EXAMPLES, examples, class_names=names)
        save_coco(run / "hard_examples.json", examples, [e.detections.video for e in found], names)
    return MinedBy(examples, [one.detections for one in found], seconds)


def _measured(
    experiment: Experiment,
    folders: Mapping[str, Path],
    mined: Mapping[str, MinedBy],
    skipped: list[dict[str, str]],
    evidence: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the summary, and what the report needs besides."""
    parts, config = experiment.parts, experiment.config
    targets = targets_of(parts.data.test)
    names = parts.data.class_names
    stills = {name: load_stills(folder / STILLS) for name, folder in folders.items()}
    videos = {name: experiment.heldout_detections(folder) for name, folder in folders.items()}
    truths = _truths(config.heldout_truth, parts.data.heldout_truth, videos["baseline"])
    point = point_of(stills["baseline"], targets, videos["baseline"], truths, names)
    arms = {name: figures(stills[name], targets, videos[name], truths, names, point) for name in folders}
    unlabelled = next((one.detections for one in mined.values()), [])
    mined_truths = _truths(config.videos_truth, parts.data.videos_truth, unlabelled)
    by_arm = {name: mining_figures(one, mined_truths, point) for name, one in mined.items()}
    main_arm = main_mining_arm(config)
    document = summary(
        name=config.name,
        seed=config.seed,
        control=config.control,
        arms=arms,
        mining=by_arm.get(main_arm or "", {}),
        mining_by_arm=by_arm,
        seconds=experiment.store.seconds,
        note=parts.data.note,
        point=point,
        skipped=skipped,
    )
    document["intervals"] = video_intervals(point, videos, truths, config.control)
    found = mined[main_arm] if main_arm else None
    kept = measured(
        [one.video for one in found.detections] if found else list(parts.videos),
        evidence,
        videos,
        parts.heldout,
        truths,
        found.examples if found else [],
        mined_truths,
        {name: arm["threshold"] for name, arm in arms.items()},
        main_arm,
    )
    return document, kept


def _truths(configured: str | None, own: str | None, videos: Sequence[VideoDetections]) -> list[VideoTruth]:
    place = truth_folder(configured, own)
    found = [] if place is None else [read_truth(place, video) for video in videos]
    return [truth for truth in found if truth is not None]


def objective(run: Path, document: Mapping[str, Any], config: TrainConfig) -> float | None:
    """Return the figure that a sweep optimises (NaN if it was not measured), or None if none is named."""
    if config.objective is None:
        return None
    kept = read_json(run / "measured.json", "measured")
    value = objective_value(config.objective, config, document, kept)
    return float("nan") if value is None else value


if __name__ == "__main__":
    main()
