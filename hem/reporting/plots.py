"""Curves and histograms as figures without any global plotting state."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from hem.errors import HemError

Curve = tuple[ArrayLike, ArrayLike]
# Okabe and Ito's palette: told apart with any colour vision; line styles tell arms apart in print
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
_LINES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
_INK = "#76797f"  # legible on white and on dark, since the picture's background is transparent
_MOST_POINTS = 600  # of a curve; more cannot be seen and swell the file


def _figure(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.set_title(title, color=_INK, fontsize=11)
    axes.tick_params(colors=_INK)
    axes.grid(alpha=0.25)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    return figure, axes


def _style(index: int) -> tuple[str, Literal["-", "--", "-.", ":"]]:
    return _COLOURS[index % len(_COLOURS)], _LINES[index % len(_LINES)]


def _legend(axes: Axes, handles: Sequence[Line2D], names: Sequence[str]) -> None:
    if not names:
        axes.text(0.5, 0.5, "nothing to show", color=_INK, ha="center", transform=axes.transAxes)
        return
    # names come from configs: matplotlib would hide one with a leading underscore and read $ as maths
    legend = axes.legend(handles, ["\u200b" + name for name in names], fontsize=8, framealpha=0)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color(_INK)


def _points(name: str, curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = (np.asarray(one, dtype=np.float64).reshape(-1) for one in curve)
    if len(x) != len(y):
        raise HemError(f"curve of {name}: {len(x)} x values and {len(y)} y values")
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) > _MOST_POINTS:
        rows = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
        x, y = x[rows], y[rows]
    return x, y


def _draw(axes: Axes, curves: Mapping[str, Curve], steps: bool = False) -> None:
    handles, names = [], []
    for index, (name, curve) in enumerate(curves.items()):
        x, y = _points(name, curve)
        colour, line = _style(index)
        marker = "o" if len(x) == 1 else None
        drawn = axes.plot(
            x, y, color=colour, linestyle=line, marker=marker, drawstyle="steps-post" if steps else "default"
        )
        handles.append(drawn[0])
        names.append(name)
    _legend(axes, handles, names)


def pr_curves(curves: Mapping[str, Curve], title: str = "Precision over recall") -> Figure:
    """Plot (recall, precision) of each arm, both in [0, 1].

    Raises:
        HemError: if a curve's two sequences differ in length (so for every plot here).
    """
    figure, axes = _figure("recall", "precision", title)
    _draw(axes, curves)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01))
    return figure


def false_alarm_curves(
    curves: Mapping[str, Curve],
    reference_recall: float | None = None,
    title: str = "False alarms over recall (video)",
) -> Figure:
    """Plot (recall, false alarms per minute) of each arm; a line marks the recall compared at.

    The vertical axis is linear below 1 a minute and logarithmic above, so that 0 has a place.
    """
    figure, axes = _figure("recall", "false alarms per minute", title)
    _draw(axes, curves)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(xlim=(0, 1.01))
    axes.set_ylim(bottom=0)
    if reference_recall is not None:
        axes.axvline(reference_recall, color=_INK, linewidth=1, linestyle=":")
    return figure


def purity_yield(
    curves: Mapping[str, Curve],
    chosen: Mapping[str, tuple[float, float, str]] | None = None,
    base_rate: float | None = None,
    title: str = "Purity against yield of mining",
) -> Figure:
    """Plot (number mined, purity in [0, 1]) of each rule over its threshold.

    Args:
        curves: by rule.
        chosen: by rule, (number, purity, threshold in words) at the threshold that was used: a star.
        base_rate: what chance would give: a dotted line.
        title: heading.
    """
    figure, axes = _figure("examples mined", "purity", title)
    _draw(axes, curves)
    order = list(curves)
    widest = max((float(np.max(xs)) for xs, _ in curves.values() if np.size(xs)), default=0.0)
    for name, (count, purity, words) in (chosen or {}).items():
        leftwards = count > widest / 2  # a star usually ends its curve, but must not push words over the axis
        colour = _style(order.index(name))[0] if name in order else _INK
        axes.plot([count], [purity], marker="*", markersize=14, color=colour, markeredgecolor="white")
        note = axes.annotate(
            words,
            (count, purity),
            xytext=(-8 if leftwards else 8, -14),
            textcoords="offset points",
            ha="right" if leftwards else "left",
            fontsize=8,
            color=_INK,
        )
        note.set_parse_math(False)
    if base_rate is not None:
        axes.axhline(base_rate, color=_INK, linewidth=1, linestyle=":")
    axes.set(ylim=(0, 1.05))
    axes.set_xlim(left=0)
    return figure


def score_histograms(
    scores: Mapping[str, ArrayLike],
    threshold: float | None = None,
    bins: int = 40,
    title: str = "Scores",
) -> Figure:
    """Plot how the scores of each group are spread, with common bins; a line marks the threshold."""
    figure, axes = _figure("score", "count", title)
    arrays = {name: np.asarray(values, dtype=np.float64).reshape(-1) for name, values in scores.items()}
    arrays = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    everything = np.concatenate([*arrays.values(), np.zeros(0)])
    low, high = (everything.min(), everything.max()) if len(everything) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    handles, names = [], []
    for index, (name, values) in enumerate(arrays.items()):
        colour, line = _style(index)
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=colour, alpha=0.2, fill=True)
        axes.stairs(counts, edges, color=colour, linestyle=line)
        handles.append(Line2D([], [], color=colour, linestyle=line))
        names.append(f"{name} ({len(values)})")
    _legend(axes, handles, names)
    if threshold is not None:
        axes.axvline(threshold, color=_INK, linewidth=1, linestyle=":")
    return figure


def render(figure: Figure, form: Literal["svg", "png"] = "svg", dpi: int = 150) -> bytes:
    """Return a figure as SVG (text stays text, same bytes every time) or PNG (white background)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hem"}):
        # only the text's width is guessed wrong: in an SVG the reader's own fonts draw it
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if form == "svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", transparent=False)
    return buffer.getvalue()
