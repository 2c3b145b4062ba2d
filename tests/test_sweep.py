"""Searching settings, comparing finished runs, and the commands around them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from hem.artifacts import write_json
from hem.compose import conf_dir
from hem.config import DropConfig, TrainConfig, WhyConfig, check
from hem.config_sweep import SettingConfig, SweepArguments, SweepFile
from hem.errors import HemError
from hem.launchers import missing_package
from hem.reporting.objectives import OBJECTIVES, check_objective, direction_of, objective_value
from hem.reporting.sweep_plots import heat_map, pictures
from hem.reporting.sweep_runs import read_sweep
from hem.reporting.sweep_summary import FOLDER, sweep_table, write_summary
from hem.sweep import TrainRun, grid_of, override_text, read_plan, search

ROOT = Path(__file__).parents[1]
STAGE = {"steps": 2}


def config(seed=0, **more) -> TrainConfig:
    values = {
        "name": "x", "seed": seed, "output_dir": "o", "store_dir": "s", "detector": {}, "data": {},
        "augment": {}, "video": {}, "mining": {"score_threshold": 0.5}, "collect": {}, "replay": {},
        "rounds": {},
        "arms": {"continued": {}, "both": {"mining": "default", "kinds": ["hard_negative"]}},
        "trainer": {"baseline": STAGE, "extra": STAGE}, "evaluation": {}, "logger": {},
    }  # fmt: skip
    return check(TrainConfig, values | more)


def finished(run: Path, ap: float | None, overrides=(), **more) -> None:
    write_json(run / "config.json", "config", {"config": config(**more).model_dump(mode="json")})
    arms = {name: {"AP": ap, "false_alarms_per_minute": None} for name in ("baseline", "continued", "both")}
    mining = {"hard_negatives": 7, "purity_hard_negatives": 0.9, "purity_hard_positives": None}
    write_json(run / "summary.json", "summary", {"arms": arms, "mining": mining})
    line = {"hard negative": {"count": [1.0, 50.0, 99.0], "purity": [1.0, 0.8, 0.7]}}
    write_json(run / "measured.json", "measured", {"purity_yield": line})
    if overrides:
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


# objectives ------------------------------------------------------------------------------------------


def test_objectives_by_name_and_by_figure():
    summary = {"arms": {"both": {"AP": 0.3, "recall": None}}, "mining": {"purity_hard_negatives": 0.9}}
    measured = {"purity_yield": {"hard negative": {"count": [1, 50, 99], "purity": [1.0, 0.8, 0.7]}}}
    value = lambda name, **more: objective_value(name, config(), summary, measured, **more)  # noqa: E731
    assert (value("AP"), value("both.AP"), value("mining.purity_hard_negatives")) == (0.3, 0.3, 0.9)
    assert value("recall_at_equal_false_alarms") is None  # not measured is not 0
    assert [value("purity_at_yield", yield_count=n) for n in (1, 50, 51, 99, 100)] == [
        1.0,
        0.8,
        0.7,
        0.7,
        None,
    ]
    assert objective_value("purity_at_yield", config(), summary, {"purity_yield": {}}) is None
    for wrong in ("neither.AP", "both.APP", "both"):
        with pytest.raises(HemError, match="objective="):
            value(wrong)


def test_a_mistyped_objective_is_found_before_training():
    with pytest.raises(HemError, match="did you mean 'purity_at_yield'"):
        check_objective("purity_at_yeild", ["both"])
    with pytest.raises(HemError, match=r"arm\.figure"):
        check_objective("none.AP", ["both"])
    for name in (*OBJECTIVES, "both.AP", "baseline.AP", "mining.hard_negatives"):
        check_objective(name, ["both"])
    found = [
        direction_of(name)
        for name in ("false_alarms_at_equal_recall", "both.AP", "both.odd", "mining.purity_x")
    ]
    assert found == ["minimize", "maximize", None, "maximize"]


# summaries -------------------------------------------------------------------------------------------


def test_rows_are_settings_over_seeds_best_first(tmp_path: Path):
    for number, (threshold, seed, ap) in enumerate(
        [(0.3, 0, 0.2), (0.3, 1, 0.4), (0.5, 0, 0.5), (0.7, 0, None)]
    ):
        finished(
            tmp_path / str(number),
            ap,
            [f"mining.score_threshold={threshold}", "x=1", f"seed={seed}"],
            seed=seed,
        )
    write_json(tmp_path / "9" / "config.json", "config", {"config": {}})
    sweep = read_sweep(tmp_path, "AP")
    assert sweep.keys == ("mining.score_threshold",)
    assert [row.settings["mining.score_threshold"] for row in sweep.rows] == [0.5, 0.3, 0.7]
    assert [row.value for row in sweep.rows] == [0.5, pytest.approx(0.3), None]
    assert sweep.rows[1].spread == pytest.approx(0.1414, abs=1e-4)
    assert len(sweep.unfinished) == 1
    lowest = read_sweep(tmp_path, "both.AP", "minimize")
    assert lowest.rows[0].value == pytest.approx(0.3)
    assert "not finished" in str(sweep_table(sweep).caption)


def test_without_command_lines_whole_configurations_are_compared(tmp_path: Path):
    finished(tmp_path / "a", 0.2, mining={"score_threshold": 0.4, "x": [1]})
    finished(tmp_path / "b", 0.3, ["mining.score_threshold=9"], mining={"score_threshold": 0.6, "x": [2]})
    sweep = read_sweep(tmp_path, "AP")
    assert sweep.keys == ("mining.score_threshold", "mining.x")
    assert dict(sweep.rows[0].settings) == {"mining.score_threshold": 0.6, "mining.x": "[2]"}


def test_what_cannot_be_compared_is_said(tmp_path: Path):
    with pytest.raises(HemError, match="no finished run"):
        read_sweep(tmp_path)
    finished(tmp_path / "a", 0.2)
    with pytest.raises(HemError, match="give objective=NAME"):
        read_sweep(tmp_path)
    with pytest.raises(HemError, match="give direction="):
        read_sweep(tmp_path, "mining.hard_negatives")


def test_pictures_and_the_best_as_a_file_that_composes(tmp_path: Path):
    number = 0
    for threshold in (0.3, 0.4, 0.5):
        for name in ("small", '<svg onload="x">_$a$'):
            ap = None if (threshold, name) == (0.3, "small") else threshold
            finished(tmp_path / str(number), ap, [f"m.t={threshold}", f"detector={name}"], objective="AP")
            number += 1
    sweep = read_sweep(tmp_path)
    command = write_summary(tmp_path, sweep)
    folder = tmp_path / FOLDER
    drawn = sorted(path.name for path in folder.glob("*.svg"))
    assert drawn == [
        "heat_map_m_t_detector.svg",
        "over_detector.svg",
        "over_m_t.svg",
        "parallel_coordinates.svg",
    ]
    assert all("<svg onload" not in (folder / name).read_text() for name in drawn)
    assert len(json.loads((folder / "sweep.json").read_text())["rows"]) == 6
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["seed"] == 0 and best["name"].startswith("best_of_") and command is not None
    assert f"--config-dir={folder.resolve()} --config-name=best" in command
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_summary(tmp_path, sweep)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(HemError, match="does not differ"):
        heat_map(sweep, "m.t", "other")
    empty = replace(sweep, rows=tuple(row for row in sweep.rows if row.value is None))
    assert pictures(empty) == {} and write_summary(tmp_path, empty) is None


# searching -------------------------------------------------------------------------------------------

PLAN = {
    "objective": "AP", "trials": 12, "seeds": [0, 1, 2], "startup_trials": 3,
    "space": {
        "a": {"low": 0, "high": 1}, "b": {"choices": ["x", "y"]}, "c": {"low": 1, "high": 9, "step": 2},
    },
}  # fmt: skip


class Made:
    """Stands for training: a figure that follows from the settings alone."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: list[tuple[dict, int, Path]] = []
        self.stop_after = stop_after

    def __call__(self, settings, seed, run):
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((dict(settings), seed, run))
        return settings["a"] + (settings["b"] == "x") + 0.001 * seed


