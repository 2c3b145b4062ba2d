"""The summary of a sweep: a table, pictures, and the best configuration as a file that runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hem.artifacts import whole_file, write_json
from hem.reporting.plots import render
from hem.reporting.sweep_plots import pictures
from hem.reporting.sweep_runs import Sweep, SweepRow, write_best
from hem.reporting.tables import format_number

FOLDER = "sweep_summary"
_MOST_ROWS = 30


def write_summary(root: Path, sweep: Sweep) -> str | None:
    """Write ``sweep_summary/`` under a sweep's folder; return the command that runs the best, if any.

    ``sweep.json`` holds every row, ``*.svg`` the pictures, ``best.yaml`` the best row's configuration.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.svg"):  # of settings that no longer differ
        stale.unlink()
    for stem, figure in pictures(sweep).items():
        with whole_file(folder / f"{stem}.svg") as temporary:
            temporary.write_bytes(render(figure))
    document = {
        "objective": sweep.objective,
        "direction": sweep.direction,
        "settings": list(sweep.keys),
        "rows": [_plain(row) for row in sweep.rows],
        "unfinished": [str(path) for path in sweep.unfinished],
    }
    write_json(folder / "sweep.json", "sweep", document)
    best = sweep.rows[0]
    if best.value is None:
        return None
    return write_best(folder / "best.yaml", best, f"best_of_{_name(root)}")


def _name(root: Path) -> str:
    letters = "".join(one if one.isalnum() or one in "_.-" else "_" for one in root.resolve().name)
    return letters or "sweep"


def _plain(row: SweepRow) -> dict[str, Any]:
    return {
        "settings": dict(row.settings),
        "value": row.value,
        "spread": row.spread,
        "values": list(row.values),
        "figures": dict(row.figures),
        "runs": [str(run) for run in row.runs],
    }


def sweep_table(sweep: Sweep) -> Table:
    """Return the best rows as a table for the terminal."""
    arrow = "↓" if sweep.direction == "minimize" else "↑"
    table = Table(title=f"Sweep: {len(sweep.rows)} settings, best first")
    for key in sweep.keys:
        table.add_column(Text(key), overflow="fold")
    table.add_column(Text(f"{sweep.objective} {arrow}"), justify="right")
    figures = [name for name in sweep.rows[0].figures if any(r.figures[name] is not None for r in sweep.rows)]
    for name in figures:
        table.add_column(name, justify="right")
    table.add_column("runs", justify="right")
    for row in sweep.rows[:_MOST_ROWS]:
        table.add_row(*_cells(row, sweep.keys, figures))
    notes = ["mean ± standard deviation over seeds" if any(r.spread is not None for r in sweep.rows) else ""]
    if len(sweep.rows) > _MOST_ROWS:
        notes.append(f"{len(sweep.rows) - _MOST_ROWS} more in sweep.json")
    if sweep.unfinished:
        notes.append(f"{len(sweep.unfinished)} runs are not finished")
    table.caption = "; ".join(note for note in notes if note) or None
    return table


def _cells(row: SweepRow, keys: Sequence[str], figures: Sequence[str]) -> list[Text]:
    cells = [Text("default" if row.settings[key] is None else str(row.settings[key])) for key in keys]
    spread = "" if row.spread is None else f" ± {row.spread:.3f}"
    cells.append(Text(format_number(row.value, 4) + spread, style="bold"))
    cells += [Text(format_number(row.figures[name], 3)) for name in figures]
    return [*cells, Text(str(len(row.runs)))]
