"""``python -m hem.mine``: what is asked must be what is answered, and what cannot be is said at once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hem import export, mine
from hem.artifacts import load_examples, read_json, save_detections
from hem.cli import main as cli
from hem.mining.sources import read_detections
from hem.replay.stored import EXAMPLES
from hem.structures import Kind
from hem.video.manifest import probe
from hem.video.writer import write_video

FRAMES = 24


@pytest.fixture
def world(tmp_path):
    """A video with one steady object and one flicker, as a file and as a folder of images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 200, (12, 16, 3)), np.ones((10, 10, 1), dtype=np.int64))
    pictures = [(coarse + rng.integers(0, 30, coarse.shape)).astype(np.uint8) for _ in range(FRAMES)]
    write_video(tmp_path / "clip.mp4", iter(pictures), fps=10)
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "images" / f"{number:03d}.png")
    lines = []
    for frame in range(FRAMES):
        boxes = ["20 20 40 40 0.9"] + (["90 60 40 40 0.8"] if frame == 12 else [])
        lines += ["name", str(len(boxes)), *boxes]
    (tmp_path / "found.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def run(world, run_command):
    def call(*arguments, output="out") -> tuple[int, str]:
        return run_command(mine, f"output_dir={world / output}", "mining=temporal", *arguments)

    return call


def given(world, *more):
    return [f"videos={world / 'clip.mp4'}", f"detections={world / 'found.txt'}", *more]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("collect.match_side=32", "collect.match_side is 32"),
        ("collect.match_side=24", ""),
        ("collect.floor_score=0.3", "collect.floor_score is 0.3"),
        ("collect.window=9", "collect.window is 9"),
        ("collect.window=3", ""),  # what was collected holds that
        ("collect.iou_threshold=[0.2,0.4]", ""),
        ("collect.search_margin=100", "collect.search_margin is 100"),
        ("collect.still_s=1", "collect.still_s is 1"),
    ],
)
def test_evidence_that_was_collected_otherwise_is_not_taken(world, run, setting, said):
    assert run(*given(world))[0] == 0
    status, told = run(f"evidence={world / 'out'}", setting, output="other")
    assert (status, said in told) == (2 if said else 0, True)
    assert (world / "other" / "mining.json").exists() is not bool(said)


@pytest.mark.parametrize("name", ["videos", "frames", "checkpoint", "detections"])
def test_evidence_is_answered_without_a_source(world, run, name):
    assert run(*given(world))[0] == 0
    status, said = run(f"evidence={world / 'out'}", f"{name}={world / 'nothing'}", output="other")
    assert status == 2 and f"leave out {name}=" in said


@pytest.mark.parametrize(
    ("setting", "asked"),
    [("collect.window=9", 9), ("collect.max_gap=7", 7), ("collect.iou_threshold=[0.05,0.5]", "")],
)
def test_evidence_with_less_than_is_collected_now_is_refused(world, run, setting, asked):
    assert run(*given(world))[0] == 0
    status, said = run(*given(world, setting))
    assert status == 2 and f"{setting.split('=')[0]} is {asked}" in said and "remove" in said
    assert run(*given(world, "collect.window=7", "mining.window=7"))[0] == 0  # it holds that too


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("mining.score_threshold=2", "mining.score_threshold must be in 0..1 with score_scale=quantile"),
        ("mining.per_frame=0", "mining.per_frame must be > 0"),
        ("mining.window=9", "mining.window is 9"),
        ("mining.max_gap=99", "mining.max_gap is 99"),
        ("mining.iou_threshold=0.9", "mining.iou_threshold is 0.9"),
    ],
)
def test_what_could_never_be_answered_is_said_before_the_video_is_read(world, run, setting, said):
    status, told = run(*given(world, setting))
    assert status == 2 and said in told
    assert not (world / "out" / "evidence").exists()
    assert run(*given(world))[0] == 0  # as shipped it can


def test_frames_at_another_rate_are_another_video(world, run):
    source = [f"frames={world / 'images'}", f"detections={world / 'found.txt'}"]
    seconds = []
    for fps in (25, 5):
        assert run(*source, f"frames_fps={fps}")[0] == 0
        seconds.append(read_json(world / "out" / "mining.json", "mining")["videos"][0]["seconds"])
    assert seconds == pytest.approx([(FRAMES - 1) / 25, (FRAMES - 1) / 5])


def test_other_class_names_are_not_lost(world, run):
    assert run(*given(world))[0] == 0
    status, said = run(*given(world, "class_names=[person]"))
    assert status == 2 and "class_names=['person']" in said


def test_frames_that_only_the_detections_know_are_named(world, run):
    longer = (world / "found.txt").read_text() + "name\n0\n" * 6
    (world / "found.txt").write_text(longer)
    for preset in ("temporal", "paper"):
        assert run(*given(world, f"mining={preset}"), output=preset)[0] == 0
        (row,) = read_json(world / preset / "mining.json", "mining")["videos"]
        assert row["frames"] == FRAMES + 6
        assert row["gaps"] == [f"frames 24..29: the video has {FRAMES} frames, the detections tell of 30"]


