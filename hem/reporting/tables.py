"""The comparison of arms as rows of plain values, and as a table on the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

MISSING = "\u2013"  # an en dash
MISSING_MEANS = f"{MISSING} = not measured, or never reached (see the log); it does not mean 0"
BASELINE, CONTROL = "baseline", "continued"


@dataclass(frozen=True)
class Metric:
    """A figure of ``summary.json``: its key, heading, the direction that is better, its digits."""

    key: str
    heading: str
    better: Literal["higher", "lower"]
    digits: int = 3
    meaning: str = ""


METRICS: tuple[Metric, ...] = (
    Metric("AP", "AP", "higher", meaning="COCO AP at IoU 0.50:0.95 on held-out stills"),
    Metric("AP50", "AP50", "higher", meaning="COCO AP at IoU 0.50 on held-out stills"),
    Metric("video_AP50", "video AP50", "higher", meaning="AP at IoU 0.50 on held-out video"),
    Metric("recall", "recall", "higher", meaning="recall on video at the baseline's false alarms per minute"),
    Metric(
        "false_alarms_per_minute",
        "false alarms / min",
        "lower",
        1,
        "on video, at the threshold where the arm first reaches the baseline's recall",
    ),
    Metric("false_alarms_per_frame", "false alarms / frame", "lower", meaning="the same, per frame"),
    Metric(
        "flickers_per_minute",
        "flickers / min",
        "lower",
        1,
        "detections isolated in time at that threshold, by one fixed rule for all arms",
    ),
)


@dataclass(frozen=True)
class Cell:
    """One figure of one arm.

    Attributes:
        value: the figure, or None if it was not measured.
        difference: value minus the control's; None if either is missing or this is no arm to compare.
        interval: (low, high) of the difference where repeated runs gave one.
        verdict: how the difference reads: ``better`` or ``worse`` by its sign, ``same`` if 0, and
            ``unclear`` if an interval is given and holds 0. None without a difference.
    """

    value: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    verdict: Literal["better", "worse", "same", "unclear"] | None = None


@dataclass(frozen=True)
class Row:
    """One arm: its name, what it is (``baseline``, ``control`` or ``arm``) and a cell for each metric."""

    arm: str
    role: Literal["baseline", "control", "arm"]
    cells: tuple[Cell, ...]


def control_of(summary: Mapping[str, Any]) -> str:
    """Return the arm that a summary's differences are taken to."""
    return str(summary.get("control") or CONTROL)


def comparison_rows(
    summary: Mapping[str, Any], metrics: Sequence[Metric] = METRICS, control: str | None = None
) -> list[Row]:
    """Return the arms of a summary in order: baseline, control, then the others as they stand there.

    Args:
        summary: as written to ``summary.json``: ``arms`` (figures by arm), ``differences`` (by arm,
            minus the control; computed here where it is absent) and, optionally, ``intervals`` (by
            arm and figure, [low, high] of the difference).
        metrics: figures to show.
        control: name of the arm that differences are taken from; None = the summary's own.
    """
    control = control or control_of(summary)
    arms: Mapping[str, Mapping[str, Any]] = summary.get("arms") or {}
    first = [name for name in (BASELINE, control) if name in arms]
    rows = []
    for name in first + [name for name in arms if name not in first]:
        role: Literal["baseline", "control", "arm"] = (
            "baseline" if name == BASELINE else "control" if name == control else "arm"
        )
        compared = role == "arm" and control in arms
        cells = tuple(_cell(summary, name, metric, control if compared else None) for metric in metrics)
        rows.append(Row(name, role, cells))
    return rows


def _cell(summary: Mapping[str, Any], arm: str, metric: Metric, control: str | None) -> Cell:
    value = _number(summary["arms"][arm].get(metric.key))
    if control is None:
        return Cell(value)
    given = ((summary.get("differences") or {}).get(arm) or {}).get(metric.key)
    base = _number(summary["arms"][control].get(metric.key))
    difference = _number(given)
    if difference is None and value is not None and base is not None:
        difference = value - base
    if difference is None:
        return Cell(value)
    limits = ((summary.get("intervals") or {}).get(arm) or {}).get(metric.key)
    interval = None if not limits or None in limits else (float(limits[0]), float(limits[1]))
    return Cell(value, difference, interval, _verdict(difference, interval, metric.better))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None


