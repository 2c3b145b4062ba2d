"""The report of a finished run, made from what the run directory holds; it can be made again at any time."""

import json
import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from hem import __version__
from hem.artifacts import load_detections, load_examples, read_json, whole_file
from hem.artifacts.places import place_of
from hem.errors import HemError
from hem.reporting import plots
from hem.reporting.page import PageReport, write_page
from hem.reporting.shown import listed, with_neighbours, with_strips
from hem.reporting.strips import (
    MarkedBox,
    before_after,
    frame_strip,
    marks_of_detections,
    marks_of_examples,
    strip_budget,
)
from hem.structures import HardExample, Kind, VideoDetections, VideoInfo
from hem.video.stream import reread_frames

AROUND = 2  # frames shown before and after the mined one
MOST_PAIRS = 8


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds for its report."""

    summary: dict[str, Any]
    config: dict[str, Any]
    measured: dict[str, Any]
    examples: list[HardExample]
    class_names: tuple[str, ...]
    videos: dict[str, VideoInfo]
    evidence: Path | None


def read_run(run: Path) -> RunFiles:
    """Read a run directory.

    Raises:
        HemError: if the run is not finished or not a run of hem.
    """
    if not (run / "summary.json").is_file():
        raise HemError(f"{run} holds no summary.json: not a finished run of hem; run the training again")
    examples: list[HardExample] = []
    names: tuple[str, ...] = ()
    if (run / "hard_examples.parquet").is_file():
        examples, header = load_examples(run / "hard_examples.parquet")
        names = tuple(header["class_names"])
    measured = read_json(run / "measured.json", "measured")
    videos = {one["video_id"]: VideoInfo(**one) for one in measured["videos"]}
    evidence = measured["evidence"]
    return RunFiles(
        read_json(run / "summary.json", "summary"),
        read_json(run / "config.json", "config")["config"],
        measured,
        examples,
        names,
        videos,
        None if evidence is None else place_of(run, measured, evidence),
    )


def write_report(
    run: Path, say: Callable[[str], None], *, again: bool = False
) -> tuple[PageReport, dict[str, bytes]]:
    """Write ``report.html`` and ``plots/`` into a run directory; return it and a few strips by caption.

    Args:
        run: of hem.train.
        say: told each video that no pictures could be had of.
        again: keep a report that is there rather than replace it by one without those pictures.

    Raises:
        HemError: if the run is not finished or not a run of hem, or with ``again`` if pictures would be lost.
    """
    files = read_run(run)
    right: dict[str, bool] = files.measured["right"]
    chosen = with_strips(files.examples, right)
    unread: list[str] = []
    strips, pairs = _strips(files, chosen, unread), _pairs(files, unread)
    unread = list(dict.fromkeys(unread))
    if unread and again and (run / "report.html").exists():
        raise HemError(
            f"{run / 'report.html'} stays as it is, since a new one loses pictures: {'; '.join(unread)}. "
            "Bring the videos back, or move that report away to have one without"
        )
    for one in unread:
        say(f"report: {one}")
    problems = [f"{one['path']}: {one['reason']}" for one in files.summary["skipped"]] + unread
    known = with_neighbours(chosen, files.evidence)
    shown, notes = listed(files.examples, chosen)
    pictures = _plots(files)
    (run / "plots").mkdir(exist_ok=True)
    for caption, data in pictures.items():
        with whole_file(run / "plots" / f"{caption.lower().replace(' ', '_')}.svg") as temporary:
            temporary.write_bytes(data)
    report = write_page(
        run / "report.html",
        files.summary,
        examples=[known.get(example.example_id, example) for example in shown],
        mined=sum(example.kind is not Kind.IGNORE for example in files.examples),
        strips=strips,
        plots=pictures,
        before_after=pairs,
        class_names=files.class_names,
        truth=right,
        run=_about(files, run),
        config_text=json.dumps(files.config, indent=2),
        videos=_video_rows(files),
        problems=problems,
        notes=notes,
        title=f"hem: {files.summary['name']}",
    )
    captions = {example.example_id: _caption(example) for example in files.examples}
    return report, {captions[example_id]: data for example_id, data in strips.items()}


def _about(files: RunFiles, run: Path) -> dict[str, object]:
    about: dict[str, object] = {
        "command": _command(run),
        "experiment": files.summary["name"],
        "seed": files.summary["seed"],
        "control": files.summary["control"],
        "detector": str(files.config["detector"].get("_target_", "")),
        "data": str(files.config["data"].get("_target_", "")),
        "mining": str(files.config["mining"].get("_target_", "")),
        "extra steps of every arm": files.config["trainer"]["extra"]["steps"],
        "hem, Python, torch": f"{__version__}, {platform.python_version()}, {torch.__version__}",
    }
    about = {name: value for name, value in about.items() if value}
    return {**about, "note": files.summary["note"]} if files.summary["note"] else about


def _command(run: Path) -> str | None:
    """Return the command that Hydra noted, or None for a run that was not started from a terminal."""
    path = run / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    return " ".join(["python -m hem.train", *(shlex.quote(str(one)) for one in given)])


def _video_rows(files: RunFiles) -> list[dict[str, object]]:
    """Return a row for each video: what was mined there, and how much of it the truth calls right."""
    right = files.measured["right"]
    rows: list[dict[str, object]] = []
    for row in files.measured["video_rows"]:
        one: dict[str, object] = {name.replace("_", " "): value for name, value in row.items()}
        for kind in (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE):
            mine = [e for e in files.examples if e.kind is kind and e.video_id == row["video"]]
            known = [right[e.example_id] for e in mine if e.example_id in right]
            if right:
                share = f"{sum(known)} of {len(known)}" if known else None
                one[f"right {kind.value.replace('_', ' ')}s"] = share
        rows.append(one)
    return rows


def _caption(example: HardExample) -> str:
    return f"{example.kind.value} {example.video_id} frame {example.frame_index} ({example.rule})"


def _strips(files: RunFiles, chosen: Sequence[HardExample], unread: list[str]) -> dict[str, bytes]:
    by_frame: dict[tuple[str, int], list[HardExample]] = {}
    for example in files.examples:
        by_frame.setdefault((example.video_id, example.frame_index), []).append(example)
    found = _stored_detections(files)
    budget = strip_budget(max(len(chosen), 1))
    strips: dict[str, bytes] = {}
    for video_id in sorted({example.video_id for example in chosen}):
        mine = [example for example in chosen if example.video_id == video_id]
        last = found[video_id].n_frames - 1 if video_id in found else None
        frames = _frames(files.videos[video_id], [e.frame_index for e in mine], last, unread)
        for example in mine:
            indices = range(example.frame_index - AROUND, example.frame_index + AROUND + 1)
            marks = [_marks(video_id, index, by_frame, found, files) for index in indices]
            pictures = [frames.get(index) for index in indices]
            if pictures[AROUND] is not None:
                strips[example.example_id] = frame_strip(pictures, marks, example.box_xyxy, max_bytes=budget)
    return strips


def _stored_detections(files: RunFiles) -> dict[str, VideoDetections]:
    if files.evidence is None:
        return {}
    found = [load_detections(path) for path in sorted(files.evidence.glob("*/detections.parquet"))]
    return {one.video.video_id: one for one in found}


def _marks(
    video_id: str,
    index: int,
    by_frame: Mapping[tuple[str, int], Sequence[HardExample]],
    found: Mapping[str, VideoDetections],
    files: RunFiles,
) -> list[MarkedBox]:
    marks = marks_of_examples(by_frame.get((video_id, index), []))
    if marks or video_id not in found or not 0 <= index < found[video_id].n_frames:
        return marks
    point = files.summary["operating_point"] or {}
    return marks_of_detections(found[video_id].frame(index), point.get("threshold") or 0.3)


def _frames(
    video: VideoInfo, centres: Sequence[int], last: int | None, unread: list[str]
) -> Mapping[int, Tensor]:
    wanted = {index for centre in centres for index in range(centre - AROUND, centre + AROUND + 1)}
    inside = sorted(i for i in wanted if i >= 0 and (last is None or i <= last))
    try:
        return reread_frames(video, inside)
    except HemError as error:
        unread.append(f"no pictures of {video.video_id}: {error}")
        return {}


def _plots(files: RunFiles) -> dict[str, bytes]:
    pictures: dict[str, bytes] = {}
    curves = files.measured["curves"]
    if curves:
        arms = {arm: (c["recall"], c["precision"]) for arm, c in curves.items()}
        pictures["Precision over recall on video"] = plots.render(plots.pr_curves(arms))
        alarms = {arm: (c["recall"], c["false_alarms_per_minute"]) for arm, c in curves.items()}
        reference = (files.summary["operating_point"] or {}).get("recall")
        pictures["False alarms over recall"] = plots.render(plots.false_alarm_curves(alarms, reference))
    purity = files.measured["purity_yield"]
    if purity:
        lines = {rule: (c["count"], c["purity"]) for rule, c in purity.items()}
        base = files.summary["mining"].get("false_share_of_detections")
        ends = {
            rule: (float(c["count"][-1]), float(c["purity"][-1]), _threshold(rule, files.config["mining"]))
            for rule, c in purity.items()
            if c["count"]
        }
        pictures["Purity against yield"] = plots.render(plots.purity_yield(lines, ends, base))
    scores = {
        kind.value.replace("_", " "): np.array(
            [e.score for e in files.examples if e.kind is kind and e.score is not None]
        )
        for kind in Kind
        if kind is not Kind.IGNORE  # they would dwarf what teaches
    }
    if any(len(values) for values in scores.values()):
        pictures["Scores of mined examples"] = plots.render(plots.score_histograms(scores))
    return pictures


def _threshold(kind: str, mining: Mapping[str, Any]) -> str:
    """Return the setting that decides most about a kind, as words for the mark on its curve."""
    first = {"hard negative": "negative_response", "hard positive": "positive_response"}.get(kind, "")
    name = first if first in mining else "score_threshold"
    return f"{name} = {mining[name]:g}" if isinstance(mining.get(name), int | float) else "as mined"


def _pairs(files: RunFiles, unread: list[str]) -> list[tuple[str, bytes]]:
    """Return frames of held-out video where the retrained detector differs most from the baseline."""
    chosen = files.measured["pairs"]
    pairs: list[tuple[str, bytes]] = []
    for one in chosen[:MOST_PAIRS]:
        video = VideoInfo(**one["video"])
        frames = _frames(video, [one["frame_index"]], one["frame_index"], unread)
        frame = frames.get(one["frame_index"])
        if frame is None:
            continue
        marks = [[MarkedBox(tuple(box), "detection") for box in one[side]] for side in ("before", "after")]
        counts = [f"{len(boxes)} box{'es' * (len(boxes) != 1)}" for boxes in marks]
        caption = (
            f"{video.video_id} frame {one['frame_index']}: "
            f"baseline ({counts[0]}), then {one['arm']} ({counts[1]})"
        )
        pairs.append((caption, before_after(frame, marks[0], marks[1])))
    return pairs
