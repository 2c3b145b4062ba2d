"""Does retraining take back what was mined? Scores at false detections mined in held-out video.

    python experiments/studies/score_at_negatives.py --seeds 100 101 102 103 104 \
        --out experiments/studies/score_at_negatives.md

For each detector and seed: the quickstart is run with ``python -m hem.train`` (a finished run is read
again); the baseline's evidence is collected on the *held-out* videos, which no arm trained on or mined; the
run's own rules mine hard negatives there; and each arm's best score of the same class with IoU >= 0.5 at
those boxes is read from its detections (nothing found counts as 0). The same is read at the true objects,
since a detector that merely became timid would lower both. Boxes that truth says are objects after all
are counted as the mining's impurity and stay in. Stop it at any moment; it goes on where it was.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hem.artifacts import digest_of, load_detections, read_json, write_json
from hem.artifacts.places import read_stages
from hem.building import build_data, find_videos, truth_folder
from hem.config import TrainConfig, check
from hem.data.video_truth import truth_for
from hem.evaluation.compare import Difference, paired_difference
from hem.instantiate import instantiate
from hem.mining.presets import Preset
from hem.ops.boxes import iou_matrix
from hem.reporting.tables import MISSING
from hem.structures import VideoDetections, VideoTruth
from hem.structures.evidence import CollectSettings
from hem.structures.examples import HardExample, Kind
from hem.training.checkpoint import detector_from, load_checkpoint
from hem.training.evidence_pass import run_pass
from hem.training.experiment import prediction_file
from hem.training.stages import StageStore
from hem.training.video_data import VideoData

ARMS = ("baseline", "continued", "flickers", "flickers_and_gaps")
CONTROL = "continued"
IOU = 0.5
# What each family is trained with besides the quickstart's own settings (written for FCOS).
DETECTORS: dict[str, tuple[str, ...]] = {
    "small_faster_rcnn": ("trainer.baseline.optim.lr=0.003", "trainer.extra.optim.lr=0.001"),
    "small_retinanet": ("trainer.baseline.optim.lr=0.003", "trainer.extra.optim.lr=0.001"),
    "small_fcos": (),
    "small_ssdlite": ("trainer.baseline.optim.lr=0.003", "trainer.extra.optim.lr=0.001"),
}
Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """A region of one frame that is asked about."""

    video_digest: str
    frame_index: int
    box_xyxy: tuple[float, float, float, float]
    label: int


def train(detector: str, seed: int, root: Path, overrides: Sequence[str]) -> Path:
    """Return the run directory of the quickstart with one detector and seed, running it if needed."""
    run = root / detector / f"seed_{seed}"
    if not (run / "summary.json").is_file():
        command = [sys.executable, "-m", "hem.train", "+experiment=quickstart", f"detector={detector}"]
        command += [*DETECTORS.get(detector, ()), f"seed={seed}", f"hydra.run.dir={run}"]
        subprocess.run([*command, f"store_dir={root / 'store'}", *overrides], check=True)
    return run


def measure(run: Path) -> dict[str, Any]:
    """Return one run's figures: mean scores by arm at mined and at true places, and what was mined."""
    kept = run / "score_at_negatives.json"
    summary = read_json(run / "summary.json", "summary")
    made_by = {"summary": digest_of(summary)}
    if kept.is_file():
        found = read_json(kept, "score-at-negatives")
        if found["made_by"] == made_by:
            return found
    config = check(TrainConfig, read_json(run / "config.json", "config")["config"])
    stages = read_stages(run)
    bundle = build_data(config, lambda *arguments: None)
    videos = find_videos(config.heldout_videos or bundle.heldout_videos, "heldout_videos", needed=True).videos
    truth = truth_folder(config.heldout_truth, bundle.heldout_truth)
    truths = {} if truth is None else {v.digest: truth_for(truth, v.video_id) for v in videos}
    mined = mine_heldout(config, stages["checkpoints"]["baseline"], videos)
    negatives = [place_of(one) for one in mined if one.kind is Kind.HARD_NEGATIVE]
    objects = [place for digest, one in truths.items() if one for place in objects_of(digest, one)]
    arms = {}
    for arm in [name for name in ARMS if name in stages["predictions"]]:
        folder = Path(stages["predictions"][arm])
        found_there = {video.digest: load_detections(prediction_file(folder, video)) for video in videos}
        arms[arm] = {
            "at_negatives": mean(best_scores(negatives, found_there)),
            "at_objects": mean(best_scores(objects, found_there)),
            "recall": summary["arms"][arm].get("recall"),
        }
    wrong = [1.0 - float(overlaps_truth(place, truths)) for place in negatives] if truths else []
    document = {
        "arms": arms,
        "negatives": len(negatives),
        "purity": mean(np.array(wrong)),
        "made_by": made_by,
    }
    write_json(kept, "score-at-negatives", document)
    return document


def mine_heldout(config: TrainConfig, baseline: Path, videos: Sequence[Any]) -> list[HardExample]:
    """Return what the run's own rules mine from the baseline in the held-out videos."""
    collect: CollectSettings = instantiate(config.collect, "collect", CollectSettings)
    preset: Preset = instantiate(config.mining, "mining", Preset)
    checkpoint = load_checkpoint(baseline)
    data = VideoData(videos, config.video)
    key = {
        "checkpoint": checkpoint.digest,
        "videos": [video.digest for video in videos],
        "decoder": config.video.decoder,
        "collect": collect.plain(),
    }
    detector = detector_from(checkpoint, baseline)
    store = StageStore(Path(config.store_dir), lambda line: print(line, file=sys.stderr))
    folder = store.run("heldout-evidence", key, lambda path: run_pass(detector, data, collect, path) and None)
    evidence = run_pass(detector, data, collect, folder)  # finished: only read
    found: list[HardExample] = preset.mine(evidence, seed=config.seed + 1)
    return found