@pytest.mark.parametrize("guard", ["auto", "always"])
@pytest.mark.parametrize("left_out", [1, 7, 8])
def test_a_video_that_goes_on_behind_its_detections_is_named(world, run, left_out, guard):
    lines = (world / "found.txt").read_text().splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if not line[0].isdigit()]
    (world / "found.txt").write_text("".join(lines[: starts[FRAMES - left_out]]))
    for preset in ("temporal", "paper"):
        for _ in range(2):  # a second time from the evidence that is kept
            assert run(*given(world, f"mining={preset}", f"video.guard={guard}"), output=preset)[0] == 0
            (row,) = read_json(world / preset / "mining.json", "mining")["videos"]
            tell = FRAMES - left_out
            assert row["frames"] == tell
            said = f"frames {tell}..end: the detections tell of {tell} frames, the video goes on"
            assert row["gaps"] == [said]


def test_paper_is_not_asked_below_what_the_detections_hold(world, run):
    found = read_detections(world / "found.txt", probe(world / "clip.mp4"))
    save_detections(world / "found.parquet", replace(found, floor_score=0.7))
    source = [f"videos={world / 'clip.mp4'}", f"detections={world / 'found.parquet'}", "mining=paper"]
    status, said = run(*source, "mining.score_threshold=0.6")
    assert status == 2 and "found.parquet says it holds nothing below 0.7" in said
    assert run(*source, "mining.score_threshold=0.7")[0] == 0


def test_removals_of_a_run_that_nobody_reviewed_are_honoured_elsewhere(world, run):
    assert run(*given(world))[0] == 0
    mined, _ = load_examples(world / "out" / EXAMPLES)
    (flicker,) = [one for one in mined if one.kind is Kind.HARD_NEGATIVE]
    status, said = run(*given(world), f"verdicts={world / 'out'}", output="other")
    assert status == 2 and f"{world / 'out'} holds neither" in said  # nothing was decided there yet
    cli(["drop", flicker.example_id, f"run_dir={world / 'out'}", "reason=an object", "who=me"])
    assert run(*given(world), f"verdicts={world / 'out'}", output="other")[0] == 0
    again, _ = load_examples(world / "other" / EXAMPLES)
    (same,) = [one for one in again if one.frame_index == 12 and one.box_xyxy == flicker.box_xyxy]
    assert same.kind is Kind.IGNORE


def test_frames_of_another_video_under_the_old_name_are_refused_and_those_kept_stay(world, run):
    assert run(*given(world, "keep_frames=true"))[0] == 0
    kept = sorted((world / "out" / "replay" / "round_001").rglob("*"))
    assert len(kept) > 3
    noise = np.random.default_rng(9).integers(0, 255, (FRAMES, 120, 160, 3), dtype=np.uint8)
    write_video(world / "clip.mp4", iter(noise), fps=10)
    status, said = run(f"evidence={world / 'out'}", "keep_frames=true")
    assert status == 2 and "clip.mp4 is not the video that was read before, by its content" in said
    assert sorted((world / "out" / "replay" / "round_001").rglob("*")) == kept
    (world / "clip.mp4").unlink()
    status, said = run(f"evidence={world / 'out'}", "keep_frames=true")
    assert status == 2 and "is not there" in said
    assert sorted((world / "out" / "replay" / "round_001").rglob("*")) == kept


def test_two_files_with_a_videos_detections_are_refused(world, run):
    (world / "found").mkdir()
    (world / "found" / "clip.txt").write_text((world / "found.txt").read_text())
    (world / "found" / "clip.json").write_text("\ufeff[]", encoding="utf-8")
    source = [f"videos={world / 'clip.mp4'}", f"detections={world / 'found'}"]
    status, said = run(*source)
    assert status == 2 and "clip.txt and " in said and "clip.json both hold detections of clip.mp4" in said
    (world / "found" / "clip.txt").unlink()
    assert run(*source)[0] == 0  # an empty list, with the mark that some editors write first


@pytest.mark.parametrize("name", ["score_threshold", "ncc_threshold", "max_score"])
def test_no_setting_of_paper_is_nan(world, run, name):
    status, said = run(*given(world, "mining=paper", f"mining.{name}=nan"))
    assert status == 2 and f"mining.{name} must be a number" in said


def test_detections_of_another_video_are_refused(world, run):
    write_video(
        world / "other.mp4", (np.full((120, 160, 3), t, dtype=np.uint8) for t in range(FRAMES)), fps=10
    )
    found = read_detections(world / "found.txt", probe(world / "other.mp4"))
    save_detections(world / "found.parquet", found)
    source = [f"videos={world / 'clip.mp4'}", f"detections={world / 'found.parquet'}"]
    status, said = run(*source)
    assert status == 2 and "detections of other.mp4" in said and "clip.mp4" in said
    save_detections(world / "found.parquet", replace(found, video=probe(world / "clip.mp4")))
    assert run(*source)[0] == 0


