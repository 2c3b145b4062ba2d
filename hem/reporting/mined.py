"""What mining found in each video, as a table on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from hem.reporting.tables import MISSING

_COLUMNS = (
    ("seconds", "seconds", 1),
    ("frames", "frames", 0),
    ("detections", "detections", 0),
    ("hard_negative", "hard negatives", 0),
    ("hard_positive", "hard positives", 0),
    ("pseudo_label", "pseudo-labels", 0),
    ("ignore", "ignored", 0),
)


def mined_table(rows: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]) -> Table:
    """Return a row for each video, a sum, and the rates; damaged stretches are named below a video.

    Args:
        rows: MiningResult.rows, one of each video.
        seconds: ``collect`` and ``query``.
    """
    table = Table(title="Mined")
    table.add_column("video", overflow="fold")
    for _, heading, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("negatives / min", justify="right")
    for row in rows:
        name = Text(str(row["video"]))
        for gap in row["gaps"]:
            name.append(f"\nnot decoded: {gap}", style="yellow")
        table.add_row(name, *(f"{row[key]:.{digits}f}" for key, _, digits in _COLUMNS), _per_minute([row]))
    table.add_section()
    total = [f"{sum(row[key] for row in rows):.{digits}f}" for key, _, digits in _COLUMNS]
    table.add_row("all", *total, _per_minute(rows), style="bold")
    frames = sum(row["frames"] for row in rows)
    collect = seconds["collect"]
    rate = f"{frames / collect:.0f} frames/s" if collect > 0 else "nothing decoded"
    table.caption = f"collected in {collect:.1f} s ({rate}), answered in {seconds['query']:.2f} s"
    return table


def _per_minute(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the hard negatives of a minute of video; a dash where no time passes (one frame, say)."""
    minutes = sum(row["seconds"] for row in rows) / 60
    return f"{sum(row['hard_negative'] for row in rows) / minutes:.1f}" if minutes > 0 else MISSING
