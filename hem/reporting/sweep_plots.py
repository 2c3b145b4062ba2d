"""Pictures of a sweep: parallel coordinates, and the objective over one or two settings."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hem.errors import HemError
from hem.reporting.sweep_runs import Sweep, SweepRow

_INK = "#76797f"  # legible on white and on dark
_MOST_KEYS = 10  # axes side by side; more cannot be read
_MOST_NAME = 28


def parallel_coordinates(sweep: Sweep) -> Figure:
    """Draw one line a setting over an axis for each key, and the objective last; the best drawn on top.

    Raises:
        HemError: if no run has the objective.
    """
    rows = _measured(sweep)
    keys = [key for key in sweep.keys if len({str(row.settings[key]) for row in rows}) > 1][:_MOST_KEYS]
    values = np.array([row.value for row in rows], dtype=np.float64)
    columns = [_axis([row.settings[key] for row in rows]) for key in keys]
    columns.append((_scaled(values), [(0.0, f"{values.min():.4g}"), (1.0, f"{values.max():.4g}")]))
    figure, axes = _figure(1.6 * max(3, len(columns)), 4.2)
    colours = _colours(values, sweep)
    for index in reversed(range(len(rows))):  # rows are best first
        heights = [column[0][index] for column in columns]
        axes.plot(
            range(len(columns)), heights, color=colours.to_rgba(values[index]), linewidth=1.6 if index else 3
        )
    for position, (_, ticks) in enumerate(columns):
        axes.axvline(position, color=_INK, linewidth=0.8)
        for height, text in ticks:
            shown = axes.text(position + 0.03, height, _short(text), fontsize=8, color=_INK, va="center")
            shown.set_parse_math(False)
    axes.set_xticks(
        range(len(columns)), [_short(name) for name in [*keys, sweep.objective]], rotation=20, ha="right"
    )
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.55)
    _finish(figure, axes, colours, sweep)
    return figure


def heat_map(sweep: Sweep, x: str, y: str) -> Figure:
    """Draw the best objective over two settings; places that were not tried stay empty.

    Raises:
        HemError: if no run has the objective, or a key is not one of the sweep's.
    """
    rows = _measured(sweep)
    for key in (x, y):
        if key not in sweep.keys:
            raise HemError(f"{key} does not differ in this sweep; its settings are {', '.join(sweep.keys)}")
    across, down = _levels([row.settings[x] for row in rows]), _levels([row.settings[y] for row in rows])
    grid = np.full((len(down), len(across)), np.nan)
    for row in reversed(rows):  # the best is written last
        grid[down.index(row.settings[y]), across.index(row.settings[x])] = row.value
    figure, axes = _figure(1.2 + 0.8 * max(4, len(across)), 1.4 + 0.5 * max(4, len(down)))
    values = np.array([row.value for row in rows], dtype=np.float64)
    colours, low, high = _colours(values, sweep), values.min(), values.max()
    axes.imshow(grid, origin="lower", aspect="auto", cmap=colours.get_cmap(), norm=colours.norm)
    for (line, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            height = (value - low) / (high - low) if high > low else 0.0
            light = (height if sweep.direction == "maximize" else 1 - height) > 0.6
            axes.text(column, line, f"{value:.3g}", ha="center", va="center", fontsize=8,
                      color="black" if light else "white")  # fmt: skip
    axes.set_xticks(range(len(across)), [_short(_words(one)) for one in across], rotation=20, ha="right")
    axes.set_yticks(range(len(down)), [_short(_words(one)) for one in down])
    axes.set_xlabel(x, color=_INK, parse_math=False)
    axes.set_ylabel(y, color=_INK, parse_math=False)
    _finish(figure, axes, colours, sweep)
    return figure


def over_setting(sweep: Sweep, key: str) -> Figure:
    """Draw the objective of every run over one setting."""
    rows = _measured(sweep)
    places, ticks = _axis([row.settings[key] for row in rows])
    figure, axes = _figure(5.2, 3.6)
    for place, row in zip(places, rows, strict=True):
        known = [value for value in row.values if value is not None]
        axes.plot([place] * len(known), known, "o", color="#0072B2", markersize=5, alpha=0.7)
    axes.set_xticks(
        [height for height, _ in ticks], [_short(text) for _, text in ticks], rotation=20, ha="right"
    )
    axes.set_xlabel(key, color=_INK, parse_math=False)
    axes.set_ylabel(f"{sweep.objective} ({sweep.direction})", color=_INK, parse_math=False)
    axes.tick_params(colors=_INK)
    axes.grid(alpha=0.25)
    return figure


def pictures(sweep: Sweep) -> dict[str, Figure]:
    """Return every picture of a sweep by file stem; {} if nothing can be drawn."""
    if not sweep.keys or not any(row.value is not None for row in sweep.rows):
        return {}
    found = {"parallel_coordinates": parallel_coordinates(sweep)}
    keys = [key for key in sweep.keys if len({str(row.settings[key]) for row in _measured(sweep)}) > 1]
    for first, x in enumerate(keys[:4]):
        found[f"over_{_file(x)}"] = over_setting(sweep, x)
        for y in keys[first + 1 : 4]:
            found[f"heat_map_{_file(x)}_{_file(y)}"] = heat_map(sweep, x, y)
    return found


def _measured(sweep: Sweep) -> list[SweepRow]:
    rows = [row for row in sweep.rows if row.value is not None]
    if not rows:
        raise HemError(f"no run of the sweep has {sweep.objective}; choose another objective=")
    return rows


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _finish(figure: Figure, axes: Any, colours: ScalarMappable, sweep: Sweep) -> None:  # noqa: ANN401
    axes.tick_params(colors=_INK)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    bar = figure.colorbar(colours, ax=axes)
    bar.ax.tick_params(colors=_INK)
    bar.set_label(f"{sweep.objective} ({sweep.direction})", color=_INK, parse_math=False)


def _colours(values: NDArray[np.float64], sweep: Sweep) -> ScalarMappable:
    """Return a colour scale in which better is lighter."""
    low, high = float(values.min()), float(values.max())
    scale = matplotlib.colormaps["viridis" if sweep.direction == "maximize" else "viridis_r"]
    return ScalarMappable(Normalize(low, high if high > low else low + 1), scale)


def _scaled(values: NDArray[np.float64]) -> list[float]:
    low, high = values.min(), values.max()
    return [0.5] * len(values) if high == low else [float(v) for v in (values - low) / (high - low)]


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return heights in [0, 1] and ticks: numbers to scale, anything else evenly."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    levels = _levels(values)
    if numbers:
        heights = dict(zip(levels, _scaled(np.array(levels, dtype=np.float64)), strict=True))
        if len(levels) > 8:
            levels = [levels[0], levels[len(levels) // 2], levels[-1]]
    else:
        heights = {level: index / max(1, len(levels) - 1) for index, level in enumerate(levels)}
    return [heights[value] for value in values], [(heights[level], _words(level)) for level in levels]


def _levels(values: Sequence[Any]) -> list[Any]:
    unique = list(dict.fromkeys(values))
    try:
        return sorted(unique)
    except TypeError:  # numbers and words mixed
        return sorted(unique, key=str)


def _words(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "default" if value is None else str(value)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_NAME else f"{text[: _MOST_NAME - 1]}…"


def _file(key: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in key)
