"""On a tiny world: sweeps share what they can, and what people decided reaches the next run."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import hem.training.arm
import hem.training.experiment
from hem.artifacts import load_examples
from hem.artifacts.rulings import DROPS, VERDICTS, VerdictLog, load_drops
from hem.reporting.provenance import arm_folders, explain, find_example, read_mined
from hem.reporting.review_session import verdict_of
from hem.reporting.sweep_runs import read_sweep
from hem.reporting.sweep_summary import write_summary
from hem.structures import Answer, Kind

ROOT = Path(__file__).parents[1]
SMALL = [
    "+experiment=quickstart", "data.n_train=12", "data.n_test=4", "data.n_unlabelled_videos=2",
    "data.n_heldout_videos=1", "data.frames_per_video=16", "data.frames_per_heldout_video=8",
    "data.size_px=96", "trainer.baseline.steps=4", "trainer.baseline.steps_per_epoch=4",
    "trainer.baseline.batch_size=2", "trainer.extra.steps=4", "trainer.extra.steps_per_epoch=2",
    "trainer.extra.batch_size=2", "trainer.threads=1", "logger.mode=disabled", "collect.floor_score=0.01",
    "collect.score_threshold=[0.01,1.0]", "collect.neighbour_threshold=[0.01,1.0]",
    "mining.label_threshold=0.7",
]  # fmt: skip


class Counts(Counter[str]):
    """What is dear: stages trained, frames decoded for mining, detector calls of mining passes."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()
    train, passed = hem.training.experiment.train_stage, hem.training.experiment.run_pass
    source = hem.training.experiment.VideoData.source

    def count_train(module: Any, data: Any, stage: Any, settings: Any, directory: Path, **more: Any) -> float:
        found[f"train {directory.name.split('-')[0].lstrip('.')}"] += 1
        return train(module, data, stage, settings, directory, **more)

    def count_pass(detector: Any, *more: Any) -> Any:
        if isinstance(detector, torch.nn.Module):
            found["detect"] += 1
        return passed(detector, *more)

    def count_source(self: Any, video: Any) -> Any:
        found["decode"] += "unlabelled" in video.path
        return source(self, video)

    monkeypatch.setattr(hem.training.experiment, "train_stage", count_train)
    monkeypatch.setattr(hem.training.experiment, "run_pass", count_pass)
    monkeypatch.setattr(hem.training.arm, "run_pass", count_pass)
    monkeypatch.setattr(hem.training.experiment.VideoData, "source", count_source)
    return found


def train(monkeypatch: pytest.MonkeyPatch, places: Path, *overrides: str) -> None:
    """Run the command in this process, as ``python -m hem.train`` would."""
    from hem.train import main

    monkeypatch.chdir(ROOT)
    flags = [one for one in overrides if one == "-m"]
    own = [one for one in overrides if one != "-m"]  # last, since the last value of a setting counts
    store = [f"store_dir={places / 'store'}", f"data.root={places / 'worlds'}"]
    monkeypatch.setattr(sys, "argv", ["hem.train", *flags, *SMALL, *store, *own])
    main()


def test_a_sweep_over_thresholds_decodes_detects_and_trains_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, places: Path, counts: Counts
) -> None:
    train(
        monkeypatch, places, "-m", f"hydra.sweep.dir={places / 'sweep'}",
        "mining.score_threshold=0.4,0.5", "mining.clear_iou=0.1,1.0", "objective=video_AP50",
    )  # fmt: skip
    assert counts["train baseline"] == 1
    assert counts["train control"] == 1
    assert counts["detect"] == 1  # one pass over the videos
    assert counts["decode"] == 2  # once each video
    arms = {name: count for name, count in counts.items() if name.startswith("train arm")}
    assert sum(arms.values()) == 2 * 4  # what the thresholds change is trained for each of them

    sweep = read_sweep(places / "sweep")
    assert sorted(sweep.keys) == ["mining.clear_iou", "mining.score_threshold"]
    assert len(sweep.rows) == 4 and sweep.direction == "maximize"
    command = write_summary(places / "sweep", sweep)
    assert command is not None
    folder = places / "sweep" / "sweep_summary"
    assert {path.suffix for path in folder.iterdir()} == {".svg", ".json", ".yaml"}

    counts.clear()  # the best configuration runs as it stands, and everything of it is there already
    own = [one for one in command.split() if one.startswith("--")]
    from hem.train import main

    monkeypatch.setattr(sys, "argv", ["hem.train", *own, f"hydra.run.dir={places / 'best'}"])
    main()
    assert not any(counts.values())
    best = read_sweep(places / "best", "video_AP50").rows[0]
    assert best.value == sweep.rows[0].value


