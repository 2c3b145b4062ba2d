"""Training one stage with Lightning: resumable at any step, the same whether or not it was stopped."""

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger

from hem.config import StageConfig, TrainerConfig
from hem.errors import HemError
from hem.training.datamodule import LabelledReplayData
from hem.training.module import DetectionModule

RESUME_FILE = "resume.ckpt"
StepReport = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""


class ResumePoints(Checkpoint):
    """Writes the one checkpoint a killed stage resumes from.

    At the start of each epoch, so that what was mined before it is kept, and every ``every_steps``
    steps within it. Epochs of one step write at their start only what was mined or is due by
    ``every_steps``. Never at an epoch's end: Lightning (2.6) resumes from there inside the finished
    epoch when there is no validation loop.

    Args:
        directory: where RESUME_FILE is written.
        every_steps: optimiser steps, >= 1.
    """

    def __init__(self, directory: Path, every_steps: int) -> None:
        self.path = directory / RESUME_FILE
        self.every_steps = every_steps
        self.round = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, unless nothing happened yet or training resumes from this very place."""
        mined = self._mined(trainer)
        if trainer.fit_loop.restarting:
            return
        several = trainer.num_training_batches > trainer.accumulate_grad_batches
        due = trainer.global_step > 0 and (several or trainer.global_step % self.every_steps == 0)
        if due or mined:
            # Lightning does this a moment later; without it the finished epoch's batches would count
            # as those of this one.
            trainer.fit_loop.epoch_loop.reset()
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save where nothing is accumulated and the epoch goes on."""
        accumulated = (batch_idx + 1) % trainer.accumulate_grad_batches
        last = batch_idx + 1 >= trainer.num_training_batches
        if trainer.global_step % self.every_steps == 0 and not accumulated and not last:
            trainer.save_checkpoint(self.path)

    def _mined(self, trainer: pl.Trainer) -> bool:
        """Return whether a round was mined since this was asked last."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        before, self.round = self.round, int(data.round)
        return self.round != before


class StepProgress(pl.Callback):
    """Tells a listener of every step."""

    def __init__(self, report: StepReport) -> None:
        self.report = report

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Report the step just done."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.report(trainer.global_step, int(trainer.max_steps), float(loss))


def train_stage(
    module: DetectionModule,
    data: LabelledReplayData,
    stage: StageConfig,
    settings: TrainerConfig,
    directory: Path,
    *,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
    report: StepReport | None = None,
) -> float:
    """Train for exactly ``stage.steps`` optimiser steps, resuming from ``directory`` if it can.

    Args:
        module, data: what learns, and what from.
        stage, settings: how long and how.
        directory: where the resume point lives; it is removed once training is complete.
        callbacks: mining and logging callbacks.
        loggers: Lightning loggers.
        report: told of every step.

    Returns:
        Seconds spent in this call.

    Raises:
        HemError: if the loss is not finite, or the resume point is damaged.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # tips and restore notes say nothing new
    started = time.monotonic()
    extra = [StepProgress(report)] if report else []
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        max_steps=stage.steps,
        max_epochs=math.ceil(stage.steps / stage.steps_per_epoch),
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_norm,
        reload_dataloaders_every_n_epochs=1,  # each epoch's loader is built after mining
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        log_every_n_steps=min(10, stage.steps_per_epoch),
        logger=list(loggers) or False,
        callbacks=[*callbacks, *extra, ResumePoints(directory, settings.checkpoint_every_steps)],
        default_root_dir=directory,
    )
    resume = directory / RESUME_FILE
    _fit(trainer, module, data, resume if resume.is_file() else None)
    if trainer.global_step != stage.steps:
        raise HemError(f"training ended after {trainer.global_step} of {stage.steps} steps")
    resume.unlink(missing_ok=True)
    return time.monotonic() - started


def _fit(trainer: pl.Trainer, module: DetectionModule, data: LabelledReplayData, resume: Path | None) -> None:
    if resume is not None:
        try:
            torch.load(resume, map_location="cpu", weights_only=True)
        except Exception:  # of the unpickler, the archive or the file system, with advice to run its code
            raise HemError(f"{resume} is damaged; remove it, and this stage begins anew") from None
    with warnings.catch_warnings():
        # The loader is exact about where it stopped, and its workers are chosen by config.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isn't a stateful.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*overridden `transfer_batch_to_device`.*")
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        except SystemExit as ended:  # Lightning's answer to an interrupt, which it then ignores for good
            if type(ended) is not SystemExit or handler is None:
                raise
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None


def batches_per_epoch(stage: StageConfig, settings: TrainerConfig) -> int:
    """Return the loader's batches between two chances to mine."""
    return stage.steps_per_epoch * settings.accumulate
