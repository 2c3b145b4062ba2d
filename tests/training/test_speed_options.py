"""Mixed precision, clipping, memory format and compilation do what their keys say."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hem.config import OptimConfig, StageConfig, TrainerConfig
from hem.training.datamodule import LabelledReplayData
from hem.training.fit import train_stage
from hem.training.module import DetectionModule

PLAIN = OptimConfig(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", warmup_steps=0)
STAGE = StageConfig(steps=1, steps_per_epoch=1, batch_size=2, optim=PLAIN)


def train(tmp_path: Path, detector, images, steps: int = 1, **settings) -> None:
    stage = STAGE.model_copy(update={"steps": steps})
    trainer = TrainerConfig(baseline=stage, extra=stage, accelerator="cpu", **settings)
    module = DetectionModule(detector, PLAIN, steps, seed=1)
    train_stage(module, LabelledReplayData(images, None, 2, 1, seed=1), stage, trainer, tmp_path)


def moved_by(tmp_path: Path, make_tiny, images, **settings) -> float:
    torch.manual_seed(0)
    tiny = make_tiny()
    before = nn.utils.parameters_to_vector(tiny.parameters()).detach().clone()
    train(tmp_path, tiny, images, **settings)
    return float((nn.utils.parameters_to_vector(tiny.parameters()) - before).norm())


def test_clip_norm_bounds_a_step(tmp_path: Path, make_tiny, images) -> None:
    free = moved_by(tmp_path / "a", make_tiny, images, clip_norm=1e9)
    assert free > 0.1 * 0.05
    assert moved_by(tmp_path / "b", make_tiny, images, clip_norm=0.05) == pytest.approx(0.1 * 0.05, rel=1e-3)
    assert moved_by(tmp_path / "c", make_tiny, images, clip_norm=1e8) == pytest.approx(free)


def test_mixed_precision_computes_in_it_and_keeps_weights_in_float32(tmp_path: Path, tiny, images) -> None:
    seen = set()
    tiny.net.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    train(tmp_path, tiny, images, precision="bf16-mixed")
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in tiny.parameters()} == {torch.float32}


def test_channels_last_is_a_layout_and_nothing_else(make_tiny, images) -> None:
    sample = images[1]

    def loss(channels_last: bool) -> tuple[torch.Tensor, DetectionModule]:
        torch.manual_seed(0)
        module = DetectionModule(make_tiny(width=4), PLAIN, 1, channels_last=channels_last)
        torch.manual_seed(1)
        return sum(module.detector([sample.image], [sample.target]).values()), module

    plain, _ = loss(False)
    other, module = loss(True)
    weight = module.detector.net.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    torch.testing.assert_close(plain, other)


def test_compile_is_of_the_backbone_alone_and_names_stay(tiny, monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    tiny.net.backbone = nn.Conv2d(3, 2, 1)
    names = list(tiny.state_dict())
    module = DetectionModule(tiny, PLAIN, 1, compile_backbone=True)
    assert compiled == [tiny.net.backbone]
    assert list(module.detector.state_dict()) == names
    DetectionModule(tiny, PLAIN, 1)
    assert len(compiled) == 1


@pytest.mark.slow
def test_a_compiled_backbone_gives_the_same_losses(tiny, images) -> None:
    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.backbone(x)

    tiny.net = Through()
    sample = images[1]

    def loss() -> torch.Tensor:
        torch.manual_seed(1)
        return sum(tiny([sample.image], [sample.target]).values())

    plain = loss()
    DetectionModule(tiny, PLAIN, 1, compile_backbone=True)
    torch.testing.assert_close(loss(), plain)


def test_images_without_any_box_train(tmp_path: Path, tiny, make_images) -> None:
    class Empty(make_images):
        def __getitem__(self, index):
            return super().__getitem__(index - index % 2)

    assert all(len(Empty()[index].target.labels) == 0 for index in range(4))
    train(tmp_path, tiny, Empty(), steps=2)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in tiny.parameters())
