"""The LightningModule round any detector."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from hem.config import OptimConfig
from hem.detectors.protocol import Detector
from hem.errors import HemError
from hem.structures import LabelledImage
from hem.training.optim import lr_scale, make_optimizer
from hem.training.teacher import EmaTeacher


class DetectionModule(pl.LightningModule):
    """Trains a detector on labelled and mined images alike.

    Args:
        detector: the network, behind the detector protocol.
        optim: optimiser and schedule.
        steps: optimiser steps of this stage; the schedule ends there.
        seed: the sampling inside the detector (proposals, anchors) at step k depends on (seed, k)
            alone, so a resumed run draws what an unbroken one would have drawn.
        ema_decay: 0 for no EMA teacher.
        freeze_backbone_steps: optimiser steps before the backbone learns too.
        channels_last: memory format of the network.
        compile_backbone: run the backbone through torch.compile.
    """

    def __init__(
        self,
        detector: Detector,
        optim: OptimConfig,
        steps: int,
        seed: int = 0,
        ema_decay: float = 0.0,
        freeze_backbone_steps: int = 0,
        channels_last: bool = False,
        compile_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.optim = optim
        self.steps = steps
        self.seed = seed
        self.freeze_backbone_steps = freeze_backbone_steps
        self.teacher = EmaTeacher(detector, ema_decay) if ema_decay > 0 else None
        if channels_last:
            self.detector.to(memory_format=torch.channels_last)
        if compile_backbone:
            for part in self._backbones():
                part.compile()
        self._learns = {name for name, p in detector.named_parameters() if p.requires_grad}

    def _backbones(self) -> list[nn.Module]:
        return [m for name, m in self.detector.named_modules() if name.split(".")[-1] == "backbone"]

    def mining_detector(self, teacher: str) -> Detector:
        """Return the network that mines: ``current`` weights or the ``ema`` teacher's."""
        if teacher == "current":
            return self.detector
        if self.teacher is None:
            raise HemError("rounds.teacher=ema needs trainer.ema_decay > 0")
        averaged = self.teacher.network
        assert isinstance(averaged, Detector)
        return averaged.to(self.device)

    def on_train_batch_start(self, batch: Sequence[LabelledImage], batch_idx: int) -> None:
        """Fix the random draws of this step, and freeze or free the backbone."""
        # not the epoch: right after a resume at an epoch's end Lightning still counts the old one
        step_seed = (self.seed * 1_000_003 + self.global_step) * 1_000_003 + batch_idx
        torch.manual_seed(step_seed % 2**63)  # a date as a seed would leave the range
        if self.freeze_backbone_steps:
            frozen = self.global_step < self.freeze_backbone_steps
            for name, parameter in self.detector.named_parameters():
                if ".backbone." in f".{name}." and name in self._learns:
                    parameter.requires_grad_(not frozen)

    def training_step(self, batch: Sequence[LabelledImage], batch_idx: int) -> Tensor:
        """Return the summed loss of one batch; a loss that is not finite ends training by name."""
        images = [sample.image.to(self.device, non_blocking=True) for sample in batch]
        targets = [sample.target.to(self.device) for sample in batch]
        losses: dict[str, Tensor] = self.detector(images, targets)
        bad = [name for name, value in losses.items() if not bool(torch.isfinite(value))]
        if bad:
            names = ", ".join(sample.image_id for sample in batch)
            raise HemError(
                f"loss {', '.join(bad)} is not finite at step {self.global_step}; the batch was: {names}. "
                "Lower the learning rate, raise warm-up, or look at these images' labels"
            )
        total = torch.stack(list(losses.values())).sum()
        logged = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict({**logged, "train/loss": total.detach()}, batch_size=len(batch))
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Take the optimiser's step, then let the teacher follow: whatever comes next finds it up to date."""
        super().optimizer_step(*args, **kwargs)
        if self.teacher is not None:
            self.teacher.update(self.detector)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser and its schedule over exactly ``steps`` optimiser steps."""
        optimizer = make_optimizer(self.detector, self.optim)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_scale(self.optim, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Leave the batch where it is; training_step moves what it needs."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the teacher in the checkpoint."""
        if self.teacher is not None:
            checkpoint["teacher"] = self.teacher.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring the teacher back."""
        if self.teacher is not None:
            self.teacher.load_state_dict(checkpoint["teacher"])