def _verdict(
    difference: float | None, interval: tuple[float, float] | None, better: str
) -> Literal["better", "worse", "same", "unclear"] | None:
    if difference is None:
        return None
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return "unclear"
    if difference == 0:
        return "same"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def format_number(value: float | None, digits: int, signed: bool = False) -> str:
    """Return a number with ``digits`` decimals, MISSING for None; a signed zero keeps no sign."""
    if value is None:
        return MISSING
    rounded = round(value, digits) + 0.0
    if signed and rounded == 0:
        return f"±{0:.{digits}f}"
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def format_cell(cell: Cell, metric: Metric) -> tuple[str, str]:
    """Return a cell's figure and its difference in brackets ("" without one), interval included."""
    if cell.difference is None:
        return format_number(cell.value, metric.digits), ""
    text = format_number(cell.difference, metric.digits, signed=True)
    if cell.interval is not None:
        low, high = (format_number(one, metric.digits, signed=True) for one in cell.interval)
        text += f" [{low}, {high}]"
    return format_number(cell.value, metric.digits), f"({text})"


_STYLES = {"better": "green", "worse": "red", "same": "dim", "unclear": "yellow"}


def comparison_table(
    summary: Mapping[str, Any], metrics: Sequence[Metric] = METRICS, control: str | None = None
) -> Table:
    """Return the comparison as a rich table; better differences green, worse red, unclear yellow.

    Figures that no arm has are left out. Names from the config are shown literally.
    """
    control = control or control_of(summary)
    rows = comparison_rows(summary, metrics, control)
    seen = [i for i in range(len(metrics)) if any(row.cells[i].value is not None for row in rows)]
    caption = Text(_caption(rows, control, seen, summary.get("note") or ""))  # literal: it quotes file names
    table = Table(title="Arms (difference to the control)", caption=caption)
    table.add_column("arm", overflow="fold")
    for index in seen:
        arrow = "↑" if metrics[index].better == "higher" else "↓"
        table.add_column(f"{metrics[index].heading} {arrow}", justify="right")
    for row in rows:
        name = Text(row.arm, style="bold" if row.role == "arm" else "")
        if row.role == "control":
            name.append(" (control)", style="dim")
        cells = [name]
        for index in seen:
            figure, difference = format_cell(row.cells[index], metrics[index])
            text = Text(figure)
            if difference:
                text.append("\n" + difference, style=_STYLES[row.cells[index].verdict or "same"])
            cells.append(text)
        table.add_row(*cells)
    return table


def _caption(rows: Sequence[Row], control: str, seen: Sequence[int], split: str) -> str:
    notes = ["↑ higher is better, ↓ lower"]
    if any(row.cells[i].value is None for row in rows for i in seen):
        notes.append(MISSING_MEANS)
    if any(row.cells[i].interval is not None for row in rows for i in seen):
        notes.append("[low, high] = interval of the difference")
    if rows and not any(row.role == "control" for row in rows) and any(row.role == "arm" for row in rows):
        notes.append(f"no arm {control!r} was run, so there are no differences")
    # what the split is worth ("same scene", a leak) belongs beside every figure
    return "; ".join([*([split] if split else []), *notes])


MINING: tuple[tuple[str, str, int], ...] = (
    ("frames", "frames looked at", 0),
    ("hard_negatives", "hard negatives", 0),
    ("hard_positives", "hard positives", 0),
    ("pseudo_labels", "pseudo-labels beside them", 0),
    ("purity_hard_negatives", "purity of hard negatives (share that overlaps no object)", 3),
    ("purity_hard_positives", "purity of hard positives (share that overlaps one)", 3),
    ("purity_pseudo_labels", "purity of pseudo-labels (likewise)", 3),
    ("false_share_of_detections", "share of all detections that are false (what chance would give)", 3),
    ("seconds", "seconds", 1),
    ("frames_per_second", "frames per second", 1),
)


def mining_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, figure) of what was mined; [] if the run mined nothing."""
    mining = summary.get("mining")
    if not mining:
        return []
    return [
        (name, format_number(_number(mining.get(key)), digits) + _interval(mining, key))
        for key, name, digits in MINING
    ]


def _interval(mining: Mapping[str, Any], key: str) -> str:
    """Return the 95 % interval of a purity and the counts behind it, or nothing."""
    kind = key.removeprefix("purity_").removesuffix("s")
    found = (mining.get("purity") or {}).get(kind) if key.startswith("purity_") else None
    if not found or found.get("low") is None or not found.get("count"):
        return ""
    return f" [{found['low']:.3f}, {found['high']:.3f}] ({found['hits']} of {found['count']})"


def mining_table(summary: Mapping[str, Any]) -> Table | None:
    """Return what was mined as a rich table, or None if the run mined nothing."""
    rows = mining_rows(summary)
    if not rows:
        return None
    table = Table(title="Mining", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, figure in rows:
        table.add_row(name, figure)
    return table


def print_comparison(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the mining table, if any, and the comparison of arms."""
    console = console or Console()
    mining = mining_table(summary)
    if mining is not None:
        console.print(mining)
    console.print(comparison_table(summary))
