"""The whole loop on a world of a few pictures: every stage is real, only small."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hem.artifacts import load_examples
from hem.artifacts.places import read_stages
from hem.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
SMALL = [
    "data.n_train=12", "data.n_test=6", "data.n_unlabelled_videos=2", "data.n_heldout_videos=1",
    "data.frames_per_video=24", "data.frames_per_heldout_video=12", "data.size_px=96",
    "trainer.baseline.steps=8", "trainer.baseline.steps_per_epoch=4", "trainer.baseline.batch_size=2",
    "trainer.extra.steps=4", "trainer.extra.steps_per_epoch=2", "trainer.extra.batch_size=2",
    "trainer.checkpoint_every_steps=1", "trainer.threads=1", "logger.mode=disabled",
]  # fmt: skip


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


def command(run: Path, store: Path, worlds: Path, *more: str) -> list[str]:
    places = [f"hydra.run.dir={run}", f"store_dir={store}", f"data.root={worlds}"]
    return [sys.executable, "-m", "hem.train", "+experiment=quickstart", *SMALL, *places, *more]


def train(run: Path, store: Path, worlds: Path, *more: str) -> str:
    result = subprocess.run(
        command(run, store, worlds, *more), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stderr + result.stdout


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def without_times(document: dict) -> dict:
    mining = {k: v for k, v in document["mining"].items() if k not in ("seconds", "frames_per_second")}
    arms = {
        name: {k: v for k, v in one.items() if k not in ("seconds", "frames_per_second")}
        for name, one in document["mining_by_arm"].items()
    }
    return {**document, "seconds": None, "mining": mining, "mining_by_arm": arms}


def test_the_loop_is_whole_repeatable_and_shared(tmp_path: Path, worlds: Path) -> None:
    said = train(tmp_path / "a", tmp_path / "store_a", worlds)
    first = summary_of(tmp_path / "a")
    assert list(first["arms"]) == ["baseline", "continued", "flickers", "flickers_and_gaps"]
    assert set(first["differences"]) == {"baseline", "flickers", "flickers_and_gaps"}
    wanted = {
        "AP", "AP50", "video_AP50", "recall", "false_alarms_per_minute", "false_alarms_per_frame",
        "flickers_per_minute",
    }  # fmt: skip
    assert all(wanted <= set(figures) for figures in first["arms"].values())
    assert {"frames", "hard_negatives", "hard_positives", "purity_hard_negatives"} <= set(first["mining"])
    assert first["mining"]["frames"] == 48
    for name in ("hard_examples.json", "report.html", "config.json", "stages.json"):
        assert (tmp_path / "a" / name).is_file(), name
    assert "steps/s" in said
    assert "continued (control)" in said

    train(tmp_path / "b", tmp_path / "store_b", worlds)  # the same seed, nothing shared: the same figures
    assert without_times(summary_of(tmp_path / "b")) == without_times(first)
    examples = [load_examples(tmp_path / run / "hard_examples.parquet")[0] for run in "ab"]
    assert examples[0] == examples[1]

    again = train(tmp_path / "c", tmp_path / "store_a", worlds, "+arms.flickers.soft=true")
    assert "baseline: found finished" in again
    assert "evidence: found finished" in again
    assert "control: found finished" in again
    assert "arm-flickers: starts" in again
    assert "arm-flickers_and_gaps: found finished" in again

    arm = load_checkpoint(read_stages(tmp_path / "a")["checkpoints"]["flickers"])
    assert arm.class_names == ("face", "car")
    pictures_are_not_lost_with_the_videos(tmp_path / "a", worlds)


def pictures_are_not_lost_with_the_videos(run: Path, worlds: Path) -> None:
    def report() -> subprocess.CompletedProcess[str]:
        order = [sys.executable, "-m", "hem.report", f"run_dir={run}"]
        return subprocess.run(order, capture_output=True, text=True, cwd=ROOT, check=False)

    made = (run / "report.html").read_bytes()
    assert report().returncode == 0
    away = worlds.rename(worlds.with_name("away"))
    try:
        refused = report()
        assert refused.returncode == 2
        assert "stays as it is" in refused.stderr and "no pictures of" in refused.stderr
        assert len((run / "report.html").read_bytes()) == pytest.approx(len(made), rel=0.01)
        (run / "report.html").unlink()
        without = report()
        assert without.returncode == 0 and "report: no pictures of" in without.stderr
        assert len((run / "report.html").read_bytes()) < 0.9 * len(made)
    finally:
        away.rename(worlds)


def test_a_killed_run_goes_on_after_its_last_finished_stage(tmp_path: Path, worlds: Path) -> None:
    store = tmp_path / "store"
    arguments = command(tmp_path / "run", store, worlds, "trainer.baseline.steps=4000")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 200
    while not all(
        list(store.glob(f".baseline-*.working/{name}")) for name in ("resume.ckpt", "log/metrics.csv")
    ):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(store.glob("baseline-*"))
    assert not (tmp_path / "run" / "summary.json").exists()
    left = list(store.glob(".baseline-*.working"))
    assert len(left) == 1
    logged = {path: path.read_bytes() for path in left[0].rglob("metrics.csv")}
    assert logged

    interrupted = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    time.sleep(12)
    interrupted.send_signal(signal.SIGINT)  # Ctrl-C
    interrupted.communicate(timeout=120)
    assert not list(store.glob("baseline-*"))
    assert list(store.glob(".baseline-*.working/resume.ckpt"))
    assert {path: path.read_bytes() for path in logged} == logged  # the resumed part has a file of its own


SLOW = pytest.mark.slow
SMALL_DETECTORS = [
    "small_retinanet",
    *(pytest.param(name, marks=SLOW) for name in ("small_faster_rcnn", "small_fcos", "small_ssdlite")),
    pytest.param("small_rtdetr", marks=[SLOW, pytest.mark.detr]),
]


@pytest.mark.parametrize("detector", SMALL_DETECTORS)
def test_every_small_detector_takes_part_by_name_alone(tmp_path: Path, worlds: Path, detector: str) -> None:
    train(
        tmp_path / "run",
        tmp_path / "store",
        worlds,
        f"detector={detector}",
        "arms=standard",
        "rounds.max_rounds=2",
    )
    arms = summary_of(tmp_path / "run")["arms"]
    assert list(arms) == [
        "baseline", "continued", "random", "score", "pseudo_labels", "flickers", "flickers_and_gaps",
    ]  # fmt: skip
    assert all(figures["AP"] is not None for figures in arms.values())


def test_what_cannot_be_decoded_is_named(tmp_path: Path, worlds: Path, write_cut_video) -> None:
    mined, heldout = (write_cut_video(tmp_path / f"{name}.mp4", seed) for seed, name in enumerate("mh"))
    said = train(tmp_path / "run", tmp_path / "store", worlds, f"videos={mined}", f"heldout_videos={heldout}")
    problems = {Path(one["path"]).name: one["reason"] for one in summary_of(tmp_path / "run")["skipped"]}
    assert set(problems) == {"m.mp4", "h.mp4"}
    for name, reason in problems.items():
        assert reason.startswith("not decoded: frames ") and f"{tmp_path / name}: {reason}\n" in said
        assert reason in (tmp_path / "run" / "report.html").read_text()


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path, worlds: Path) -> None:
    from hem.detectors.retinanet import RetinaNet
    from hem.training.checkpoint import save_checkpoint

    node = {
        "_target_": "hem.detectors.retinanet.RetinaNet",
        "backbone": "mobilenetv3_small_050",
        "strides": [8, 16],
    }
    detector = RetinaNet(class_names=("cat",), backbone="mobilenetv3_small_050", strides=[8, 16])
    save_checkpoint(tmp_path / "cat.pt", detector, node, {})
    arguments = command(tmp_path / "run", tmp_path / "store", worlds, f"checkpoint={tmp_path / 'cat.pt'}")
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode != 0
    assert "['cat']" in result.stderr
    assert "['face', 'car']" in result.stderr
    assert "Traceback" not in result.stderr


SHARED = Path(os.environ.get("HEM_SHARED", ROOT.parent / "shared")) / "data"


@pytest.mark.skipif(not (SHARED / "pennfudan").is_dir(), reason="needs the Penn-Fudan images (HEM_SHARED)")
def test_real_labels_and_real_video(tmp_path: Path) -> None:
    videos = SHARED / "mot" / "TUD-Stadtmitte"
    small = [one for one in SMALL if not one.startswith("data.")]
    arguments = [
        sys.executable, "-m", "hem.train", "+experiment=penn_fudan", f"data.root={SHARED / 'pennfudan'}",
        f"videos={videos}", "+data.limit=12", *small, f"hydra.run.dir={tmp_path / 'run'}",
        f"store_dir={tmp_path / 'store'}",
    ]  # fmt: skip
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    document = summary_of(tmp_path / "run")
    assert document["mining"]["frames"] == 179
    assert document["arms"]["continued"]["AP"] is not None
    assert document["arms"]["continued"]["recall"] is None  # no held-out video was given


def test_a_calibrated_run_trains_without_the_images_it_calibrates_on_and_goes_on(
    tmp_path: Path, worlds: Path
) -> None:
    asked = [
        "mining=pseudo_labels", "+mining.score_scale=calibrated", "mining.score_threshold=0",
        "calibration.share=0.5", "calibration.min_count=5", "arms=short",
    ]  # fmt: skip
    said = train(tmp_path / "a", tmp_path / "store", worlds, *asked)
    assert "calibration: 6/6" in said  # half of the twelve training images, never the test images
    stored = json.loads((tmp_path / "a" / "calibration.json").read_text())
    assert stored["kind"] == "calibrated" and stored["made_by"]["detector"]
    stages = read_stages(tmp_path / "a")
    again = train(tmp_path / "b", tmp_path / "store", worlds, *asked)
    assert "calibration: 6/6" not in again and "train baseline" not in again  # found, not made again
    assert json.loads((tmp_path / "b" / "calibration.json").read_text()) == stored
    train(tmp_path / "c", tmp_path / "store", worlds, *asked, "calibration.min_count=6")
    other = read_stages(tmp_path / "c")
    assert other["calibration"] != stages["calibration"]
    same = {name for name, path in stages["checkpoints"].items() if other["checkpoints"][name] == path}
    assert same == {"baseline", "continued"}  # arms that mine rest on the calibration
