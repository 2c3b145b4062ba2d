"""Baseline, evidence, arms and their figures: each a stage that is done once and found again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger

from hem import __version__
from hem.artifacts import load_detections
from hem.artifacts.detections import detections_in
from hem.config import ArmConfig, StageConfig, TrainConfig, VideoConfig
from hem.data.bundle import DataBundle
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.mining.score_scale import ScoreScale
from hem.structures import HardExample, VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence
from hem.training.arm import ArmMining
from hem.training.calibration import CALIBRATION, calibrate, load_scale, save_scale
from hem.training.checkpoint import detector_from, load_checkpoint, save_checkpoint
from hem.training.datamodule import Augmentation, LabelledReplayData
from hem.training.evidence_pass import name_of, run_pass
from hem.training.fit import batches_per_epoch, train_stage
from hem.training.keys import with_contents
from hem.training.measure import (
    STILLS,
    accelerator_of,
    detect_stills,
    detect_to,
    save_stills,
)
from hem.training.mining_callback import MiningCallback
from hem.training.module import DetectionModule
from hem.training.stages import StageStore
from hem.training.video_data import VideoData
from hem.video.manifest import about_frames
from hem.video.source import decoded_on

CHECKPOINT = "checkpoint.pt"
EXAMPLES = "hard_examples.parquet"


class Progress(Protocol):
    """Shows how a long step goes, with rate and time left."""

    def __call__(self, step: str, done: int, total: int | None, note: str = "") -> None:
        """Show that ``done`` of ``total`` (None: unknown) units of a step are done."""
        ...


@dataclass
class Parts:
    """What the entry point built from the configuration.

    Attributes:
        config: the checked configuration.
        data: labelled images, and where the embedded world has its videos and truth.
        make_detector: builds the untrained (or pretrained) network for the data's classes.
        augment: applied to every training image.
        collect: how evidence is collected.
        presets: each arm's mining preset by arm name (built), and its settings for keys.
        videos, heldout: unlabelled and held-out videos.
        progress: shows long steps.
        loggers: makes the Lightning loggers of one stage.
    """

    config: TrainConfig
    data: DataBundle
    make_detector: Callable[[], Detector]
    augment: Augmentation | None
    collect: CollectSettings
    presets: Mapping[str, Any]
    preset_settings: Mapping[str, Mapping[str, Any]]
    videos: Sequence[VideoInfo]
    heldout: Sequence[VideoInfo]
    progress: Progress
    loggers: Callable[[str], list[Logger]] = field(default=lambda stage: [])


def is_calibrated(preset_settings: Mapping[str, Any]) -> bool:
    """Return whether a preset reads its score settings on the calibrated scale."""
    return preset_settings.get("score_scale") == "calibrated"


class Experiment:
    """Runs the stages of one experiment in a store of finished ones."""

    def __init__(self, parts: Parts, store: StageStore) -> None:
        self.parts = parts
        self.config = parts.config
        self.store = store
        self.device = accelerator_of(self.config.trainer.accelerator)
        self.unlabelled = VideoData(parts.videos, self.config.video)
        self._calibration: Path | None = None
        self._evidence: dict[Path, Sequence[Evidence]] = {}

    # -- what determines each stage --------------------------------------------------------------

    def _common(self) -> dict[str, Any]:
        trainer = self.config.trainer.model_dump(
            exclude={"baseline", "extra", "workers", "checkpoint_every_steps"}
        )
        return {
            "hem": __version__,
            "torch": torch.__version__,
            "seed": self.config.seed,
            "detector": with_contents(self.config.detector),
            "augment": dict(self.config.augment),
            "data": self.parts.data.digest,
            "trainer": trainer,
        }

    def _baseline_key(self) -> dict[str, Any]:
        return {**self._common(), "stage": self.config.trainer.baseline.model_dump()}

    # -- stages ----------------------------------------------------------------------------------

    def baseline(self) -> Path:
        """Return the baseline's checkpoint, training it if there is none yet."""
        if self.config.checkpoint is not None:
            return Path(self.config.checkpoint)
        key = self._baseline_key()

        def work(directory: Path) -> None:
            module = self._module(self._new_detector(), self.config.trainer.baseline, self.config.seed)
            data = self._data(self.config.trainer.baseline, self.config.seed)
            self._train("baseline", module, data, self.config.trainer.baseline, directory, [])
            self._save(directory, module, {"stage": "baseline", "seed": self.config.seed})

        return self.store.run("baseline", key, work) / CHECKPOINT

    def evidence_folder(self, baseline: Path) -> Path:
        """Return where the baseline's evidence on the unlabelled videos lies, collecting it if needed."""
        checkpoint = load_checkpoint(baseline)
        key = {
            "hem": __version__,
            "checkpoint": checkpoint.digest,
            "videos": _names(self.parts.videos),
            "decoder": self.config.video.decoder,
            "collect": self.parts.collect.plain(),
            **_pixels(self.config.video),
        }

        def work(directory: Path) -> None:
            detector = self.load(baseline)
            total = about_frames(self.parts.videos)
            report = lambda done: self.parts.progress("evidence", done, total)  # noqa: E731
            run_pass(detector, self.unlabelled, self.parts.collect, directory, report)

        return self.store.run("evidence", key, work)

    def calibration(self, baseline: Path) -> Path | None:
        """Return the file that says what the baseline's scores are worth, or None if no preset asks."""
        images = self.parts.data.calibration
        if images is None:
            return None
        key = {
            "hem": __version__,
            "checkpoint": load_checkpoint(baseline).digest,
            "images": images.digest(),
            "floor_score": self.parts.collect.floor_score,
            "min_count": self.config.calibration.min_count,
        }

        def work(directory: Path) -> None:
            detector = self.load(baseline)
            save_scale(directory / CALIBRATION, self.calibrate(detector), detector.digest())

        self._calibration = self.store.run("calibration", key, work) / CALIBRATION
        return self._calibration

    def calibrate(self, detector: Detector) -> ScoreScale:
        """Return the calibrated scale of a detector, on the images that were held back."""
        images = self.parts.data.calibration
        assert images is not None
        return calibrate(
            detector,
            images,
            floor_score=self.parts.collect.floor_score,
            min_count=self.config.calibration.min_count,
            batch_size=self.config.evaluation.batch_size,
            report=lambda done, total: self.parts.progress("calibration", done, total),
        )

    def _scale(self, name: str) -> ScoreScale | None:
        """Return the baseline's calibrated scale if the arm's preset reads its settings on it."""
        if not is_calibrated(self.parts.preset_settings[name]):
            return None
        assert self._calibration is not None
        return load_scale(self._calibration)

    def evidence(self, folder: Path) -> Sequence[Evidence]:
        """Return the evidence of every unlabelled video, read one video after the other when asked for."""
        if folder not in self._evidence:
            self._evidence[folder] = run_pass(_Never(), self.unlabelled, self.parts.collect, folder)  # type: ignore[arg-type]
        return self._evidence[folder]

    def mine(self, name: str, evidence: Sequence[Evidence]) -> Sequence[HardExample]:
        """Return what an arm's preset finds in evidence."""
        examples: Sequence[HardExample] = self.parts.presets[name].mine(
            evidence, seed=self.config.seed + 1, calibrated=self._scale(name)
        )
        return examples

    def arm(self, name: str, baseline: Path, evidence: Path | None) -> Path:
        """Return an arm's folder (checkpoint, replay rounds, log), training it if needed."""
        arm = self.config.arms[name]
        stage = self.config.trainer.extra
        key: dict[str, Any] = {
            **self._common(),
            "stage": stage.model_dump(),
            "checkpoint": load_checkpoint(baseline).digest,
        }
        if arm.mining is not None:
            assert evidence is not None
            key |= {
                "evidence": evidence.name,
                "arm": arm.model_dump(),
                "preset": dict(self.parts.preset_settings[name]),
                "replay": self.config.replay.model_dump(),
                "rounds": self.config.rounds.model_dump(),
            }
            if is_calibrated(self.parts.preset_settings[name]):
                assert self._calibration is not None
                key["calibration"] = self._calibration.parent.name

        def work(directory: Path) -> None:
            module = self._module(self.load(baseline), stage, self.config.seed + 1)
            data = self._data(stage, self.config.seed + 1)
            callbacks = self._mining(name, arm, data, evidence, directory)
            self._train(name, module, data, stage, directory, callbacks)
            self._save(directory, module, {"stage": name, "seed": self.config.seed})

        # the control knows nothing of mining, so every sweep over thresholds shares it
        return self.store.run("control" if arm.mining is None else f"arm-{name}", key, work)

    def predictions(self, name: str, checkpoint: Path) -> Path:
        """Return the folder of what a checkpoint finds on held-out stills and videos."""
        settings = self.config.evaluation
        key = {
            "hem": __version__,
            "checkpoint": load_checkpoint(checkpoint).digest,
            "test": self.parts.data.heldout_digest,
            "heldout": _names(self.parts.heldout),
            "floor_score": settings.floor_score,
            "decoder": self.config.video.decoder,
            **_pixels(self.config.video),
        }

        def work(directory: Path) -> None:
            detector = self.load(checkpoint)
            if not (directory / STILLS).is_file():
                stills = detect_stills(
                    detector,
                    self.parts.data.test,
                    settings.floor_score,
                    settings.batch_size,
                    partial(self.parts.progress, f"stills {name}"),
                )
                save_stills(directory / STILLS, stills, detector.class_names)
            heldout, before = VideoData(self.parts.heldout, self.config.video), 0
            total, digest = about_frames(self.parts.heldout), detector.digest()

            def show(done: int, _: int | None = None) -> None:
                self.parts.progress(f"video {name}", before + done, total)

            for video in self.parts.heldout:
                path = prediction_file(directory, video, self.parts.heldout)
                detect_to(path, detector, digest, heldout, video, settings.floor_score, show)
                before += load_detections(path).n_frames
                show(0)

        return self.store.run(f"predictions-{name}", key, work)

    def heldout_detections(self, folder: Path) -> list[VideoDetections]:
        """Read an arm's detections on the held-out videos, under the ids and paths these have now."""
        heldout = self.parts.heldout
        return [detections_in(prediction_file(folder, video, heldout), video) for video in heldout]

    # -- pieces ----------------------------------------------------------------------------------

    def load(self, checkpoint: Path) -> Detector:
        """Return a checkpoint's detector on the run's device."""
        found = load_checkpoint(checkpoint)
        return detector_from(found, checkpoint, self.parts.data.class_names).to(self.device)

    def _new_detector(self) -> Detector:
        torch.manual_seed(self.config.seed)
        return self.parts.make_detector()

    def _module(self, detector: Detector, stage: StageConfig, seed: int) -> DetectionModule:
        trainer = self.config.trainer
        return DetectionModule(
            detector.train(),
            stage.optim,
            stage.steps,
            seed,
            trainer.ema_decay,
            trainer.freeze_backbone_steps,
            trainer.channels_last,
            trainer.compile,
        )

    def _data(self, stage: StageConfig, seed: int) -> LabelledReplayData:
        trainer = self.config.trainer
        return LabelledReplayData(
            self.parts.data.train,
            self.parts.augment,
            stage.batch_size,
            batches_per_epoch(stage, trainer),
            self.config.replay.share,
            seed,
            trainer.workers,
        )

    def _mining(
        self, name: str, arm: ArmConfig, data: LabelledReplayData, evidence: Path | None, directory: Path
    ) -> list[pl.Callback]:
        if arm.mining is None:
            return []
        assert evidence is not None
        mining = ArmMining(
            arm=arm,
            preset=self.parts.presets[name],
            replay=self.config.replay,
            collect=self.parts.collect,
            videos=self.unlabelled,
            shared_evidence=self.evidence(evidence),
            class_names=self.parts.data.class_names,
            seed=self.config.seed,
            progress=self.parts.progress,
            calibrated=self._scale(name),
            calibrate=self.calibrate,
        )
        return [MiningCallback(data, mining.mine, mining.open, directory / "replay", self.config.rounds)]

    def _train(
        self,
        name: str,
        module: DetectionModule,
        data: LabelledReplayData,
        stage: StageConfig,
        directory: Path,
        callbacks: list[pl.Callback],
    ) -> None:
        earlier = len(list((directory / "log").rglob("metrics.csv")))  # of this stage, before it was stopped
        version = f"resumed_{earlier}" if earlier else ""
        log = CSVLogger(directory, name="log", version=version, flush_logs_every_n_steps=10)
        train_stage(
            module,
            data,
            stage,
            self.config.trainer,
            directory,
            callbacks=callbacks,
            loggers=[log, *self.parts.loggers(name)],
            report=lambda done, total, loss: self.parts.progress(
                f"train {name}", done, total, f"loss {loss:.3f}"
            ),
        )

    def _save(self, directory: Path, module: DetectionModule, made_by: Mapping[str, Any]) -> None:
        save_checkpoint(directory / CHECKPOINT, module.detector, self.config.detector, made_by)


def prediction_file(folder: Path, video: VideoInfo, among: Sequence[VideoInfo]) -> Path:
    """Return where an arm's detections on one of the held-out videos lie."""
    return folder / f"video-{name_of(video, among)}.parquet"


def _names(videos: Sequence[VideoInfo]) -> list[str]:
    return [name_of(video, videos, 64) for video in videos]


class _Never:
    """Stands where a detector would; the evidence is finished, so asking it anything is a fault."""

    def __getattr__(self, name: str) -> object:
        raise HemError(f"finished evidence is incomplete: it asked the detector for {name}")


def _pixels(video: VideoConfig) -> dict[str, str]:
    """Return what tells stages apart whose videos are decoded on a GPU; nothing of those on the CPU."""
    where = decoded_on(video.decoder, video.device)
    return {} if where == "cpu" else {"pixels": where}
