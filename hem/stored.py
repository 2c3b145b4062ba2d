"""Whether evidence that lies there already is what a call would collect, or all that it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hem.artifacts import load_detections, read_json
from hem.artifacts.evidence import load_evidence
from hem.errors import HemError
from hem.mining.presets import Paper, Preset
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.evidence_pass import folder_of
from hem.training.videos import Videos

EVIDENCE = "evidence"
"""Folder of ``output_dir`` with the evidence of each video."""
USED = "evidence_folders"
"""In ``mining.json``: the folders of evidence that the call answered from."""
_COLLECT = ("floor_score", "box_margin", "match_side", "variants", "elicit_share", "still_s")
_MOST = ("window", "max_gap")
_RANGES = ("score_threshold", "neighbour_threshold", "iou_threshold")
_PAPER_RANGES = ("paper_score_threshold", "paper_iou_threshold")
_PAPER_LEAST = ("paper_min_area", "paper_border_margin")


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


def refuse_other_pass(
    root: Path,
    data: Videos,
    made_by: Sequence[str],
    settings: CollectSettings,
    preset: Preset,
    class_names: tuple[str, ...],
) -> None:
    """Raise HemError if evidence under ``root`` is not what this call would collect, or less of it."""
    # all that `paper` asks for is checked by the query itself
    names = () if isinstance(preset, Paper) else (*_COLLECT, *_MOST, *_RANGES)
    for video, here in zip(data.videos, made_by, strict=True):
        folder = folder_of(root, video, data.videos)
        if not folder.exists():
            continue
        found = load_evidence(folder)
        way_out = f"choose another output_dir, or remove {folder}"
        if found.detector_digest not in ("", here):
            raise HemError(
                f"{root} holds evidence of {video.video_id} from another detector or from other "
                f"detections: {way_out}"
            )
        if found.pixels != data.pixels:
            raise HemError(
                f"videos are decoded on {data.pixels} here, but {root} holds evidence of {video.video_id} "
                f"decoded on {found.pixels}, whose pixels differ a little: set video.device, or {way_out}"
            )
        if class_names and tuple(found.detections.class_names) != class_names:
            raise HemError(
                f"class_names={list(class_names)}, but {root} holds evidence of {video.video_id} with "
                f"{list(found.detections.class_names)}: {way_out}"
            )
        for name in names:
            one, other = getattr(found.collected, name), getattr(settings, name)
            if not _covers(name, one, other):
                raise HemError(
                    f"collect.{name} is {other}, but {root} holds evidence of {video.video_id} that was "
                    f"collected with {one}: {way_out}"
                )


def folders_under(root: Path, wanted: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """Return the folders with evidence below a place, by video id, and what to say of those left out.

    Of a video that was changed and mined again under its name, the evidence of both lies there: what the
    last call used counts.

    Args:
        root: ``output_dir`` of a mining run, or the folder of evidence itself.
        wanted: see ``collected_with``.

    Raises:
        HemError: if a folder was collected otherwise, or nothing says which of two is meant.
    """
    inner = root / EVIDENCE
    places = sorted(path.parent for path in (inner if inner.is_dir() else root).glob("*/detections.parquet"))
    by_id: dict[str, list[Path]] = {}
    for folder in places:
        by_id.setdefault(load_detections(folder / "detections.parquet").video.video_id, []).append(folder)
    last = (root if inner.is_dir() else root.parent) / "mining.json"
    used = read_json(last, "mining").get(USED, []) if last.is_file() else []
    folders, left = [], []
    for video_id, own in sorted(by_id.items()):
        meant = own if len(own) == 1 else [folder for folder in own if folder.name in used]
        if len(meant) != 1:
            raise HemError(
                f"two videos have the id {video_id!r}: evidence of it lies in {' and '.join(map(str, own))}; "
                "remove what is of an older version, or mine the video again"
            )
        folders += meant
        left += [
            f"{video_id}: evidence in {folder} is of another version of the video, and left out"
            for folder in own
            if folder not in meant
        ]
    for folder in folders if wanted else ():
        collected_with(folder, wanted)
    return folders, left


def _covers(name: str, collected: Any, wanted: Any) -> bool:  # noqa: ANN401
    """Whether evidence with one value of a collect setting holds all that another value would give."""
    if name in _MOST:
        return bool(collected >= wanted)
    if name in _PAPER_LEAST:
        return bool(collected <= wanted)
    if name in (*_RANGES, *_PAPER_RANGES):
        return bool(collected[0] <= wanted[0] and collected[1] >= wanted[1])
    return bool(collected == wanted)


def collected_with(folder: Path, wanted: Mapping[str, Any]) -> Evidence:
    """Return the evidence in a folder.

    Raises:
        HemError: if it was collected otherwise than ``wanted`` says, settings of CollectSettings by name.
    """
    found = load_evidence(folder)
    for name, value in wanted.items():
        here = getattr(found.collected, name)
        if not _covers(name, here, value):
            raise HemError(
                f"collect.{name} is {value}, but {folder} was collected with {here}: leave it out, or "
                "collect again (videos=… into another output_dir)"
            )
    return found
