"""From a checked configuration to the parts of an experiment; everything wrong is found before training."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from hem.compose import group_file
from hem.config import TrainConfig
from hem.data.base import DetectionDataset
from hem.data.bundle import DataBundle, readable
from hem.data.held_back import hold_back
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.evaluation.video_files import require_truth
from hem.instantiate import check_arguments, instantiate, locate
from hem.leak_check import note_of_leaks
from hem.mining.presets import Preset
from hem.mining.trial import try_out
from hem.reporting.progress import patient
from hem.reporting.steps import reading
from hem.structures import VideoInfo
from hem.structures.evidence import CollectSettings
from hem.training.experiment import Parts, Progress, is_calibrated
from hem.video.manifest import Manifest, scan_videos

DEFAULT_PRESET = "default"


def build_data(config: TrainConfig, progress: Progress) -> DataBundle:
    """Return the labelled data; the embedded world is made (or found) here.

    A data maker that takes ``seed``, ``store_dir`` or ``progress`` is given the run's own.
    """
    node = dict(config.data)
    target = locate(str(node.get("_target_", "")), "data")
    names = _argument_names(target)

    def show(done: int, total: int, rate: float) -> None:
        progress("world", done, total)

    own: dict[str, Any] = {"seed": config.seed, "store_dir": config.store_dir, "progress": show}
    extra = {name: value for name, value in own.items() if name in names and name not in node}
    bundle: DataBundle = instantiate(node, "data", DataBundle, **extra)
    return bundle


def _argument_names(target: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(target).parameters)


def build_detector(node: Mapping[str, Any], class_names: Sequence[str]) -> Callable[[], Detector]:
    """Return a maker of the configured detector; its arguments are checked now.

    Raises:
        HemError: for an unknown detector or argument.
    """
    target = locate(str(node.get("_target_", "")), "detector", Detector)
    arguments = {name: value for name, value in node.items() if name != "_target_"}
    check_arguments(target, {**arguments, "class_names": tuple(class_names)}, "detector")

    def make() -> Detector:
        detector: Detector = instantiate(node, "detector", Detector, class_names=tuple(class_names))
        return detector

    return make


def build_presets(config: TrainConfig) -> tuple[dict[str, Preset], dict[str, dict[str, Any]]]:
    """Return each mining arm's preset, and the settings that made it.

    An arm with ``mining: default`` takes the chosen ``mining`` group with its overrides; another name
    is a file of ``conf/mining``.
    """
    presets: dict[str, Preset] = {}
    settings: dict[str, dict[str, Any]] = {}
    for name, arm in config.arms.items():
        if arm.mining is None:
            continue
        chosen = arm.mining == DEFAULT_PRESET
        node = dict(config.mining) if chosen else group_file("mining", arm.mining) | arm.settings
        presets[name] = instantiate(node, "mining" if chosen else f"mining/{arm.mining}", Preset)
        settings[name] = node
    return presets, settings


def try_presets(presets: Mapping[str, Preset], collect: CollectSettings) -> None:
    """Ask every arm's preset about an empty video, as it will ask of what each round collects.

    Raises:
        HemError: naming the arm, if a preset could never be answered.
    """
    for name, preset in presets.items():
        try:
            try_out(preset, collect)
        except HemError as error:
            raise HemError(f"arms.{name} could not be mined from what collect.* collects: {error}") from None


def find_videos(
    root: str | Sequence[str] | None,
    key: str,
    needed: bool,
    store_dir: str | Path,
    progress: Progress,
) -> Manifest:
    """Return the readable videos under ``root``, and those that were skipped by name.

    Videos behind URLs are copied below ``store_dir`` first. How far files are read is shown by ``progress``.

    Raises:
        HemError: if none is named though ``needed``, or none is readable.
    """
    if root is None:
        if needed:
            raise HemError(f"configuration: give {key}=PATH, a video file or a folder of videos")
        return Manifest((), ())
    return scan_videos(root, Path(store_dir) / "videos", reading(progress, key.replace("_", " ")))


def build_parts(
    config: TrainConfig, progress: Progress, loggers: Callable[[str], list[Logger]]
) -> tuple[Parts, list[dict[str, str]]]:
    """Return the parts of an experiment, and what was skipped (``path``, ``reason``).

    Raises:
        HemError: for anything in the configuration, the data or the videos that cannot work.
    """
    kind = locate(str(config.detector.get("_target_", "")), "detector", Detector)
    collect: CollectSettings = instantiate(config.collect, "collect", CollectSettings)
    # what makes a detector may be a function, which tells no range
    collect = collect.reaching(getattr(kind, "score_range", Detector.score_range)[1])
    presets, settings = build_presets(config)
    try_presets(presets, collect)
    augment = instantiate(config.augment, "augment") if config.augment.get("_target_") else None
    mines = bool(presets)
    if mines and config.videos is not None:  # before data is made
        find_videos(config.videos, "videos", True, config.store_dir, progress)
    data = build_data(config, progress)
    if isinstance(data.train, DetectionDataset):  # read here once for all stages, as it may take minutes
        data.train.digest(patient(lambda done, total: progress("labelled images", done, total)))
    make_detector = build_detector(config.detector, data.class_names)
    unlabelled = find_videos(config.videos or data.videos, "videos", mines, config.store_dir, progress)
    heldout = find_videos(
        config.heldout_videos or data.heldout_videos, "heldout_videos", False, config.store_dir, progress
    )
    skipped = [{"path": one.path, "reason": one.reason} for one in (*unlabelled.left_out, *heldout.left_out)]
    _refuse_leak(unlabelled.videos, heldout.videos)
    for key, named, videos in (
        ("heldout_truth", config.heldout_truth, heldout.videos),
        ("videos_truth", config.videos_truth, unlabelled.videos),
    ):
        if named is not None:  # what figures need is missed before anything is trained
            require_truth(Path(named), [video.video_id for video in videos], key)
    data = replace(data, test=readable(data.test))
    data = replace(data, note=note_of_leaks(config, data, unlabelled.videos, heldout.videos))
    if any(is_calibrated(one) for one in settings.values()):
        # the test images set the figures, so the scores are judged on training images held back
        kept, held = hold_back(data.train, config.calibration.share)
        data = replace(data, train=kept, calibration=readable(held))
    parts = Parts(
        config=config,
        data=data,
        make_detector=make_detector,
        augment=augment,
        collect=collect,
        presets=presets,
        preset_settings=settings,
        videos=unlabelled.videos,
        heldout=heldout.videos,
        progress=progress,
        loggers=loggers,
    )
    return parts, skipped


def _refuse_leak(unlabelled: Sequence[VideoInfo], heldout: Sequence[VideoInfo]) -> None:
    mined = {video.digest: video.video_id for video in unlabelled}
    for video in heldout:
        if video.digest in mined:
            raise HemError(
                f"held-out video {video.video_id} is also mined, as {mined[video.digest]}: figures on it "
                "would flatter every arm that mines; take it out of videos= or heldout_videos="
            )


def truth_folder(configured: str | None, own: str | None) -> Path | None:
    """Return where truth lies: what the configuration names, else what came with the data."""
    chosen = configured or own
    return None if chosen is None else Path(chosen)
