"""``python -m hem.sweep NAME [-- overrides]``: search settings of hem.train with Optuna.

Each trial is one setting; it is run once for each seed, and the mean of the objective counts. Between
seeds a trial that falls behind is pruned. Every run is a hem.train of its own process in
``output_dir/trial_000/seed_0``; runs share baselines and evidence through ``store_dir``. The study is
kept in ``output_dir/study.journal``, so the same command goes on where it was stopped.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hem.arguments import command
from hem.artifacts import digest_of, read_json
from hem.artifacts.places import require_writable
from hem.compose import EXIT_USER_ERROR, group_file
from hem.config import TrainConfig, check
from hem.config_sweep import SettingConfig, SweepArguments, SweepFile
from hem.errors import HemError
from hem.quotes import in_quotes
from hem.reporting.objectives import direction_of, objective_value
from hem.reporting.steps import Steps
from hem.reporting.sweep_runs import read_sweep
from hem.reporting.sweep_summary import FOLDER, sweep_table, write_summary

JOURNAL = "study.journal"
_NO_TEXTS = ("null", "true", "false", "nan", "inf")  # Hydra reads these as something else
_MOST_FAILURES = 3  # one after the other; then something is wrong with all of them
Run = Callable[[Mapping[str, Any], int, Path], float | None]
"""(settings, seed, run directory) -> objective, None if it was not measured."""


@command(SweepArguments, "hem sweep NAME|FILE [trials=N] [output_dir=DIR] [-- hem.train overrides]", "sweep")
def main(config: SweepArguments) -> None:
    """Search settings of hem.train with Optuna; the same command goes on where it was stopped."""
    plan = read_plan(config.sweep)
    if config.trials is not None:
        plan = plan.model_copy(update={"trials": config.trials})
    plan = plan.model_copy(update={"overrides": (*plan.overrides, *config.overrides)})
    root = Path(config.output_dir or f"runs/sweeps/{Path(config.sweep).stem}")
    require_writable(root, "output_dir")
    with Steps() as steps:
        search(plan, root, TrainRun(plan), steps.say)
        sweep = read_sweep(root, plan.objective, plan.direction, plan.objective_yield)
        best = write_summary(root, sweep)
        steps.show(sweep_table(sweep))
        steps.say(f"pictures and sweep.json are in {root / FOLDER}")
        steps.say(f"no run has {plan.objective}" if best is None else f"run the best again with: {best}")


def read_plan(name: str) -> SweepFile:
    """Return a sweep by the name of its file in ``conf/sweep``, or by path.

    Raises:
        HemError: if there is no such file, or something in it does not fit.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return check(SweepFile, group_file("sweep", name))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HemError(f"sweep={name} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise HemError(f"{name} is not readable YAML: {str(error).splitlines()[0]}") from None
    return check(SweepFile, values if isinstance(values, dict) else {})


class TrainRun:
    """Runs hem.train in a process of its own, so that a trial that dies takes nothing with it."""

    def __init__(self, plan: SweepFile) -> None:
        self.plan = plan

    def command(self, settings: Mapping[str, Any], seed: int, run: Path) -> list[str]:
        """Return the command line of one run."""
        chosen = [f"{key}={override_text(value)}" for key, value in settings.items()]
        own = [
            f"seed={seed}",
            f"objective={self.plan.objective}",
            f"objective_yield={self.plan.objective_yield}",
            f"hydra.run.dir={override_text(str(run))}",
        ]
        return [sys.executable, "-m", "hem.train", *self.plan.overrides, *chosen, *own]

    def __call__(self, settings: Mapping[str, Any], seed: int, run: Path) -> float | None:
        """Run to the end, output into ``log.txt``; see Run.

        Raises:
            HemError: with the run's own message if its settings are wrong.
            RuntimeError: if it ended otherwise.
        """
        run.mkdir(parents=True, exist_ok=True)
        log = run / "log.txt"
        with log.open("w", encoding="utf-8") as stream:
            done = subprocess.run(
                self.command(settings, seed, run), stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line]
            last = lines[-1] if lines else "it said nothing"
            if done.returncode == EXIT_USER_ERROR:
                raise HemError(f"{log}: {last}")
            raise RuntimeError(f"{log}: {last}")
        config = check(TrainConfig, read_json(run / "config.json", "config")["config"])
        summary, measured = (
            read_json(run / "summary.json", "summary"),
            read_json(run / "measured.json", "measured"),
        )
        return objective_value(self.plan.objective, config, summary, measured)


def override_text(value: object) -> str:
    """Return a value as Hydra's grammar reads it back; texts are quoted where they need it."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    plain = re.fullmatch(r"[A-Za-z_][\w\-./]*", value, re.ASCII)
    return value if plain and value.lower() not in _NO_TEXTS else in_quotes(value)


def search(plan: SweepFile, root: Path, run: Run, say: Callable[[str], None]) -> None:
    """Try settings until the study holds ``plan.trials`` of them, those of earlier calls included.

    Args:
        plan: the sweep.
        root: where the study and the runs lie.
        run: does one run.
        say: told of every trial.

    Raises:
        HemError: if Optuna is not installed, the folder holds another sweep, or trials keep failing.
    """
    optuna = _optuna()
    study = _study(optuna, plan, root)
    if plan.pruner != "none" and len(plan.seeds) == 1:
        say("one seed: nothing is pruned, since trials are compared between seeds")
    failures = 0
    _take_up(optuna, study)
    space = {key: _distribution(optuna, setting) for key, setting in plan.space.items()}
    wanted = plan.trials
    if plan.sampler == "grid":
        grid = grid_of(plan.space)
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)
        wanted = min(wanted, len(points))
    while _finished(optuna, study) < wanted:
        trial = study.ask(space)
        folder = root / f"trial_{trial.number:03d}"
        shown = ", ".join(f"{key}={value}" for key, value in chosen_by(trial).items())
        say(f"trial {trial.number}: {shown}")
        try:
            value, pruned = _try(plan, trial, run, folder)
        except (HemError, RuntimeError) as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if isinstance(error, HemError) and not _finished(optuna, study):
                raise  # nothing of this sweep ever worked: a setting that every trial shares is wrong
            failures += 1
            say(f"trial {trial.number} failed: {error}")
            if failures >= _MOST_FAILURES:
                raise HemError(
                    f"{failures} trials failed one after the other; the last said: {error}"
                ) from None
            continue
        failures = failures + 1 if value is None else 0
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif value is None:  # not measured: never the best, and nothing to learn from
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if failures >= _MOST_FAILURES:
                raise HemError(
                    f"{failures} trials gave no {plan.objective}; see {folder}, or choose another objective"
                )
        else:
            study.tell(trial, value)
        outcome = "pruned" if pruned else "not measured" if value is None else f"{plan.objective} {value:.4g}"
        say(f"trial {trial.number}: {outcome}")


def _optuna() -> Any:  # noqa: ANN401
    try:
        import optuna
    except ImportError:
        raise HemError("hem.sweep needs Optuna: pip install 'hem-video[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: Any, plan: SweepFile, root: Path) -> Any:  # noqa: ANN401
    """Open the folder's study, or make it; a study of other settings is refused."""
    direction = plan.direction or direction_of(plan.objective)
    if direction is None:
        raise HemError(
            f"objective={plan.objective} does not say which way is better; give direction: in the sweep"
        )
    root.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(root / JOURNAL)))
    what = plan.model_dump(
        mode="json", exclude={"trials", "startup_trials", "sampler_seed", "pruner", "sampler"}
    )
    digest = digest_of(what)
    study = optuna.create_study(
        storage=storage,
        study_name="hem",
        direction=direction,
        load_if_exists=True,
        pruner=_pruner(optuna, plan),
    )
    known = study.user_attrs.get("sweep")
    if known is None:
        study.set_user_attr("sweep", digest)
    elif known != digest:
        raise HemError(
            f"{root} holds another sweep (other space, seeds, overrides or objective); give output_dir=DIR"
        )
    study.sampler = _sampler(optuna, plan, len(study.trials))
    return study


