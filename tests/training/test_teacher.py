"""The averaged teacher, against the sum worked by hand and against the weights of each step."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from hem.config import OptimConfig, StageConfig, TrainerConfig
from hem.training.datamodule import LabelledReplayData
from hem.training.fit import train_stage
from hem.training.module import DetectionModule
from hem.training.teacher import EmaTeacher


def filled(value: float) -> nn.Module:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for tensor in network.state_dict().values():
        tensor.fill_(value)
    return network


def test_the_average_warms_up_and_statistics_are_carried_over() -> None:
    """From 0 towards 1: the first steps keep 2/11, 3/12, 4/13 of the old, then the decay, here 0.3."""
    teacher = EmaTeacher(filled(0.0), 0.3)
    kept = 1.0
    for share in (2 / 11, 3 / 12, 0.3, 0.3):  # 4/13 is above 0.3
        teacher.update(filled(1.0))
        kept *= share
        state = teacher.network.state_dict()
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            assert state[name].item() == pytest.approx(1 - kept, rel=1e-6), name
        assert state["1.running_mean"].item() == state["1.running_var"].item() == 1.0
        assert state["1.num_batches_tracked"].item() == 1
    teacher.update(filled(7.0))
    state = teacher.network.state_dict()
    assert state["1.running_mean"].item() == state["1.running_var"].item() == 7.0
    assert state["1.num_batches_tracked"].item() == 7
    assert not any(module.training for module in teacher.network.modules())


def test_the_teacher_moves_to_where_the_network_is() -> None:
    network = filled(0.0)
    teacher = EmaTeacher(network, 0.9)
    teacher.update(network.to("meta"))
    assert {one.device.type for one in teacher.network.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_teacher_is_as_far_as_the_steps_taken(tmp_path: Path, tiny, images, accumulate: int) -> None:
    """Checkpoints and mining come right after a step: they must find its weights in the average."""
    optim = OptimConfig(lr=0.01, warmup_steps=0)
    stage = StageConfig(steps=5, steps_per_epoch=2, batch_size=3, optim=optim)
    expected = tiny.net.bias.detach().clone()
    compared = []

    class Compare(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            step = trainer.global_step
            if (batch_idx + 1) % accumulate == 0:
                expected.lerp_(tiny.net.bias.detach(), 1 - min(0.9, (1 + step) / (10 + step)))
                compared.append(step)
            assert pl_module.teacher.updates == step
            torch.testing.assert_close(pl_module.teacher.network.net.bias.detach(), expected)

        def on_train_epoch_end(self, trainer, pl_module) -> None:
            assert pl_module.teacher.updates == trainer.global_step

    module = DetectionModule(tiny, optim, stage.steps, seed=5, ema_decay=0.9)
    data = LabelledReplayData(images, None, 3, 2 * accumulate, 0.5, seed=5)
    settings = TrainerConfig(baseline=stage, extra=stage, accelerator="cpu", accumulate=accumulate)
    train_stage(module, data, stage, settings, tmp_path, callbacks=[Compare()])
    assert compared == [1, 2, 3, 4, 5]