def test_kept_frames_are_those_of_the_last_call(world, run):
    kept = []
    for more in ((), (), ("mining.steadiness_threshold=0.0",)):
        assert run(*given(world, "keep_frames=true", *more))[0] == 0
        files = (world / "out" / "hard_examples.json", world / "out" / "replay/round_001/annotations.json")
        mined, last = (
            {
                one["example_id"]
                for one in json.loads(file.read_text())["annotations"]
                if one["kind"] != "ignore"
            }
            for file in files
        )
        assert last <= mined
        kept.append(last)
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_of_detections_is_named(world, run, text):
    (world / "found.txt").write_text(text)
    status, said = run(*given(world))
    assert status == 2 and "found.txt is empty" in said
    assert run(*given(world, "detections_format=mot"))[0] == 0  # no frame has a box
    status, said = run(f"videos={world / 'clip.mp4'}", f"detections={Path('/nothing.txt')}")
    assert status == 2 and "detections=/nothing.txt is not there" in said


def test_a_run_of_training_is_not_written_over(world, run):
    (world / "out").mkdir()
    (world / "out" / "stages.json").write_text("{}")
    status, said = run(*given(world))
    assert status == 2 and "holds a run of hem.train" in said
    assert [path.name for path in (world / "out").iterdir()] == ["stages.json"]


def test_what_is_missing_or_too_much_is_said(world, run):
    status, said = run(f"videos={world / 'clip.mp4'}")
    assert status == 2 and "neither was given" in said
    status, said = run(f"videos={world / 'clip.mp4'}", f"checkpoint={world}")
    assert status == 2 and "is a folder" in said


def test_export_refuses_frames_of_an_earlier_mining_and_names_the_round(world, run, run_command):
    replay = f"replay={world / 'out'}"
    assert run(*given(world, "keep_frames=true"))[0] == 0
    status, said = run_command(export, replay, f"output_dir={world / 'first'}")
    where = world / "out" / "replay" / "round_001"
    assert status == 0 and f"{where}: round 1, " in " ".join(said.split())
    other = "mining.per_frame=0.5"
    status, said = run(*given(world, other))
    assert status == 0 and f"{where} holds frames of an earlier call" in " ".join(said.split())
    for source in (replay, f"{replay}/replay", f"{replay}/replay/round_001"):
        status, said = run_command(export, source, f"output_dir={world / 'stale'}")
        assert status == 2 and "frames of an earlier mining" in said and "keep_frames=true" in said
        assert not (world / "stale").exists()
    status, said = run(*given(world, other, "keep_frames=true"))
    assert status == 0 and "of an earlier call" not in said
    assert run_command(export, replay, f"output_dir={world / 'again'}")[0] == 0


def test_one_class_may_be_named_without_brackets(world, run):
    assert run(*given(world, "class_names=person"))[0] == 0
    names = [one["name"] for one in read_json_of(world)["categories"]]
    assert names == ["person"]
    status, said = run(*given(world, "class_names=person,car"), output="two")
    assert status == 2 and "class_names=[person,car]" in said


def read_json_of(world):
    return json.loads((world / "out" / "hard_examples.json").read_text())


@pytest.mark.parametrize(
    ("factor", "settings", "said"), [(1, (), False), (50, (), True), (50, (40, 49), False)]
)
def test_paper_on_scores_of_another_scale_is_remarked_upon(world, run, factor, settings, said):
    lines = [
        " ".join([*line.split()[:4], str(factor * float(line.split()[4]))]) if line.count(" ") == 4 else line
        for line in (world / "found.txt").read_text().splitlines()
    ]
    (world / "found.txt").write_text("\n".join(lines) + "\n")
    names = ("mining.score_threshold", "mining.max_score")
    status, text = run(*given(world, "mining=paper"), *map("{}={}".format, names, settings))
    assert status == 0, text
    assert ("25 of the 25 detections over mining.score_threshold=0.8" in " ".join(text.split())) == said


def test_a_broken_file_of_detections_is_found_before_the_first_video_is_read(world, run):
    for name in ("one", "two"):
        (world / "many").mkdir(exist_ok=True)
        (world / "many" / f"{name}.mp4").write_bytes((world / "clip.mp4").read_bytes() + bytes(8 + len(name)))
        (world / f"{name}.txt").write_text((world / "found.txt").read_text())
    (world / "two.txt").write_text("frame1.jpg\n3\n1 2 3\n")
    for preset in ("paper", "temporal"):
        status, text = run(
            f"videos={world / 'many'}", f"detections={world}", f"mining={preset}", output=preset
        )
        assert status == 2 and "two.txt" in text, text
        assert not list((world / preset).rglob("detections.parquet"))
