"""Where a mined example came from and what became of it, from what a run keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hem.artifacts import load_examples, read_json
from hem.artifacts.evidence import load_evidence
from hem.artifacts.places import place_of, read_stages
from hem.artifacts.rulings import DROPS, VERDICTS, VerdictLog, gather_rulings, load_drops
from hem.errors import HemError
from hem.mining.fuse import detection_of
from hem.ops.rulings import as_mined
from hem.replay.drops import read_drops
from hem.replay.stored import load_rounds
from hem.structures import Drop, HardExample, Verdict
from hem.training.stages import STAGE_FILE
from hem.training.usage import usage_of

EXAMPLES = "hard_examples.parquet"


@dataclass(frozen=True)
class Mined:
    """The mined examples of a run.

    Attributes:
        run: the directory.
        by_source: examples by where they stand: an arm's name, ``hem.mine``, or ``arm/round_001``.
        class_names: names of labels 1, 2, ….
    """

    run: Path
    by_source: Mapping[str, Sequence[HardExample]]
    class_names: tuple[str, ...]

    def examples(self) -> Iterator[HardExample]:
        """Yield every example of every source; one found in several comes several times."""
        for found in self.by_source.values():
            yield from found


def arm_folders(run: Path) -> dict[str, Path]:
    """Return the stage folder of each arm of a finished run; {} for other directories."""
    if not (run / "stages.json").is_file():
        return {}
    checkpoints: dict[str, Path] = read_stages(run)["checkpoints"]
    return {name: path.parent for name, path in checkpoints.items() if name != "baseline"}


def replay_folders(run: Path) -> dict[str, Path]:
    """Return the folders of replay rounds by arm; of hem.mine with keep_frames, under ``hem.mine``."""
    found = {name: folder / "replay" for name, folder in arm_folders(run).items()}
    if not found and (run / "mining.json").is_file():
        found = {"hem.mine": run / "replay"}
    return {name: folder for name, folder in found.items() if folder.is_dir()}


def read_mined(run: Path) -> Mined:
    """Read all that was mined in a run of hem.train or an output_dir of hem.mine.

    Raises:
        HemError: if nothing was mined there.
    """
    if not (run / EXAMPLES).is_file():
        raise HemError(f"{run} holds no {EXAMPLES}: no run of hem.train or hem.mine that mined")
    rulings = gather_rulings(run)
    own, header = load_examples(run / EXAMPLES)
    files = {path.stem: path for path in sorted((run / "mined").glob("*.parquet"))}
    by_source: dict[str, Sequence[HardExample]] = {}
    if not files:
        by_source["hem.mine"] = as_mined(own, rulings.verdicts, rulings.drops)
    for name, path in files.items():
        by_source[name] = as_mined(load_examples(path)[0], rulings.verdicts, rulings.drops)
    for name, folder in replay_folders(run).items():
        for one in load_rounds(folder, as_written=True):
            examples = [replace(example, round=one.index) for example in one.examples]
            source = f"{name}/{one.directory.name}"
            by_source[source] = as_mined(examples, rulings.verdicts, rulings.drops)
    return Mined(run, by_source, tuple(header["class_names"]))


def find_example(mined: Mined, prefix: str) -> HardExample:
    """Return the example whose id begins with ``prefix``.

    Raises:
        HemError: if there is none, or several.
    """
    found: dict[str, HardExample] = {}
    for example in mined.examples():
        if example.example_id.startswith(prefix):
            found.setdefault(example.example_id, example)
    if not found:
        raise HemError(f"{mined.run}: no example {prefix!r} was mined")
    if len(found) > 1:
        raise HemError(
            f"{mined.run}: {len(found)} examples begin with {prefix!r}: {', '.join(sorted(found)[:5])}"
        )
    return next(iter(found.values()))


def explain(mined: Mined, example: HardExample) -> dict[str, Any]:
    """Return all that is known of an example as JSON-like values; what is not known is None."""
    config = _config(mined.run)
    return {
        "id": example.example_id,
        "run": str(mined.run),
        "kind": example.kind.value,
        "class": _class_name(mined, example.label),
        "video": {"id": example.video_id, "digest": example.video_digest, "path": _path(mined.run, example)},
        "frame_index": example.frame_index,
        "time_s": example.time_s,
        "box_xyxy": list(example.box_xyxy),
        "score": example.score,
        "weight": example.weight,
        "rule": example.rule,
        "seen_by_the_rule": {
            name: float(value) for name, value in example.evidence.items() if value == value
        },
        "evidence": _evidence(mined.run, example),
        "model": _model(mined.run),
        "experiment": None if config is None else {"name": config["name"], "seed": config["seed"]},
        "mined_by": _mined_by(mined, example),
        "used": _used(mined.run, example),
        "verdict": _verdict(mined.run, example.example_id),
        "dropped": [asdict(one) for one in drops_about(mined.run, example)],
    }


def drops_about(run: Path, example: HardExample) -> list[Drop]:
    """Return the removals that name an example, its video or its rule, oldest first."""
    records = list(load_drops(run / DROPS))
    for folder in replay_folders(run).values():
        records += [one for path in sorted(folder.glob("round_*")) for one in read_drops(path)]
    unique = {(one.asked, one.time): one for one in records if _names(one, example)}
    return sorted(unique.values(), key=lambda one: one.time)


def _names(drop: Drop, example: HardExample) -> bool:
    return (
        example.example_id in drop.example_ids
        or example.video_id in drop.video_ids
        or example.rule in drop.rules
    )


def _config(run: Path) -> dict[str, Any] | None:
    path = run / "config.json"
    return dict(read_json(path, "config")["config"]) if path.is_file() else None


def _class_name(mined: Mined, label: int) -> str:
    known = 0 < label <= len(mined.class_names)
    return mined.class_names[label - 1] if known else f"class {label}"


def _evidence_root(run: Path) -> Path | None:
    if (run / "stages.json").is_file():
        given: Path | None = read_stages(run)["evidence"]
        return given
    if (run / "mining.json").is_file():
        mined = read_json(run / "mining.json", "mining")
        root = place_of(run, mined, mined["evidence"]) if mined.get("evidence") else run / "evidence"
        return root / "evidence" if (root / "evidence").is_dir() else root
    return None


def _path(run: Path, example: HardExample) -> str | None:
    if (run / "measured.json").is_file():
        videos = read_json(run / "measured.json", "measured")["videos"]
        return next((one["path"] for one in videos if one["video_id"] == example.video_id), None)
    root = _evidence_root(run)
    folder = None if root is None else root / example.video_digest[:16]
    if folder is None or not folder.is_dir():
        return None
    return load_evidence(folder).detections.video.path or None


def _evidence(run: Path, example: HardExample) -> dict[str, Any] | None:
    """Return what the stored evidence of round 1 holds about the detection in this place."""
    root = _evidence_root(run)
    folder = None if root is None else root / example.video_digest[:16]
    if folder is None or not folder.is_dir():
        return None
    evidence = load_evidence(folder)
    row = detection_of(evidence, example)
    document: dict[str, Any] = {"folder": str(folder), "detector": evidence.detector_digest}
    if row is None:  # a gap that tracking filled, or a box of a later round
        return {**document, "neighbours": [], "responses": []}
    table, answers = evidence.neighbours, evidence.responses
    document["neighbours"] = [
        {"offset": int(table.offset[k]), "region": int(table.region[k]), "ncc": float(table.ncc[k])}
        for k in np.flatnonzero(table.candidate == row)
    ]
    document["responses"] = [
        {
            "variant": evidence.variants[int(answers.variant[k])],
            "score": float(answers.score[k]),
            "iou": float(answers.iou[k]),
        }
        for k in np.flatnonzero(answers.candidate == row)
    ]
    return document


def _model(run: Path) -> dict[str, Any] | None:
    """Return the detector behind round 1: checkpoint and digest."""
    if (run / "stages.json").is_file():
        checkpoint = read_stages(run)["checkpoints"].get("baseline")
        root = _evidence_root(run)
        stage = None if root is None else root / STAGE_FILE
        known = stage is not None and stage.is_file()
        digest = read_json(stage, "stage")["made_from"]["checkpoint"] if known and stage else None
        return {"checkpoint": None if checkpoint is None else str(checkpoint), "digest": digest}
    return None


def _mined_by(mined: Mined, example: HardExample) -> dict[str, Any]:
    """Return the preset and thresholds of each arm (or of hem.mine) that found the example."""
    folders = arm_folders(mined.run)
    found: dict[str, Any] = {}
    for source, examples in mined.by_source.items():
        if "/" in source or not any(one.example_id == example.example_id for one in examples):
            continue
        if source in folders:
            made_from = read_json(folders[source] / STAGE_FILE, "stage")["made_from"]
            found[source] = dict(made_from.get("preset") or {})
        elif (mined.run / "mining.json").is_file():
            document = read_json(mined.run / "mining.json", "mining")
            found[source] = {"preset": document["preset"], **document["thresholds"]}
        else:
            found[source] = {}
    return found


def _used(run: Path, example: HardExample) -> dict[str, Any]:
    used: dict[str, Any] = {}
    for name, folder in arm_folders(run).items():
        usage = usage_of(folder, example.video_id, example.frame_index)
        if usage is not None:
            used[name] = {
                "rounds": list(usage.rounds),
                "steps": list(usage.steps),
                "of_steps": usage.total_steps,
                "checkpoint": str(folder / "checkpoint.pt"),
            }
    return used


def _verdict(run: Path, example_id: str) -> dict[str, Any] | None:
    found: Verdict | None = VerdictLog(run / VERDICTS).standing.get(example_id)
    return None if found is None else {"answer": found.answer.value, "who": found.who, "time": found.time}