def place_of(example: HardExample) -> Place:
    """Return where an example lies."""
    return Place(example.video_digest, example.frame_index, example.box_xyxy, example.label)


def objects_of(video_digest: str, truth: VideoTruth) -> list[Place]:
    """Return every true object of one video that counts."""
    rows = np.flatnonzero(~truth.ignore & truth.labelled_frames[truth.frame_index])
    return [
        Place(
            video_digest,
            int(truth.frame_index[row]),
            tuple(truth.boxes_xyxy[row].tolist()),
            int(truth.labels[row]),
        )
        for row in rows
    ]


def best_scores(places: Sequence[Place], found: Mapping[str, VideoDetections]) -> Boxes:
    """Return float64 (P,): the best score of the place's class with IoU >= 0.5 there, 0 for none."""
    scores = np.zeros(len(places))
    for row, place in enumerate(places):
        video = found[place.video_digest]
        rows = video.rows_of(place.frame_index)
        near = iou_matrix(np.array([place.box_xyxy]), video.boxes_xyxy[rows])[0] >= IOU
        near &= video.labels[rows] == place.label
        scores[row] = video.scores[rows][near].max(initial=0.0)
    return scores


def overlaps_truth(place: Place, truths: Mapping[str, VideoTruth | None]) -> bool:
    """Return True if a true object of the place's class lies there with IoU >= 0.5."""
    truth = truths.get(place.video_digest)
    if truth is None:
        return False
    rows = truth.rows_of(place.frame_index)
    near = iou_matrix(np.array([place.box_xyxy]), truth.boxes_xyxy[rows])[0] >= IOU
    return bool((near & (truth.labels[rows] == place.label)).any())


def mean(values: Boxes) -> float | None:
    """Return the mean, or None of nothing."""
    return float(values.mean()) if len(values) else None


def text(value: float | None, signed: bool = False) -> str:
    """Return a figure; what was not measured is a dash."""
    if value is None:
        return MISSING
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(found: Difference) -> str:
    """Return 'mean [low, high]', * where the 95 % interval is clear of zero."""
    numbers = asdict(found)
    low, high = text(numbers["low"], True), text(numbers["high"], True)
    return f"{text(found.mean, True)} [{low}, {high}]{' *' if found.clear_of_zero else ''}"


def over_seeds(runs: Sequence[Mapping[str, Any]], arm: str, figure: str) -> list[float | None]:
    """Return one figure of one arm, seed by seed."""
    return [run["arms"].get(arm, {}).get(figure) for run in runs]


def average(values: Sequence[float | None]) -> float | None:
    """Return the mean of what was measured."""
    return mean(np.array([value for value in values if value is not None]))


def report(by_detector: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the table as Markdown: a row for each detector and arm."""
    head = [
        *("detector", "arm", "score at mined negatives", f"minus `{CONTROL}`", "minus `baseline`"),
        *("score at true objects", f"minus `{CONTROL}`", "recall", f"minus `{CONTROL}`"),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for detector, runs in by_detector.items():
        for arm in ARMS:
            figures = {name: over_seeds(runs, arm, name) for name in ("at_negatives", "at_objects", "recall")}

            def to(other: str, name: str, arm: str = arm, runs: Sequence[Any] = runs) -> str:
                if arm == other:
                    return ""
                return interval(paired_difference(over_seeds(runs, arm, name), over_seeds(runs, other, name)))

            row = [detector, arm, text(average(figures["at_negatives"]))]
            row += [to(CONTROL, "at_negatives"), to("baseline", "at_negatives")]
            row += [text(average(figures["at_objects"])), to(CONTROL, "at_objects")]
            row += [text(average(figures["recall"])), to(CONTROL, "recall")]
            lines.append("| " + " | ".join(row) + " |")
    counts = ["", "| detector | mined negatives by seed | share without a true object |", "|---|---|---|"]
    for detector, runs in by_detector.items():
        mined = ", ".join(str(run["negatives"]) for run in runs)
        counts.append(f"| {detector} | {mined} | {text(average([run['purity'] for run in runs]))} |")
    return "\n".join([*lines, *counts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    parser.add_argument("--root", type=Path, default=Path("runs/score_at_negatives"))
    parser.add_argument("--out", type=Path, default=None, help="also write the report to this file")
    parser.add_argument("overrides", nargs="*", help="further configuration, for example trainer.threads=1")
    options = parser.parse_args()
    found = {
        detector: [measure(train(detector, seed, options.root, options.overrides)) for seed in options.seeds]
        for detector in options.detectors
    }
    head = [
        "# Scores at false detections mined in held-out video",
        f"Quickstart, seeds {', '.join(map(str, options.seeds))}; overrides: "
        f"{' '.join(options.overrides) or 'none'}; {platform.machine()}, torch {torch.__version__}.",
        "Means over seeds; differences are paired by seed, mean [95 % interval], * = clear of zero. A score "
        "is the best of the place's class with IoU >= 0.5, 0 where nothing was found. `recall` is read where "
        "an arm gives the baseline's false alarms per minute.",
        report(found),
    ]
    page = "\n\n".join(head) + "\n"
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
