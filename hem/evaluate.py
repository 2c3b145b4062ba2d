"""``python -m hem.evaluate``: a benchmark's official figures, from predictions or from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from hem.allocator import keep_freed_memory
from hem.artifacts import whole_file, write_json
from hem.artifacts.places import read_stages, require_writable
from hem.compose import entry
from hem.config import EvaluateConfig, check
from hem.errors import HemError
from hem.evaluation.protocols import ProtocolResult, run_protocol
from hem.predicting import Predicted, predict
from hem.reporting.steps import Steps
from hem.reporting.tables import MISSING

STAGES = "stages.json"
_OPTIONS = ("miss_rate_setups",)


@entry("evaluate")
def main(values: dict[str, Any]) -> None:
    """Print a table, write ``figures.json`` and the curve into ``output_dir``."""
    evaluate(check(EvaluateConfig, values))


def evaluate(config: EvaluateConfig) -> dict[str, ProtocolResult]:
    """Print a table, write ``figures.json`` and the curve into ``output_dir``; return results by arm.

    A run's folder as ``checkpoint`` gives a column, and a folder in ``output_dir``, for each arm; one
    checkpoint and prediction files are the arm "".

    Raises:
        HemError: if something that the protocol needs is missing or damaged.
    """
    output = Path(config.output_dir)
    require_writable(output, "output_dir")
    name = str(config.protocol.get("name", ""))
    results: dict[str, ProtocolResult] = {}
    note = ""
    with Steps() as steps:
        if config.checkpoint is None:
            if config.predictions is None or config.ground_truth is None:
                raise HemError("give predictions=PATH and ground_truth=PATH, or checkpoint=FILE")
            given = Predicted(Path(config.predictions), Path(config.ground_truth))
            results[""] = _result(config, name, given, output)
        else:
            if config.predictions is not None:
                raise HemError("give predictions=PATH or checkpoint=FILE, not both")
            keep_freed_memory()
            for arm, checkpoint in checkpoints_of(Path(config.checkpoint)).items():
                folder = output / arm
                made = predict(name, config, checkpoint, folder, steps)
                results[arm] = _result(config, name, made, folder)
                note = made.note
        steps.show(_table(name, results, note))
        steps.say(f"written to {output}")
    return results


def checkpoints_of(path: Path) -> dict[str, Path]:
    """Return the checkpoints that ``checkpoint=`` names: one file (under ""), or a run's arms by name.

    Raises:
        HemError: if a folder is no finished run.
    """
    if not path.is_dir():
        return {"": path}
    if not (path / STAGES).is_file():
        raise HemError(
            f"checkpoint={path} is a folder without {STAGES}: neither a checkpoint nor a finished run"
        )
    found: dict[str, Path] = read_stages(path)["checkpoints"]
    return found


def _result(config: EvaluateConfig, name: str, files: Predicted, folder: Path) -> ProtocolResult:
    options = {key: value for key, value in config.protocol.items() if key in _OPTIONS}
    result = run_protocol(name, files.predictions, files.ground_truth, only=files.only, **options)
    document = {"figures": result.figures, "source": result.source, "note": files.note}
    write_json(folder / "figures.json", "figures", document)
    if result.curves:
        _draw(folder / "curve.svg", result)
    return result


def _table(name: str, results: Mapping[str, ProtocolResult], note: str) -> Table:
    source = next(iter(results.values())).source
    table = Table(title=f"{name} ({source})", caption=f"Note: {note}" if note else None)
    table.add_column("figure")
    columns = {arm: dict(flat(result.figures)) for arm, result in results.items()}
    for arm in columns:
        table.add_column(arm or "value", justify="right")
    for key in dict.fromkeys(key for column in columns.values() for key in column):
        table.add_row(key, *(_shown(column.get(key)) for column in columns.values()))
    return table


def _shown(value: object) -> str:
    return MISSING if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested figures as dotted names and plain values."""
    rows: list[tuple[str, Any]] = []
    for key, value in figures.items():
        rows += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _draw(path: Path, result: ProtocolResult) -> None:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, (x, y) in result.curves.items():
        axes.plot(x, y, label=label)
    axes.set(xlabel=result.axes[0], ylabel=result.axes[1])
    if "per image" in result.axes[0]:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="svg")


if __name__ == "__main__":
    main()