def plan(**more) -> SweepFile:
    return check(SweepFile, PLAN | more)


def test_search_prunes_and_goes_on_after_a_kill(tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the extra hem-video[sweep]")
    first = Made(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        search(plan(), tmp_path, first, lambda line: None)
    interrupted = first.calls[-1]
    said: list[str] = []
    second = Made()
    search(plan(), tmp_path, second, said.append)
    assert second.calls[0][0] == interrupted[0]  # the trial that was cut short comes first
    trials: dict[Path, list[int]] = {}
    for _, seed, run in second.calls:
        trials.setdefault(run.parent, []).append(seed)
    assert any(line.endswith("pruned") for line in said)
    assert any(seeds == [0] or seeds == [0, 1] for seeds in trials.values())  # pruned between seeds
    assert all(seeds == list(range(len(seeds))) for seeds in trials.values())
    assert {type(settings["c"]) for settings, *_ in second.calls} == {int}
    assert all(settings["c"] in (1, 3, 5, 7, 9) for settings, *_ in second.calls)
    third = Made()
    search(plan(), tmp_path, third, said.append)
    assert third.calls == []  # twelve trials are there
    search(plan(trials=13), tmp_path, third, said.append)
    assert third.calls
    with pytest.raises(HemError, match="another sweep"):
        search(plan(seeds=[0]), tmp_path, third, said.append)


def test_steps_give_plain_numbers(tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the extra hem-video[sweep]")
    made = Made()
    space = {"a": {"low": 0.2, "high": 0.6, "step": 0.05}, "b": {"choices": ["x"]}}
    search(plan(seeds=[0], space=space, trials=12), tmp_path, made, lambda line: None)
    assert all(len(str(settings["a"])) <= 4 for settings, *_ in made.calls)  # not 0.35000000000000003


def test_a_grid_ends_with_its_last_value(tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the extra hem-video[sweep]")
    made, said = Made(), []
    space = {"a": {"low": 0, "high": 0.3, "step": 0.1}, "b": {"choices": ["x", "y"]}}
    search(plan(sampler="grid", seeds=[0], space=space, trials=99), tmp_path, made, said.append)
    assert len(made.calls) == 8 == len({json.dumps(settings) for settings, *_ in made.calls})
    assert "nothing is pruned" in said[0]
    with pytest.raises(HemError, match="needs a step for a"):
        grid_of({"a": SettingConfig(low=0, high=1)})


def test_failures_are_borne_a_few_times(tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the extra hem-video[sweep]")
    calls = []

    def broken(settings, seed, run):
        calls.append(run)
        raise RuntimeError("out of memory")

    with pytest.raises(HemError, match=r"3 trials failed .* out of memory"):
        search(plan(), tmp_path / "a", broken, lambda line: None)
    assert len(calls) == 3
    with pytest.raises(HemError, match="gave no AP"):
        search(plan(), tmp_path / "b", lambda settings, seed, run: None, lambda line: None)


def test_settings_reach_the_command_line_whole(tmp_path: Path):
    odd = "it's a=b, ${x} [c]\\"
    command = TrainRun(plan(overrides=["+experiment=quickstart"])).command(
        {"mining.score_threshold": 0.30000000000000004, "flag": True, "videos": odd}, 3, tmp_path / "a b"
    )
    assert command[1:4] == ["-m", "hem.train", "+experiment=quickstart"]
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(command[4:])}
    assert parsed["mining.score_threshold"] == 0.30000000000000004 and parsed["flag"] is True
    assert str(parsed["videos"]) == odd and parsed["seed"] == 3
    assert str(parsed["hydra.run.dir"]) == str(tmp_path / "a b")
    assert override_text("small_fcos") == "small_fcos"


@pytest.mark.parametrize(
    "text",
    [
        "a\\b",
        "C:\\videos\\d",
        "it's\\'",
        "x\\",
        "null",
        "True",
        "1e3",
        "007",
        "-.5",
        "é.mp4",
        "a b",
        "",
        "inf",
    ],
)
def test_texts_arrive_as_they_are(text: str):
    found = OverridesParser.create().parse_override(f"videos={override_text(text)}").value()
    assert str(found) == text and not isinstance(found, bool | int | float)


@pytest.mark.parametrize("path", sorted((conf_dir() / "sweep").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_file_fits(path: Path):
    found = read_plan(path.stem)
    assert found == read_plan(str(path))
    check_objective(found.objective, ["x"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"space": {"a": {"low": 1}}}, "both low and high"),
        ({"space": {"a": {"low": 1, "high": 1}}}, "below high"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "log needs"), ({"space": {}}, "space"),
        ({"space": {"a": {"choices": []}}}, "choices"), ({"trails": 3}, "did you mean 'trials'"),
    ],
)  # fmt: skip
def test_wrong_sweeps_are_named(values, words):
    with pytest.raises(HemError, match=words):
        plan(**values)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "sweeps").glob("*.yaml")), ids=lambda p: p.stem
)
def test_wandb_sweeps_name_settings_that_exist(path: Path):
    document = yaml.safe_load(path.read_text())
    assert document["command"][1:5] == ["${interpreter}", "-m", "hem.train", "${args_no_hyphens}"]
    assert document["metric"]["goal"] in ("minimize", "maximize")
    from hydra import compose, initialize_config_dir

    from hem.compose import plain

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tried = {key: [*one.get("values", ()), one.get("value"), one.get("min")]
                 for key, one in document["parameters"].items()}  # fmt: skip
        first = [
            f"{key}={override_text(next(v for v in found if v is not None))}" for key, found in tried.items()
        ]
        values = plain(compose("train", [*first, "output_dir=o"]))
    check(TrainConfig, values)
    arm, _, figure = document["metric"]["name"].partition("/")
    assert arm in (*values["arms"], "mining") and figure


# launchers and the command -----------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hem", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_launchers_compose_and_a_missing_one_is_said():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
            config = compose("train", [f"hydra/launcher={path.stem}"], return_hydra_config=True)
            assert config.hydra.launcher._target_.startswith("hydra_plugins.")
    assert missing_package("hydra._internal.core_plugins.basic_launcher.BasicLauncher") is None
    assert missing_package("hydra_plugins.hydra_nowhere.x.Y") == "hydra_nowhere"


def test_a_missing_launcher_ends_the_command_with_one_line():
    if missing_package("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher") is None:
        pytest.skip("the slurm launcher is installed")
    result = run("train", "-m", "+experiment=quickstart", "hydra/launcher=slurm", "seed=0,1")
    assert result.returncode == 2 and "hem-video[slurm]" in result.stderr and "Traceback" not in result.stderr


def test_the_command_names_its_parts():
    result = run("--help")
    assert result.returncode == 0 and all(
        f"  {name} " in result.stdout for name in ("train", "why", "review", "sweep")
    )
    wrong = run("tran")
    assert wrong.returncode == 2 and "did you mean 'train'" in wrong.stderr
    assert "reason" in run("drop", "--help").stdout


def test_arguments_are_taken_literally():
    from hem.arguments import read_arguments

    drop = read_arguments(DropConfig, ["a=b c's.mp4", "run_dir=/x=y"], "what")
    assert (drop.what, drop.run_dir) == ("a=b c's.mp4", "/x=y")
    assert (
        read_arguments(WhyConfig, ["5838e83710209384", "run_dir=null"], "example").example
        == "5838e83710209384"
    )
    sweep = read_arguments(SweepArguments, ["s", "trials=3", "--", "-x", "trials=9"], "sweep")
    assert (sweep.trials, sweep.overrides) == (3, ("-x", "trials=9"))
    for wrong, words in ((["a", "b"], "unknown argument 'b'"), (["what=a", "what=b"], "twice"),
                         ([], "missing"),
                         (["a", "run_dri=x"], "did you mean 'run_dir'")):  # fmt: skip
        with pytest.raises(HemError, match=words):
            read_arguments(DropConfig, wrong, "what")
