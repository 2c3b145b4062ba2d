"""What a finished run hands to W&B, and what it does not."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hem.artifacts import save_examples, write_json
from hem.config import LoggerConfig
from hem.errors import HemError
from hem.reporting import run_log, wandb_log
from hem.reporting.run_log import RunLog


class FakeRun:
    def __init__(self):
        self.logged, self.figures, self.artifacts = {}, {}, []
        self.summary = self

    def log(self, values, step=None):
        self.logged |= values

    def update(self, values):
        self.figures |= values

    def log_artifact(self, artifact):
        self.artifacts.append((artifact.name, artifact.type, sorted(artifact.manifest.entries)))

    def finish(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    run = FakeRun()
    monkeypatch.setattr(wandb_log, "_init", lambda about, mode, timeout_s: run)
    run.opened = {}
    real = run_log.open_wandb
    monkeypatch.setattr(run_log, "open_wandb", lambda *a, **k: run.opened.update(k) or real(*a, **k))
    return run


def jpeg(colour=(200, 30, 30)):
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), colour, dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def finished(tmp_path, examples, summary):
    """A run directory as hem.train leaves it, and its summary."""
    summary |= {"name": "try", "mining_by_arm": {"flickers": {"hard_negatives": 61, "purity": {}}}}
    checkpoints = {}
    for arm in ("baseline", "flickers"):
        stage = tmp_path / "store" / arm
        stage.mkdir(parents=True)
        (stage / "checkpoint.pt").write_bytes(b"weights")
        checkpoints[arm] = str(stage / "checkpoint.pt")
    round_ = tmp_path / "store/flickers/replay/round_001"
    round_.mkdir(parents=True)
    (round_ / "manifest.json").write_text("{}")
    run = tmp_path / "run"
    write_json(run / "stages.json", "stages", {"checkpoints": checkpoints})
    curve = {"recall": [0.1, 0.5], "precision": [1.0, 0.8], "thresholds": [0.9, 0.4]}
    curve["false_alarms_per_minute"] = [0.0, 3.0]
    purity = {"hard negative": {"count": [1, 2], "purity": [1.0, 0.5]}}
    write_json(run / "measured.json", "measured", {"curves": {"flickers": curve}, "purity_yield": purity})
    save_examples(run / "hard_examples.parquet", examples(8), class_names=("cat", "dog"))
    return run, summary


def log_of(run, summary, pictures=None, **settings):
    config = LoggerConfig(**settings)
    with RunLog(config, run, name="try", seed=3, config={"a": {"b": 1}}) as log:
        log.finished(summary, pictures or {})


def test_what_is_logged(finished, fake):
    run, summary = finished
    pictures = {f"caption {i}": jpeg((i, 0, 0)) for i in range(6)}
    log_of(run, summary, pictures, max_pictures=4)
    assert (fake.opened["group"], fake.opened["name"]) == ("try", "try-seed3")
    assert fake.opened["config"] == {"a": {"b": 1}}
    assert fake.figures["flickers/AP"] == 0.52
    assert fake.figures["mining/purity_hard_negatives"] == 0.885
    assert fake.figures["flickers/mining/hard_negatives"] == 61
    assert "flickers_and_gaps/false_alarms_per_minute" not in fake.figures  # not measured
    assert fake.figures["mining/mean_weight_hard_negative"] == pytest.approx((0 + 4 * 37 / 1000) / 2)
    assert fake.logged["arms"].columns[:2] == ["arm", "role"]
    assert fake.logged["curves"].data == [
        ["flickers", 0.1, 1.0, 0.0, 0.9],
        ["flickers", 0.5, 0.8, 3.0, 0.4],
    ]
    assert fake.logged["purity_against_yield"].data == [["hard negative", 1, 1.0], ["hard negative", 2, 0.5]]
    assert len(fake.logged["mined"]) == 4
    assert fake.artifacts == []  # only on request


def test_artifacts_on_request(finished, fake):
    run, summary = finished
    log_of(run, summary, artifacts=("checkpoints", "replay"))
    assert fake.artifacts == [
        ("try-seed3-baseline-checkpoint", "model", ["checkpoint.pt"]),
        ("try-seed3-flickers-checkpoint", "model", ["checkpoint.pt"]),
        ("try-seed3-flickers-round_001", "replay", ["manifest.json"]),
    ]


def test_a_run_that_is_refused_before_its_first_stage_is_not_begun(tmp_path, fake):
    with (
        pytest.raises(HemError, match="no such data"),
        RunLog(LoggerConfig(), tmp_path, name="a", seed=0, config={}),
    ):
        raise HemError("no such data")
    assert fake.opened == {} and list(tmp_path.iterdir()) == []


def test_disabled_reads_and_logs_nothing(tmp_path, summary):
    log_of(tmp_path, summary | {"name": "try"}, mode="disabled")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_mined_nothing_is_logged(tmp_path, fake, summary):
    summary |= {"name": "try", "mining": {}, "mining_by_arm": {}}
    log_of(tmp_path, summary, artifacts=("checkpoints",))
    assert fake.figures["continued/AP"] == 0.5
    assert "mined" not in fake.logged and fake.artifacts == []


def test_a_lost_checkpoint_does_not_end_the_run(finished, fake, caplog):
    caplog.set_level(logging.WARNING, logger="hem")
    run, summary = finished
    (run.parent / "store/baseline/checkpoint.pt").unlink()
    log_of(run, summary, artifacts=("checkpoints",))
    assert len(caplog.records) == 1 and "W&B failed" in caplog.text


def test_tensorboard_by_config(tmp_path, monkeypatch):
    if importlib.util.find_spec("tensorboard"):
        with RunLog(
            LoggerConfig(mode="disabled", tensorboard=True), tmp_path, name="a", seed=0, config={}
        ) as log:
            (logger,) = log.loggers("baseline")
            logger.log_metrics({"loss": 0.5}, 1)
            logger.finalize("success")
        assert list((tmp_path / "tensorboard" / "baseline").glob("events*"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HemError, match="tensorboard"):
        RunLog(LoggerConfig(mode="disabled", tensorboard=True), tmp_path, name="a", seed=0, config={})


def test_stage_metrics_carry_the_stage(tmp_path, fake):
    with RunLog(LoggerConfig(), Path(tmp_path), name="a", seed=0, config={}) as log:
        (logger,) = log.loggers("baseline")
        logger.log_metrics({"loss": 0.25}, 7)
    assert fake.logged == {"baseline/loss": 0.25, "baseline/step": 7}
