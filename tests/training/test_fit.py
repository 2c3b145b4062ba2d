from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from hem.config import OptimConfig, StageConfig, TrainerConfig
from hem.errors import HemError
from hem.training.datamodule import LabelledReplayData
from hem.training.fit import RESUME_FILE, batches_per_epoch, train_stage
from hem.training.module import DetectionModule
from hem.training.optim import lr_scale, make_optimizer

STAGE = StageConfig(steps=9, steps_per_epoch=4, batch_size=3, optim=OptimConfig(lr=0.01, warmup_steps=2))


def trainer(**changes: object) -> TrainerConfig:
    return TrainerConfig(
        baseline=STAGE, extra=STAGE, accelerator="cpu", **{"checkpoint_every_steps": 1, **changes}
    )


def jitter(sample, generator):
    noise = torch.randint(0, 20, sample.image.shape, generator=generator, dtype=torch.uint8)
    return type(sample)(sample.image // 2 + noise, sample.target, sample.image_id)


class Watch(pl.Callback):
    """Keeps what each step trained on, and stops the run after one of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[tuple[int, list[str], float]] = []
        self.stop_after = stop_after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        pixels = float(sum(sample.image.double().mean() for sample in batch))
        self.seen.append((trainer.global_step, [sample.image_id for sample in batch], pixels))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.stop_after is not None and trainer.global_step == self.stop_after:
            raise RuntimeError("killed")


def run(
    tmp_path: Path, tiny, images, watch: Watch, settings: TrainerConfig, replay=None, stage=STAGE
) -> dict:
    batches = batches_per_epoch(stage, settings)
    data = LabelledReplayData(images, jitter, stage.batch_size, batches, 0.5, seed=5)
    if replay is not None:
        data.set_replay(replay, [1.0] * len(replay), 1)
    module = DetectionModule(tiny, stage.optim, stage.steps, seed=5, ema_decay=settings.ema_decay)
    train_stage(module, data, stage, settings, tmp_path, callbacks=[watch])
    state = {k: v.clone() for k, v in module.detector.state_dict().items()}
    return state | ({"ema": module.teacher.network.state_dict()["net.bias"]} if module.teacher else {})


@pytest.mark.parametrize(("stop_after", "resumed_at"), [(1, 1), (3, 3), (4, 4), (5, 5), (6, 6), (8, 8)])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_killed_run_goes_on_as_if_never_stopped(
    tmp_path: Path, make_tiny, images, make_images, stop_after: int, resumed_at: int, ema_decay: float
) -> None:
    replay = make_images(4, "mined")
    settings = trainer(ema_decay=ema_decay)

    def fresh():
        torch.manual_seed(0)
        return make_tiny()

    whole = Watch()
    expected = run(tmp_path / "whole", fresh(), images, whole, settings, replay)
    first = Watch(stop_after)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", fresh(), images, first, settings, replay)
    second = Watch()
    torch.manual_seed(99)
    got = run(tmp_path / "cut", make_tiny(), images, second, settings, replay)
    assert first.seen == whole.seen[:stop_after]
    assert second.seen == whole.seen[resumed_at:]
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert not (tmp_path / "cut" / RESUME_FILE).exists()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("every_steps", "stop_after", "resumed_at"),
    [(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 8, 8), (3, 2, 0), (3, 3, 3), (3, 8, 6)],
)
def test_a_killed_run_of_one_step_epochs_goes_on_as_if_never_stopped(
    tmp_path: Path, make_tiny, images, every_steps: int, stop_after: int, resumed_at: int, accumulate: int
) -> None:
    stage = STAGE.model_copy(update={"steps_per_epoch": 1})
    settings = trainer(ema_decay=0.9, checkpoint_every_steps=every_steps, accumulate=accumulate)

    def fresh():
        torch.manual_seed(0)
        return make_tiny()

    whole, first = Watch(), Watch(stop_after)
    expected = run(tmp_path / "whole", fresh(), images, whole, settings, stage=stage)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", fresh(), images, first, settings, stage=stage)
    torch.manual_seed(0 if resumed_at == 0 else 99)
    again = Watch(stop_after)  # stopped twice at one place
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", make_tiny(), images, again, settings, stage=stage)
    torch.manual_seed(0 if resumed_at == 0 else 99)
    second = Watch()
    got = run(tmp_path / "cut", make_tiny(), images, second, settings, stage=stage)
    assert first.seen == whole.seen[: stop_after * accumulate]
    assert again.seen == whole.seen[resumed_at * accumulate : stop_after * accumulate]
    assert second.seen == whole.seen[resumed_at * accumulate :]
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert not (tmp_path / "cut" / RESUME_FILE).exists()


def test_replay_comes_on_top_of_the_same_labelled_images(
    tmp_path: Path, make_tiny, images, make_images
) -> None:
    without, with_replay = Watch(), Watch()
    run(tmp_path / "a", make_tiny(), images, without, trainer())
    run(tmp_path / "b", make_tiny(), images, with_replay, trainer(), make_images(4, "mined"))
    for (_, plain, _), (_, mixed, _) in zip(without.seen, with_replay.seen, strict=True):
        assert mixed[: len(plain)] == plain
        assert all(name.startswith("mined") for name in mixed[len(plain) :])
        assert len(mixed) == 2 * len(plain)


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_a_run_killed_while_it_accumulates_goes_on_as_if_never_stopped(
    tmp_path: Path, make_tiny, images, stop_after: int
) -> None:
    """Gradients of half a step are not in a checkpoint: the run resumes where nothing is accumulated."""

    class Half(Watch):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if batch_idx % 2 and trainer.global_step == self.stop_after:
                raise RuntimeError("killed")

    def fresh():
        torch.manual_seed(0)
        return make_tiny()

    settings = trainer(accumulate=2, ema_decay=0.9)
    whole, second = Watch(), Watch()
    expected = run(tmp_path / "whole", fresh(), images, whole, settings)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", fresh(), images, Half(stop_after), settings)
    torch.manual_seed(99)
    got = run(tmp_path / "cut", make_tiny(), images, second, settings)
    assert second.seen == whole.seen[2 * stop_after :]
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def test_accumulation_counts_optimiser_steps(tmp_path: Path, tiny, images) -> None:
    watch = Watch()
    run(tmp_path, tiny, images, watch, trainer(accumulate=2))
    assert watch.seen[-1][0] == STAGE.steps
    assert len(watch.seen) == 2 * STAGE.steps


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_images_and_term(tmp_path: Path, tiny, images, value) -> None:
    tiny.net.weight.data.fill_(value)
    with pytest.raises(HemError, match=r"loss square, drawn is not finite at step 0.*image-\d"):
        run(tmp_path, tiny, images, Watch(), trainer())


def test_the_teacher_is_in_the_checkpoint(tmp_path: Path, tiny, images) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, tiny, images, Watch(3), trainer(ema_decay=0.9))
    saved = torch.load(tmp_path / RESUME_FILE, weights_only=True)["teacher"]
    assert saved["updates"] == 3  # one for each step that the checkpoint holds
    assert set(saved["network"]) == set(tiny.state_dict())
    assert any(not torch.equal(value, tiny.state_dict()[name]) for name, value in saved["network"].items())


def test_frozen_backbone_moves_only_later(tmp_path: Path, make_tiny, images) -> None:
    tiny = make_tiny()
    tiny.net.backbone = torch.nn.Linear(2, 2)  # no gradient reaches it; only its flag is watched

    class Flags(Watch):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            self.seen.append((trainer.global_step, [], float(tiny.net.backbone.weight.requires_grad)))

    watch = Flags()
    data = LabelledReplayData(images, None, 3, 4, 0.5, seed=5)
    module = DetectionModule(tiny, STAGE.optim, STAGE.steps, freeze_backbone_steps=5)
    train_stage(module, data, STAGE, trainer(), tmp_path, callbacks=[watch])
    assert [learns for _, _, learns in watch.seen] == [0.0] * 5 + [1.0] * 4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("step", [1 / 3, 2 / 3, 1, 1, 1, 0.1]),
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.8609, 0.525, 0.1891]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    settings = OptimConfig(schedule=schedule, warmup_steps=2, step_milestones=(0.75,), final_lr_scale=0.05)
    scale = lr_scale(settings, 6)
    assert [scale(step) for step in range(6)] == pytest.approx(expected, abs=1e-4)


def test_norms_and_biases_do_not_decay_and_the_backbone_has_its_rate(tiny) -> None:
    tiny.net.backbone = torch.nn.Linear(2, 2)
    groups = make_optimizer(tiny, OptimConfig(lr=0.1, backbone_lr_scale=0.5, weight_decay=0.3)).param_groups
    assert sorted((g["lr"], g["weight_decay"]) for g in groups) == [
        (0.05, 0.0),
        (0.05, 0.3),
        (0.1, 0.0),
        (0.1, 0.3),
    ]