def test_verdicts_and_removals_reach_the_next_run(
    monkeypatch: pytest.MonkeyPatch, places: Path, counts: Counts, capsys: pytest.CaptureFixture[str]
) -> None:
    run = places / "run"
    train(monkeypatch, places, f"hydra.run.dir={run}")
    counts.clear()
    mined = [e for e in load_examples(run / "hard_examples.parquet")[0] if e.kind is not Kind.IGNORE]
    assert len(mined) >= 3, "the tiny world must mine something"
    wrong, dropped = mined[0], next(e for e in mined[1:] if e.example_id != mined[0].example_id)
    VerdictLog(run / VERDICTS).add([verdict_of(wrong, Answer.WRONG, "me")], "t")

    from hem.cli import main as cli

    other = places / "other"
    cli(["mine", f"evidence={run}", "mining=temporal", "mining.label_threshold=0.7", f"output_dir={other}"])
    assert load_examples(other / "hard_examples.parquet")[0], "a run's evidence answers other presets"
    again = read_mined(other)
    assert explain(again, next(iter(again.examples())))["evidence"]["detector"]
    counts.clear()

    for _ in range(2):  # the second time says that it was done
        cli(["drop", dropped.example_id, f"run_dir={run}", "reason=not this", "who=me"])
    assert "was dropped before" in capsys.readouterr().out
    (record,) = load_drops(run / DROPS)
    assert (record.example_ids, record.reason, record.who) == ((dropped.example_id,), "not this", "me")

    before = read_mined(run)
    document = explain(before, find_example(before, dropped.example_id[:12]))
    assert document["dropped"][0]["reason"] == "not this"
    assert document["model"]["digest"] and document["evidence"]["detector"]
    used = document["used"]["flickers_and_gaps"]
    assert used["of_steps"] == 4 and set(used["steps"]) <= {1, 2, 3, 4}

    train(monkeypatch, places, f"hydra.run.dir={run}")
    assert counts["detect"] == counts["decode"] == counts["train baseline"] == counts["train control"] == 0
    assert sum(count for name, count in counts.items() if name.startswith("train arm")) == 2
    after = load_examples(run / "hard_examples.parquet")[0]
    kinds = {(e.frame_index, e.video_id, e.label, e.box_xyxy): e.kind for e in after}
    for one in (wrong, dropped):
        assert kinds[(one.frame_index, one.video_id, one.label, one.box_xyxy)] is Kind.IGNORE
    assert find_example(read_mined(run), wrong.example_id).kind is wrong.kind  # still explained
    cli(["why", dropped.example_id, f"run_dir={run}"])
    said = capsys.readouterr().out
    assert "by me" in said and "not this" in said and dropped.video_id in said


def test_the_steps_that_why_names_are_those_that_drew_the_frame(
    monkeypatch: pytest.MonkeyPatch, places: Path
) -> None:
    from hem.training.module import DetectionModule
    from hem.training.usage import usage_of

    drawn: list[tuple[tuple[str, int], int]] = []
    step = DetectionModule.training_step

    def note(self: Any, batch: Any, batch_idx: int) -> Any:
        for sample in batch:
            if sample.image_id.startswith("round_"):  # the target of a replayed frame is named after it
                video, _, frame = sample.target.name.rpartition("#")
                drawn.append(((video, int(frame)), self.global_step + 1))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", note)
    run = places / "two_rounds"
    train(
        monkeypatch, places, f"hydra.run.dir={run}", "rounds.max_rounds=2",
        "~arms.flickers", "trainer.extra.steps=5", "mining.score_threshold=0.45",
        # so little trained a detector finds the same in every frame: that is false by these, whatever it is
        "mining.static_share=0.01", "mining.static_s=0.1",
    )  # fmt: skip
    arm = arm_folders(run)["flickers_and_gaps"]
    assert (arm / "replay" / "round_002").is_dir()
    assert drawn
    for key in {key for key, _ in drawn}:
        usage = usage_of(arm, *key)
        assert usage is not None
        assert list(usage.steps) == [at for one, at in drawn if one == key]
        assert usage.rounds and usage.total_steps == 5
    nowhere = usage_of(arm, "nowhere.mp4", 3)
    assert nowhere is not None and (nowhere.rounds, nowhere.steps) == ((), ())
    assert usage_of(arm_folders(run)["continued"], *drawn[0][0]) is None
