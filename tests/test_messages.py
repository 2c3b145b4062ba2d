"""What a command says of settings that do not fit it, and what it leaves behind then: nothing."""

from pathlib import Path

import pytest
import torch

from hem import convert, detect, evaluate, mine, train


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