def _sampler(optuna: Any, plan: SweepFile, tried: int) -> Any:  # noqa: ANN401
    seed = plan.sampler_seed + tried  # a sweep that goes on must not draw its first settings again
    if plan.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=plan.startup_trials)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's trials are queued instead


def grid_of(space: Mapping[str, SettingConfig]) -> dict[str, list[Any]]:
    """Return every value of each setting.

    Raises:
        HemError: if a range has no step.
    """
    grid: dict[str, list[Any]] = {}
    for key, setting in space.items():
        if setting.choices is not None:
            grid[key] = list(setting.choices)
            continue
        if setting.step is None or setting.low is None or setting.high is None:
            raise HemError(f"sampler: grid needs a step for {key}")
        count = int((setting.high - setting.low) / setting.step + 1e-9) + 1
        values = [round(setting.low + k * setting.step, 12) for k in range(count)]
        grid[key] = [int(value) for value in values] if _whole(setting) else values
    return grid


def _whole(setting: SettingConfig) -> bool:
    ends = (setting.low, setting.step)
    return setting.step is not None and all(end is not None and float(end).is_integer() for end in ends)


def _distribution(optuna: Any, setting: SettingConfig) -> Any:  # noqa: ANN401
    kinds = optuna.distributions
    if setting.choices is not None:
        return kinds.CategoricalDistribution(setting.choices)
    assert setting.low is not None and setting.high is not None
    if _whole(setting) and setting.step is not None:
        return kinds.IntDistribution(int(setting.low), int(setting.high), step=int(setting.step))
    return kinds.FloatDistribution(setting.low, setting.high, step=setting.step, log=setting.log)


def _pruner(optuna: Any, plan: SweepFile) -> Any:  # noqa: ANN401
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=plan.startup_trials, n_warmup_steps=0)
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()


def _take_up(optuna: Any, study: Any) -> None:  # noqa: ANN401
    """Try the settings of trials that a kill interrupted again, first."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)


def chosen_by(trial: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a trial's settings as a person would write them; steps add up to 0.35000000000000003."""
    found = {}
    for key, value in trial.params.items():
        found[key] = float(f"{value:.12g}") if isinstance(value, float) else value
    return found


def _finished(optuna: Any, study: Any) -> int:  # noqa: ANN401
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def _try(plan: SweepFile, trial: Any, run: Run, folder: Path) -> tuple[float | None, bool]:  # noqa: ANN401
    """Run a trial's seeds one after the other; return the mean, and whether it was pruned."""
    values: list[float] = []
    for step, seed in enumerate(plan.seeds):
        value = run(chosen_by(trial), seed, folder / f"seed_{seed}")
        if value is None:
            return None, False
        values.append(value)
        mean = sum(values) / len(values)
        trial.report(mean, step)
        if plan.pruner != "none" and step + 1 < len(plan.seeds) and trial.should_prune():
            return mean, True
    return sum(values) / len(values), False


if __name__ == "__main__":
    main()
