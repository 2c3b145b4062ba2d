from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from hem.config import OptimConfig, RoundsConfig, StageConfig, TrainerConfig
from hem.errors import HemError
from hem.replay import ReplayDataset, ReplayRound, load_round, write_round
from hem.structures import HardExample, Kind, VideoInfo
from hem.training.datamodule import LabelledReplayData
from hem.training.fit import train_stage
from hem.training.mining_callback import MiningCallback
from hem.training.module import DetectionModule

STAGE = StageConfig(steps=9, steps_per_epoch=3, batch_size=2, optim=OptimConfig(lr=0.01, warmup_steps=1))
TRAINER = TrainerConfig(baseline=STAGE, extra=STAGE, accelerator="cpu", checkpoint_every_steps=1)
VIDEO = VideoInfo("clip.mp4", "d" * 64, "", 8, 8, 25.0, 20)


class Miner:
    """Mines one frame a round, chosen by the teacher's weights, so another teacher mines another."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.mined: list[tuple[int, float]] = []
        self.fail_at = fail_at

    def mine(self, teacher, index: int, path: Path) -> ReplayRound:
        if index == self.fail_at:
            raise HemError("the video is gone")
        mark = float(sum(p.double().sum() for p in teacher.state_dict().values()))
        self.mined.append((index, mark))
        frame = int(abs(mark) * 1000) % 20
        example = HardExample(
            VIDEO.video_id,
            VIDEO.digest,
            frame,
            0.0,
            (1, 1, 6, 6),
            1,
            Kind.HARD_NEGATIVE,
            0.9,
            1.0,
            "test",
            index,
        )

        def read(video, indices):
            return [(i, torch.full((3, 8, 8), 10 * i, dtype=torch.uint8)) for i in indices]

        return write_round(path, index, [example], [VIDEO], read, ("thing",))

    def open(self, rounds) -> ReplayDataset:
        return ReplayDataset(rounds, decay=0.5)


class Watch(pl.Callback):
    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[list[str]] = []
        self.stop_after = stop_after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.stop_after:
            raise KeyboardInterrupt if self.stop_after < 0 else RuntimeError("killed")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append([sample.image_id for sample in batch])


def run(
    folder: Path, tiny, images, miner: Miner, watch: Watch, rounds: RoundsConfig, ema=0.0, stage=STAGE, **more
):
    data = LabelledReplayData(images, None, 2, stage.steps_per_epoch, 0.5, seed=1)
    module = DetectionModule(tiny, stage.optim, stage.steps, seed=1, ema_decay=ema)
    callback = MiningCallback(data, miner.mine, miner.open, folder / "replay", rounds)
    settings = TRAINER.model_copy(update={"ema_decay": ema, **more})
    train_stage(module, data, stage, settings, folder, callbacks=[callback, watch])
    return callback


def replayed(batch: list[str]) -> list[str]:
    return [name for name in batch if name.startswith("round_")]


@pytest.mark.parametrize(
    ("start_epoch", "every", "most", "expected"),
    [
        (0, 1, 1, [1, 1, 1]),
        (0, 1, 3, [1, 2, 3]),
        (1, 1, 5, [0, 1, 2]),
        (0, 2, 5, [1, 1, 2]),
        (2, 1, 1, [0, 0, 1]),
        (3, 1, 1, [0, 0, 0]),
    ],
)
def test_rounds_come_when_they_should(
    tmp_path, make_tiny, images, start_epoch, every, most, expected
) -> None:
    watch = Watch()
    rounds = RoundsConfig(start_epoch=start_epoch, every_n_epochs=every, max_rounds=most)
    callback = run(tmp_path, make_tiny(), images, Miner(), watch, rounds)
    assert len(callback.rounds) == max(expected)
    for epoch, wanted in enumerate(expected):
        for batch in watch.seen[3 * epoch : 3 * epoch + 3]:
            assert len(replayed(batch)) == (2 if wanted else 0)
            assert all(int(name.split("/")[0].removeprefix("round_")) <= wanted for name in replayed(batch))


def test_each_round_is_mined_with_the_weights_of_its_time(tmp_path, make_tiny, images) -> None:
    current, averaged = Miner(), Miner()
    torch.manual_seed(0)
    run(tmp_path / "a", make_tiny(), images, current, Watch(), RoundsConfig(max_rounds=3))
    torch.manual_seed(0)
    rounds = RoundsConfig(max_rounds=3, teacher="ema")
    run(tmp_path / "b", make_tiny(), images, averaged, Watch(), rounds, ema=0.9)
    assert len({mark for _, mark in current.mined}) == 3
    assert current.mined[0] == averaged.mined[0]
    assert current.mined[1] != averaged.mined[1]


def test_an_ema_teacher_needs_a_decay(tmp_path, make_tiny, images) -> None:
    with pytest.raises(HemError, match="ema_decay"):
        run(tmp_path, make_tiny(), images, Miner(), Watch(), RoundsConfig(teacher="ema"))


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_a_killed_run_goes_on_with_the_same_batches_and_rounds(
    tmp_path, make_tiny, images, stop_after: int, ema: float
) -> None:
    rounds = RoundsConfig(max_rounds=3, teacher="ema" if ema else "current")

    def fresh():
        torch.manual_seed(3)
        return make_tiny()

    whole = Watch()
    expected = run(tmp_path / "whole", fresh(), images, Miner(), whole, rounds, ema)
    first, second = Watch(stop_after), Watch()
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", fresh(), images, Miner(), first, rounds, ema)
    got = run(tmp_path / "cut", make_tiny(), images, Miner(), second, rounds, ema)
    done = len(whole.seen) - len(second.seen)
    assert stop_after - 2 <= done <= stop_after
    assert first.seen == whole.seen[:stop_after]
    assert second.seen == whole.seen[done:]
    assert [r.examples for r in got.rounds] == [r.examples for r in expected.rounds]


@pytest.mark.parametrize(
    ("steps_per_epoch", "start_epoch", "stop_after", "kept"),
    [(1, 0, 0, 1), (1, 2, 2, 1), (1, 0, 4, 2), (3, 0, 0, 1), (3, 1, 3, 1), (3, 0, 6, 2)],
)
def test_what_was_mined_is_not_mined_again(
    tmp_path, make_tiny, images, steps_per_epoch: int, start_epoch: int, stop_after: int, kept: int
) -> None:
    """Killed before the first step that follows: the round is in the resume point already."""
    stage = STAGE.model_copy(update={"steps_per_epoch": steps_per_epoch})
    every = 4 if steps_per_epoch == 1 else 2
    rounds = RoundsConfig(start_epoch=start_epoch, every_n_epochs=every, max_rounds=2)
    settings = {"stage": stage, "checkpoint_every_steps": 100}
    torch.manual_seed(3)
    tiny = make_tiny()
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, tiny, images, Miner(), Watch(stop_after), rounds, **settings)
    weights = {name: value.clone() for name, value in tiny.state_dict().items()}

    class Resumed(Watch):
        def on_train_start(self, trainer, pl_module) -> None:
            assert trainer.global_step == stop_after
            for name, value in pl_module.detector.state_dict().items():
                assert torch.equal(value, weights[name])

    again, watch = Miner(), Resumed()
    callback = run(tmp_path, make_tiny(), images, again, watch, rounds, **settings)
    assert [index for index, _ in again.mined] == list(range(kept + 1, len(callback.rounds) + 1))
    assert len(watch.seen) == STAGE.steps - stop_after


def test_a_round_that_fails_stops_the_run_and_leaves_no_half_round(tmp_path, make_tiny, images) -> None:
    with pytest.raises(HemError, match="the video is gone"):
        run(tmp_path, make_tiny(), images, Miner(fail_at=2), Watch(), RoundsConfig(max_rounds=3))
    assert [path.name for path in (tmp_path / "replay").iterdir()] == ["round_001"]


def test_a_changed_round_is_refused_on_resume(tmp_path, make_tiny, images) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, make_tiny(), images, Miner(), Watch(2), RoundsConfig())
    path = tmp_path / "replay" / "round_001" / "manifest.json"
    before = load_round(path.parent).digest
    path.write_text(path.read_text().replace('"round": 1', '"round":  1').replace("hem/", "hem/", 1) + " ")
    try:
        changed = load_round(path.parent).digest != before
    except HemError:
        changed = True
    assert changed
    with pytest.raises(HemError):
        run(tmp_path, make_tiny(), images, Miner(), Watch(), RoundsConfig())
