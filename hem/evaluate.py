"""``python -m hem.evaluate``: a benchmark's official figures, from predictions or from a checkpoint."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from hem.artifacts import whole_file, write_json
from hem.compose import entry
from hem.config import EvaluateConfig, check
from hem.data.bundle import DataBundle
from hem.errors import HemError
from hem.evaluation.coco import coco_figures
from hem.evaluation.protocols import ProtocolResult, run_protocol
from hem.instantiate import instantiate
from hem.reporting.tables import MISSING
from hem.training.checkpoint import detector_from, load_checkpoint
from hem.training.measure import accelerator_of, detect_stills, targets_of

FLOOR_SCORE = 0.01  # below it nothing changes an average precision at two digits


@entry("evaluate")
def main(values: dict[str, Any]) -> None:
    """Print a table, write ``figures.json`` and the curve into ``output_dir``."""
    config = check(EvaluateConfig, values)
    output = Path(config.output_dir)
    name = str(config.protocol.get("name", ""))
    if config.checkpoint is not None:
        result = _from_checkpoint(config, name)
    else:
        if config.predictions is None or config.ground_truth is None:
            raise HemError("give predictions=PATH and ground_truth=PATH, or checkpoint=FILE and data=NAME")
        options = {key: value for key, value in config.protocol.items() if key in ("miss_rate_setups",)}
        result = run_protocol(name, Path(config.predictions), Path(config.ground_truth), **options)
    write_json(output / "figures.json", "figures", {"figures": result.figures, "source": result.source})
    if result.curves:
        _draw(output / "curve.svg", result)
    table = Table(title=f"{name} ({result.source})")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in flat(result.figures):
        table.add_row(
            key, MISSING if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        )
    Console().print(table)


def _from_checkpoint(config: EvaluateConfig, name: str) -> ProtocolResult:
    if name != "coco":
        raise HemError(
            f"protocol={name} reads predictions from files; checkpoint= works with protocol=coco. "
            "Write predictions first, then give predictions=PATH"
        )
    if config.data is None:
        raise HemError("checkpoint= needs data=NAME (and data.root=…), whose test images are measured")
    bundle: DataBundle = instantiate(config.data, "data", DataBundle)
    path = Path(str(config.checkpoint))
    detector = detector_from(load_checkpoint(path), path, bundle.class_names).to(accelerator_of("auto"))
    found = detect_stills(detector, bundle.test, FLOOR_SCORE, 8)
    figures = coco_figures(found, targets_of(bundle.test), bundle.class_names)
    return ProtocolResult(figures, {}, ("", ""), "COCO protocol; computed by pycocotools")


def flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
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
