"""The command line as a user meets it: what is wrong is said in one message that names it and the way out."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hem.command_line import (
    check_overrides,
    choices,
    completion_script,
    composed,
    files,
    help_text,
    rows_of,
    signed,
)
from hem.compose import conf_dir, entry, group_file
from hem.config import TrainConfig, check, suggest
from hem.errors import HemError
from hem.instantiate import instantiate, locate
from hem.quotes import quoted

ROOT = Path(__file__).parents[1]


def run(command: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"hem.{command}", *overrides],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def said(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    return result.stderr + result.stdout


def test_a_folder_without_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    where = tmp_path / "empty"
    where.mkdir()
    result = run("train", "+experiment=quickstart", f"videos={where}", f"hydra.run.dir={tmp_path / 'run'}")
    assert str(where) in said(result)


def test_a_folder_of_unreadable_videos_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video at all")
    (tmp_path / "b.mp4").write_bytes(b"")
    result = run("train", "+experiment=quickstart", f"videos={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    assert "a.mp4" in said(result)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainr.baseline.steps=3", ["trainr"]),
        ("trainer.baseline.stps=3", ["stps"]),
        ("+detector.backbon=x", ["detector.backbon", "backbone"]),
        ("detector=no_such_net", ["no_such_net", "small_retinanet"]),
        ("+mining.score_thresh=1", ["mining.score_thresh", "score_threshold"]),
        ("replay.share=2", ["replay.share"]),
        ("trainer.baseline.steps=few", ["trainer.baseline.steps"]),
        ("control=nothing", ["nothing", "continued"]),
        ("detector._target_=hem.detectors.retinanet.Retina", ["Retina"]),
        ("detector._target_=os.system", ["os.system", "not a Detector"]),
        ("checkpoint=/no/such/file.pt", ["/no/such/file.pt"]),
        ("objective=flickers", ["objective"]),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, override: str, words: list[str]) -> None:
    small = ["data.n_train=4", "data.n_test=2", "data.n_unlabelled_videos=1", "data.n_heldout_videos=0"]
    if override.startswith("objective"):
        pytest.skip("found only when the run has its figures")
    result = run("train", "+experiment=quickstart", f"hydra.run.dir={tmp_path / 'run'}", *small, override)
    text = said(result)
    for word in words:
        assert word in text


def test_missing_settings_are_asked_for() -> None:
    assert "output_dir=" in said(run("mine"))


def test_the_nearest_key_is_suggested() -> None:
    with pytest.raises(HemError, match=r"unknown key 'replay\.shar'; did you mean 'share'"):
        check(TrainConfig, {"replay": {"shar": 1}})
    assert suggest("zzz", ["b", "a"]) == "; known: a, b"


def test_targets_must_be_of_the_kind_expected() -> None:
    from hem.detectors.protocol import Detector

    with pytest.raises(HemError, match="no module 'nowhere'"):
        locate("nowhere.Thing", "detector", Detector)
    with pytest.raises(HemError, match="is not a Detector"):
        locate("pathlib.Path", "detector", Detector)
    with pytest.raises(HemError, match="is not a part of hem"):
        instantiate({"_target_": "subprocess.run", "args": ["true"]}, "augment")


def test_nested_targets_outside_hem_are_refused() -> None:
    node = {"_target_": "hem.data.augment.Augment", "transforms": [{"_target_": "os.getcwd"}]}
    with pytest.raises(HemError, match=r"augment\.transforms\[0\]"):
        instantiate(node, "augment")


def test_every_group_file_is_found_and_a_wrong_name_lists_them() -> None:
    assert group_file("mining", "paper")["_target_"].endswith("Paper")
    with pytest.raises(HemError, match="did you mean 'paper'"):
        group_file("mining", "papr")
    assert (conf_dir() / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("replay.shar=0.3", "unknown key 'replay.shar'; did you mean 'share'?"),
        ("minning=hem", "unknown key 'minning'; did you mean 'mining'?"),
        ("sed=1", "unknown key 'sed'; did you mean 'seed'?"),
        (
            "trainer.baseline.optim.learning_rate=1",
            "unknown key 'trainer.baseline.optim.learning_rate'; known:",
        ),
        ("detector=small_retinane", "no detector=small_retinane; did you mean 'small_retinanet'?"),
        ("+experiment=quickstrt", "no experiment=quickstrt; did you mean 'quickstart'?"),
        ("experiment=quickstart", r"add one with \+experiment=quickstart"),
        ("mining.ncc_thresh=0.4", "unknown key 'mining.ncc_thresh'; did you mean 'ncc_threshold'?"),
        ("arms.continued.sofd=true", "unknown key 'arms.continued.sofd'"),
        ("arm.continued.soft=true", "unknown key 'arm'; did you mean 'arms'?"),
        ("detecto=small_fcos,small_ssdlite", "unknown key 'detecto'; did you mean 'detector'?"),
    ],
)
def test_a_mistyped_key_suggests_the_right_one(override: str, words: str) -> None:
    with pytest.raises(HemError, match=words):
        check_overrides("train", ["seed=1", override])


def test_a_key_that_the_chosen_files_do_not_name_needs_no_plus() -> None:
    given = [
        "mining=paper",
        "mining.window=3",
        "mining.score_threshold=0.7",
        "-m",
        "collect.paper_min_area=9",
    ]
    put = [
        "mining=paper",
        "++mining.window=3",
        "mining.score_threshold=0.7",
        "-m",
        "++collect.paper_min_area=9",
    ]
    assert signed("mine", given) == put
    assert "mining.window=3\n" in help_text("mine", ["mining=paper", "mining.window=3"], "")
    swept = signed("train", ["-m", "arms.continued.soft=true,false"])
    assert swept == ["-m", "++arms.continued.soft=true,false"]
    assert signed("mine", ["mining=paper", "mining.window=ü"])[1] == "++mining.window='ü'"


@pytest.mark.parametrize(
    "value",
    [
        "/tmp/üb.mp4",
        "/tmp/a(1).mp4",
        "a=b.mp4",
        "it's #1 & more.mp4",
        "/tmp/tout ä b, c",
        r"C:\new\é" + "\\",
        r"\'é",
    ],
)
def test_a_path_needs_no_quotes_of_its_own(value: str) -> None:
    for argument in (f"videos={value}", f"+videos={value}"):
        (found,) = quoted([argument])
        assert found != argument and OverridesParser.create().parse_override(found).value() == value
    put = signed("mine", [f"videos={value}"])
    assert OmegaConf.to_container(composed("mine", put))["videos"] == value  # type: ignore[index,call-overload]


def test_a_comma_is_part_of_a_path_where_that_makes_sense(tmp_path: Path) -> None:
    clip = tmp_path / "a,b.mp4"
    clip.touch()
    assert quoted([f"videos={clip}", f"output_dir={tmp_path}/x,y"]) == [
        f"videos='{clip}'",
        f"output_dir='{tmp_path}/x,y'",
    ]
    for flags in (["-m"], ["--multirun"], ["hydra.mode=MULTIRUN"]):
        given = [*flags, f"videos={clip}", "seed=1,2"]
        assert quoted(given) == given
    with pytest.raises(HemError, match=r"seed=1,2 is several values.*\[1,2\].*add -m"):
        quoted(["seed=1,2"])
    assert "seed=1\n" in help_text("train", ["seed=1,2"], "")


def test_what_hydra_reads_itself_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "videos=[a.mp4,b.mp4]",
        "arms={a:1,b:2}",
        "videos='/tmp/ü, b'",
        'videos="ü"',
        "seed=range(1,3)",
        "seed=choice(1,2)",
        "data.root=${oc.env:HOME}/x",
        "~arms.flickers",
        "name=",
        "-x=ü",
    ]
    assert quoted(given) == given
    for wrong in ("videos=[a(1).mp4,b]", "videos='a' b", "ü=3", "seed=choice(ü,b)"):
        with pytest.raises(HemError, match="Hydra cannot read") as caught:
            quoted([wrong])
        assert wrong in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(HemError, match=r"cannot read videos=ü,b .*quote texts"):
        quoted(["-m", "videos=ü,b"])
    monkeypatch.chdir(tmp_path)
    Path("[a](1).mp4").touch()
    assert quoted(["videos=[a](1).mp4"]) == ["videos='[a](1).mp4'"]


def test_the_command_takes_such_paths(tmp_path: Path) -> None:
    clip = tmp_path / "ü (1), x=y.mp4"
    given = ["mining=hem", f"videos={clip}", f"output_dir={tmp_path / 'tout ä b'}", "checkpoint=none"]
    result = run("mine", *given, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    shown = OmegaConf.create(result.stdout)
    assert (shown.videos, shown.output_dir) == (str(clip), str(tmp_path / "tout ä b"))
    result = run("mine", "videos=[a(1).mp4,b]")
    assert result.returncode == 2
    assert said(result).startswith("hem: configuration: Hydra cannot read videos=[a(1).mp4,b] (")
    assert len(said(result).splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (HemError("no such thing"), 2, "hem: no such thing"),
        (
            NotADirectoryError(20, "Not a directory", "/a/file/evidence"),
            2,
            "/a/file/evidence: Not a directory",
        ),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_put_right_ends_a_command_in_one_line(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @entry("mine")
    def main(values: dict[str, object]) -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(sys, "argv", ["hem.mine", "output_dir=somewhere"])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert words in said and len(said.splitlines()) == 1


def complaint(command: str, arguments: list[str]) -> str | None:
    try:
        check_overrides(command, arguments)
    except HemError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "overrides",
    [
        ["+experiment=quickstart", "+arms.flickers.soft=true", "~arms.flickers_and_gaps"],
        ["-m", "detector=small_fcos,small_ssdlite", "mining.score_threshold=0.3,0.4"],
        ["hydra.run.dir=elsewhere", "videos=/a/folder,with a comma"],
        ["+mining.window=4", "++replay.share=0.3", "mining@collect=collect"],
        ["--config-dir=/other/place", "nothing_here=3"],
    ],
)
def test_what_is_right_passes(overrides: list[str]) -> None:
    assert complaint("train", overrides) is None


def test_every_command_of_the_readme_is_accepted() -> None:
    for line in (
        "mine videos=V checkpoint=F mining=hem output_dir=D",
        "mine videos=V detections=F mining=paper output_dir=D",
        "mine evidence=D mining=hem mining.score_threshold=0.5 output_dir=O",
        "detect videos=V checkpoint=F output_dir=D overlay=true",
        "evaluate protocol=wider_face predictions=P ground_truth=G",
        "evaluate protocol=coco checkpoint=F +data=penn_fudan data.root=D",
        "report run_dir=D",
        "convert data=wider_face data.root=D output_dir=O",
        "train name=mine data=coco data.root=D data.train_annotations=t data.test_images=i videos=V "
        "trainer=gpu detector=faster_rcnn_mobilenet detector.weights=F",
        "train -m +experiment=quickstart mining.score_threshold=0.3,0.4 detector=small_fcos,small_ssdlite",
    ):
        command, *given = line.split()
        assert complaint(command, given) is None


def test_a_mistyped_key_ends_the_command_before_anything_is_made(tmp_path: Path) -> None:
    result = run("mine", "minning=hem", f"output_dir={tmp_path / 'out'}")
    assert result.returncode == 2
    assert said(result).strip() == "hem: configuration: unknown key 'minning'; did you mean 'mining'?"
    assert not (tmp_path / "out").exists()


COMMANDS = ["train", "mine", "detect", "report", "review"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_setting(command: str) -> None:
    unexplained = [row.key for row in rows_of(command) if not row.meaning or not row.default]
    assert unexplained == []


def test_help_shows_value_range_and_unit() -> None:
    text = help_text("train", ["detector=small_fcos", "replay.share=0.25"], "Do it.")
    assert "replay.share=0.25\n" in text
    assert "(number, >= 0, < 1)" in text
    assert "detector._target_=hem.detectors.fcos.FCOS" in text
    assert "video.stall_s=30\n" in text and "seconds" in text.split("video.stall_s=30")[1].split("\n")[1]
    assert "mining.negative_response=0.4" in text  # from the constructor's docstring
    assert "hard negative. Higher: more, less pure." in text.replace("\n      ", " ")
    assert max(len(line) for line in text.split("\n") if "transforms" not in line) <= 110


def test_help_of_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(HemError, match="did you mean 'share'"):
        help_text("train", ["replay.shar=1"], "")


def test_help_comes_from_the_command_itself() -> None:
    result = run("report", "--help")
    assert result.returncode == 0
    assert "run_dir=needed" in result.stdout
    assert "Hydra (" in run("report", "--hydra-help").stdout


def test_choices() -> None:
    assert choices("train", "detector=small_f", []) == ["detector=small_faster_rcnn", "detector=small_fcos"]
    assert choices("train", "replay.s", []) == ["replay.share=", "replay.soft="]
    assert choices("train", "+exp", []) == ["+experiment="]
    assert "+mining.border_margin=" in choices("train", "+mining.b", ["mining=paper"])
    assert "videos=" in choices("mine", "vid", []) and "trainer." not in choices("mine", "", [])
    assert choices("train", "zzz", []) == []


def test_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "clips").mkdir()
    found = [f"videos={tmp_path}/clip.mp4", f"videos={tmp_path}/clips/"]
    assert files(f"videos={tmp_path}/cl") == found
    assert files("videos") == files(f"videos={tmp_path}/nothing/there") == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("python -m hem.train detector=small_s", ["detector=small_ssdlite"]),
        ("python -m hem.train +experiment=quickstart replay.sh", ["replay.share="]),
        ("hem mine mining=p", ["mining=paper", "mining=pseudo_labels"]),
        ("hem rep", ["report"]),
        ("python -m hem.rep", ["hem.report"]),
        ("python train.py detector=small_s", []),
    ],
)
def test_bash_completes(typed: str, offered: list[str]) -> None:
    asked = f"COMP_LINE={shlex.quote(typed)}; COMP_POINT={len(typed)}; _hem_complete; "
    asked += "printf '%s\\n' \"${COMPREPLY[@]}\""
    result = subprocess.run(
        ["bash", "--norc", "-c", completion_script() + asked], capture_output=True, text=True, cwd=ROOT
    )
    assert [line for line in result.stdout.split("\n") if line] == offered, result.stderr


def test_the_completion_script_is_printed_by_the_command() -> None:
    result = run("report", "-sc", "install=bash")
    assert result.returncode == 0
    assert result.stdout.strip() == completion_script().strip()
    assert subprocess.run(["bash", "-n"], input=result.stdout, text=True).returncode == 0
