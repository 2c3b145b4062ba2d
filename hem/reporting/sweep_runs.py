"""Finished runs under one folder as rows of settings and figures, best first."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hem.artifacts import read_json, whole_file
from hem.config import TrainConfig, check
from hem.errors import HemError
from hem.reporting.objectives import OBJECTIVES, Direction, direction_of, objective_value

_OWN = ("seed", "output_dir", "store_dir", "objective", "objective_yield")  # never what a sweep is about
_OVERRIDES = Path(".hydra") / "overrides.yaml"
_SIDE_FIGURES = ("purity_hard_negatives", "false_alarms_at_equal_recall", "video_AP50", "AP50")


@dataclass(frozen=True)
class SweepRow:
    """One setting of a sweep, over all its seeds.

    Attributes:
        runs: run directories, by seed.
        settings: the settings in which the sweep's runs differ.
        values: the objective of each run; None where it was not measured.
        figures: other figures, each the mean over the runs that have it.
    """

    runs: tuple[Path, ...]
    settings: Mapping[str, Any]
    values: tuple[float | None, ...]
    figures: Mapping[str, float | None]

    @property
    def value(self) -> float | None:
        """Mean of the objective over seeds; None unless every seed has it."""
        return _mean(self.values) if None not in self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, None with fewer than two."""
        known = [value for value in self.values if value is not None]
        if len(known) < 2:
            return None
        middle = sum(known) / len(known)
        return math.sqrt(sum((value - middle) ** 2 for value in known) / (len(known) - 1))


@dataclass(frozen=True)
class Sweep:
    """A sweep's finished runs.

    Attributes:
        objective, direction: what is compared, and which way is better.
        keys: the settings that differ, in a fixed order.
        rows: best first; those without the objective last.
        unfinished: folders of runs that have begun and hold no summary.
    """

    objective: str
    direction: Direction
    keys: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    unfinished: tuple[Path, ...]


def read_sweep(
    root: Path,
    objective: str | None = None,
    direction: Direction | None = None,
    yield_count: int | None = None,
) -> Sweep:
    """Read every finished run of hem.train under a folder.

    Args:
        root: the folder.
        objective: see hem.reporting.objectives; None = the one that the runs name.
        direction: needed where the objective does not say which way is better.
        yield_count: for ``purity_at_yield``; None = the runs' own.

    Raises:
        HemError: if there is no finished run, or no objective or direction can be told.
    """
    folders = sorted(path.parent for path in root.glob("**/config.json"))
    runs = [folder for folder in folders if (folder / "summary.json").is_file()]
    if not runs:
        raise HemError(f"dir={root} holds no finished run of hem.train")
    configs = {run: check(TrainConfig, read_json(run / "config.json", "config")["config"]) for run in runs}
    objective, direction = _aim(objective, direction, list(configs.values()))
    # what differs is told from command lines if every run has one, else from whole configurations
    read = _from_command_line if all((run / _OVERRIDES).is_file() for run in runs) else _from_config
    settings = {run: read(run, config) for run, config in configs.items()}
    keys = _differing(list(settings.values()))
    grouped: dict[str, list[Path]] = {}
    for run in sorted(runs, key=lambda one: (configs[one].seed, str(one))):
        chosen = {key: settings[run].get(key) for key in keys}
        grouped.setdefault(json.dumps(chosen, sort_keys=True), []).append(run)
    rows = [
        _row(
            tuple(members),
            {key: settings[members[0]].get(key) for key in keys},
            configs,
            objective,
            yield_count,
        )
        for members in grouped.values()
    ]
    sign = 1 if direction == "minimize" else -1
    rows.sort(key=lambda row: (row.value is None, sign * (row.value or 0.0), json.dumps(dict(row.settings))))
    unfinished = tuple(folder for folder in folders if folder not in runs)
    return Sweep(objective, direction, keys, tuple(rows), unfinished)


def _aim(
    objective: str | None, direction: Direction | None, configs: Sequence[TrainConfig]
) -> tuple[str, Direction]:
    named = {config.objective for config in configs if config.objective is not None}
    if objective is None and len(named) != 1:
        found = ", ".join(sorted(named)) or "none"
        raise HemError(f"the runs name {found} as objective; give objective=NAME ({', '.join(OBJECTIVES)})")
    chosen = objective or named.pop()
    way = direction or direction_of(chosen)
    if way is None:
        raise HemError(
            f"objective={chosen} does not say which way is better; give direction=minimize or maximize"
        )
    return chosen, way


def _from_config(run: Path, config: TrainConfig) -> dict[str, Any]:
    return _flat(config.model_dump(mode="json"))


def _from_command_line(run: Path, config: TrainConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for override in yaml.safe_load((run / _OVERRIDES).read_text(encoding="utf-8")) or []:
        key, _, text = str(override).partition("=")
        found[key.lstrip("+~")] = _plain(text)
    return {key: value for key, value in found.items() if key not in _OWN}


def _plain(text: str) -> Any:  # noqa: ANN401
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in _OWN:
            continue
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return found


def _differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for one in settings for key in one)
    varied = [key for key in keys if len({json.dumps(one.get(key)) for one in settings}) > 1]
    return tuple(varied)


def _row(
    runs: tuple[Path, ...],
    settings: Mapping[str, Any],
    configs: Mapping[Path, TrainConfig],
    objective: str,
    yield_count: int | None,
) -> SweepRow:
    documents = {
        run: (read_json(run / "summary.json", "summary"), read_json(run / "measured.json", "measured"))
        for run in runs
    }
    values = tuple(
        objective_value(objective, configs[run], *documents[run], yield_count=yield_count) for run in runs
    )
    figures: dict[str, float | None] = {}
    for name in _SIDE_FIGURES:
        if name != objective:
            figures[name] = _mean([_quietly(name, configs[run], *documents[run]) for run in runs])
    mined = [documents[run][0]["mining"].get("hard_negatives") for run in runs]
    return SweepRow(runs, settings, values, {**figures, "hard_negatives": _mean(mined)})


def _quietly(
    name: str, config: TrainConfig, summary: Mapping[str, Any], measured: Mapping[str, Any]
) -> float | None:
    """Return a side figure, None where a run has none of its kind (it mined nothing, say)."""
    try:
        return objective_value(name, config, summary, measured)
    except HemError:
        return None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def write_best(path: Path, row: SweepRow, name: str) -> str:
    """Write the best row's whole configuration as a file that hem.train runs; return the command.

    The file stands alone: later changes of the defaults under ``conf/`` do not reach it.
    """
    config = read_json(row.runs[0] / "config.json", "config")["config"]
    values = {key: value for key, value in config.items() if key != "output_dir"}
    values |= {"name": name, "output_dir": "${hydra:runtime.output_dir}"}
    document = {
        "defaults": [
            "_self_",
            {"override hydra/job_logging": "none"},
            {"override hydra/hydra_logging": "none"},
        ],
        **values,
        "hydra": {"run": {"dir": "runs/${name}/seed_${seed}"}, "job": {"chdir": False}},
    }
    command = f"python -m hem.train --config-dir={path.parent.resolve()} --config-name={path.stem}"
    with whole_file(path) as temporary:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        temporary.write_text(f"# {command}\n{text}", encoding="utf-8")
    return command
