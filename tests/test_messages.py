"""What a command says of settings that do not fit it, and what it leaves behind then: nothing."""

from pathlib import Path

import pytest
import torch

from hem import convert, detect, drop, evaluate, mine, train
from hem.artifacts import save_examples
from hem.detectors.weights import read_weights
from hem.errors import HemError
from hem.structures import HardExample, Kind
from hem.training.checkpoint import load_checkpoint


def test_a_setting_that_another_command_has_is_named_with_the_way_out(tmp_path, run_command) -> None:
    words = "data.seed is taken from the setting seed, which this command does not have: give data.seed="
    status, said = run_command(convert, "data=embedded", f"output_dir={tmp_path / 'out'}")
    assert status == 2 and words in said
    status, said = run_command(evaluate, "+data=embedded", "checkpoint=model.pt")
    assert status == 2 and words in said


def test_what_the_message_asks_for_is_enough(tmp_path, run_command) -> None:
    small = ["data.n_train=2", "data.n_test=2", "data.n_unlabelled_videos=1", "data.n_heldout_videos=0"]
    small += ["data.frames_per_video=30", f"data.root={tmp_path / 'worlds'}"]
    where = tmp_path / "out"
    status, said = run_command(convert, "data=embedded", "data.seed=0", f"output_dir={where}", *small)
    assert status == 0, said
    assert sorted(path.name for path in Path(where).iterdir()) == ["test.json", "train.json"]


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        (mine, "+experiment=quickstart", "hem.mine does not take experiment=quickstart"),
        (detect, "+data=embedded", "hem.detect does not take data=embedded; known: video"),
    ],
)
def test_a_group_of_another_command_is_refused(tmp_path, run_command, command, given, words) -> None:
    status, said = run_command(command, given, f"output_dir={tmp_path}", "videos=V", "checkpoint=F")
    assert status == 2 and words in said


def test_a_gpu_that_is_not_there_is_missed_first(tmp_path, run_command, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    worlds, run = tmp_path / "worlds", tmp_path / "run"
    given = ["trainer=gpu", "logger.mode=disabled", f"data.root={worlds}", f"hydra.run.dir={run}"]
    status, said = run_command(train, "trainer.accelerator=gpu", *given, f"store_dir={tmp_path / 'store'}")
    assert status == 2 and "Traceback" not in said
    assert "trainer.accelerator=gpu, but torch sees no GPU" in said and "trainer.accelerator=auto" in said
    assert not worlds.exists() and not (tmp_path / "store").exists()


def test_dropping_an_ignore_region_says_why_nothing_changes(tmp_path, run_command) -> None:
    box = (1.0, 2.0, 11.0, 22.0)
    ignored = HardExample("a.mp4", "d" * 64, 5, 0.2, box, 1, Kind.IGNORE, 0.3, 1.0, "hem", 0, {})
    save_examples(tmp_path / "hard_examples.parquet", [ignored], class_names=("face",))
    before = sorted(tmp_path.rglob("*"))
    status, said = run_command(drop, ignored.example_id, f"run_dir={tmp_path}")
    assert (
        status == 2 and f"{ignored.example_id} is an ignore region" in said and "nothing was changed" in said
    )
    assert sorted(tmp_path.rglob("*")) == before


class _Code:
    """What torch would have to run code for."""


@pytest.mark.parametrize("kind", ["pickled network", "text", "cut off"])
def test_a_file_that_is_no_checkpoint_is_named_and_nothing_unsafe_is_advised(tmp_path, kind) -> None:
    path = tmp_path / "model.pt"
    if kind == "text":
        path.write_text("no weights\n")
    else:
        torch.save({"model": _Code()} if kind == "pickled network" else {"x": torch.zeros(9)}, path)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(HemError, match=r"model\.pt") as found:
        load_checkpoint(path)
    assert "checkpoint.pt" in str(found.value) and "detector.weights=" in str(found.value)
    with pytest.raises(HemError, match=r"model\.pt") as weights:
        read_weights(path)
    for advice in ("weights_only", "safe_globals", "trust"):
        assert advice not in str(found.value) + str(weights.value)
