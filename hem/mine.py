"""``python -m hem.mine``: hard examples from video and a checkpoint, detections, or stored evidence."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from hem import settings
from hem.allocator import keep_freed_memory
from hem.api import MiningResult, mine_evidence, mine_videos
from hem.artifacts import sha256_file
from hem.artifacts.examples import names_up_to
from hem.artifacts.places import require_writable
from hem.compose import entry
from hem.config import MineConfig, check
from hem.errors import HemError
from hem.honouring import paths
from hem.instantiate import instantiate
from hem.mining.presets import Preset
from hem.replay.round import write_round
from hem.replay.select import Caps
from hem.replay.stored import EXAMPLES
from hem.reporting.mined import mined_table
from hem.reporting.steps import Steps
from hem.structures.evidence import CollectSettings
from hem.training.videos import Videos
from hem.video.manifest import Manifest, about_frames, frames_as_video, scan_videos


@entry("mine")
def main(values: dict[str, Any]) -> None:
    """Mine, write ``output_dir`` and print a row for each video."""
    config = check(MineConfig, values)
    preset = instantiate(config.mining, "mining", Preset)
    output = Path(config.output_dir)
    require_writable(output, "output_dir")
    if (output / "stages.json").exists():
        raise HemError(
            f"{output} holds a run of hem.train, whose examples would be lost: give another output_dir"
        )
    with Steps() as steps:
        if config.evidence is not None:
            _refuse_sources(config)
            result = mine_evidence(
                config.evidence,
                preset,
                output_dir=output,
                seed=config.seed,
                verdicts=paths(config.verdicts),
                calibration=config.calibration,
                collected=_asked_of_collecting(config),
            )
        else:
            result = _from_video(config, preset, output, steps)
        if config.keep_frames:
            _keep_frames(config, result, output)
        elif (old := _frames_folder(output)).exists():
            steps.say(f"note: {old} holds frames of an earlier call; keep_frames=true makes them anew")
        steps.show(mined_table(result.rows, result.seconds))
        for remark in result.remarks:
            steps.say(f"note: {remark}")
        steps.say(f"written to {output}")


def _refuse_sources(config: MineConfig) -> None:
    for name in ("videos", "frames", "checkpoint", "detections"):
        if getattr(config, name) is not None:
            raise HemError(f"evidence= is answered without touching a video: leave out {name}=, or evidence=")


def _asked_of_collecting(config: MineConfig) -> dict[str, Any]:
    """Return the collect settings that were asked for: given on the command line, or not as shipped."""
    wanted, shipped = instantiate(config.collect, "collect", CollectSettings), settings.collect()
    given = {word.lstrip("+").split("=")[0] for word in HydraConfig.get().overrides.task}
    return {
        one.name: getattr(wanted, one.name)
        for one in fields(CollectSettings)
        if f"collect.{one.name}" in given or getattr(wanted, one.name) != getattr(shipped, one.name)
    }


def _videos(config: MineConfig, output: Path, steps: Steps) -> Manifest:
    if (config.videos is None) == (config.frames is None):
        raise HemError("give videos=PATH or frames=FOLDER (or evidence=DIR)")
    if config.frames is not None:
        return Manifest((frames_as_video(config.frames, config.frames_fps),))
    assert config.videos is not None
    found = scan_videos(config.videos, output / "videos", steps.reading("videos"))
    for one in found.left_out:
        steps.say(f"skipped {one.path}: {one.reason}")
    return found


def _from_video(config: MineConfig, preset: Preset, output: Path, steps: Steps) -> MiningResult:
    collect = instantiate(config.collect, "collect", CollectSettings)
    if config.checkpoint is not None:
        keep_freed_memory()
    found = _videos(config, output, steps)
    total = about_frames(found.videos)
    return mine_videos(
        found,
        preset,
        detector=config.checkpoint,
        detections=config.detections,
        detections_format=config.detections_format,
        class_names=config.class_names,
        collect=collect,
        video=config.video,
        output_dir=output,
        seed=config.seed,
        say=lambda done: steps.progress("mining", done, total),
        verdicts=paths(config.verdicts),
        calibration=config.calibration,
    )


def _frames_folder(output: Path) -> Path:
    return output / "replay" / "round_001"


def _keep_frames(config: MineConfig, result: MiningResult, output: Path) -> None:
    videos = [one.detections.video for one in result.evidence]
    names = next((tuple(one.detections.class_names) for one in result.evidence), ())
    names = names_up_to(names, max((example.label for example in result.examples), default=1))
    folder = _frames_folder(output)
    caps = Caps(config.replay.max_frames, config.replay.max_per_video, config.replay.max_per_track)
    with _replaced(folder):
        write_round(
            folder,
            1,
            result.examples,
            videos,
            Videos(videos, config.video).reread,
            names,
            caps=caps,
            image_format=config.replay.image_format,
            made_by={EXAMPLES: sha256_file(output / EXAMPLES)},  # hem.export knows it by this
        )


@contextmanager
def _replaced(folder: Path) -> Iterator[None]:
    """Put a folder of an earlier call aside while a new one is made, and back if that fails."""
    aside = folder.with_name(f".{folder.name}.before")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    try:
        yield
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    main()
