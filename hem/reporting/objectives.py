"""What a sweep optimises, by name: one figure of a finished run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hem.config import TrainConfig, suggest
from hem.errors import HemError
from hem.reporting.tables import METRICS

Direction = Literal["minimize", "maximize"]
PURITY_AT_YIELD = "purity_at_yield"


@dataclass(frozen=True)
class Objective:
    """A named objective.

    Attributes:
        figure: its name in the summary.
        direction: which way is better.
        of_mining: it is about what was mined; else about the arm.
        meaning: one sentence.
    """

    figure: str
    direction: Direction
    of_mining: bool
    meaning: str


OBJECTIVES: Mapping[str, Objective] = {
    "false_alarms_at_equal_recall": Objective(
        "false_alarms_per_minute", "minimize", False,
        "false alarms per minute of held-out video where the arm first reaches the baseline's recall",
    ),
    "recall_at_equal_false_alarms": Objective(
        "recall", "maximize", False, "recall on held-out video at the baseline's false alarms per minute"
    ),
    "video_AP50": Objective("video_AP50", "maximize", False, "AP at IoU 0.5 on held-out video"),
    "AP": Objective("AP", "maximize", False, "COCO AP on held-out stills"),
    "AP50": Objective("AP50", "maximize", False, "AP at IoU 0.5 on held-out stills"),
    "flickers_per_minute": Objective(
        "flickers_per_minute", "minimize", False, "detections isolated in time, per minute"
    ),
    PURITY_AT_YIELD: Objective(
        PURITY_AT_YIELD, "maximize", True,
        "purity of the objective_yield surest hard negatives; none if fewer were mined",
    ),
    "purity_hard_negatives": Objective(
        "purity_hard_negatives", "maximize", True, "purity of all hard negatives, however few"
    ),
    "purity_hard_positives": Objective(
        "purity_hard_positives", "maximize", True, "purity of all hard positives, however few"
    ),
}  # fmt: skip


def main_mining_arm(config: TrainConfig) -> str | None:
    """Return the arm whose mining the summary's ``mining`` part describes: the chosen preset's fullest."""
    chosen = [name for name, arm in config.arms.items() if arm.mining == "default"]
    others = [name for name, arm in config.arms.items() if arm.mining is not None]
    candidates = chosen or others
    return max(candidates, key=lambda name: len(config.arms[name].kinds)) if candidates else None


def check_objective(name: str, arms: Sequence[str]) -> None:
    """Check a name before anything is trained.

    Raises:
        HemError: unless it is a named objective, or ``arm.figure`` with an arm that will be there.
    """
    arm, dot, _ = name.partition(".")
    if name in OBJECTIVES or (dot and arm in (*arms, "baseline", "mining")):
        return
    known = ", ".join([*arms, "baseline", "mining"])
    near = suggest(name, OBJECTIVES)
    raise HemError(
        f"objective={name}{near}; or give arm.figure, for example mining.hard_negatives (arms: {known})"
    )


def direction_of(name: str) -> Direction | None:
    """Return which way is better: a named objective's own, else that of the figure's name, else None."""
    if name in OBJECTIVES:
        return OBJECTIVES[name].direction
    figure = name.partition(".")[2]
    if figure.startswith("purity"):
        return "maximize"
    better = {metric.key: metric.better for metric in METRICS}.get(figure)
    return None if better is None else "maximize" if better == "higher" else "minimize"


def objective_value(
    name: str,
    config: TrainConfig,
    summary: Mapping[str, Any],
    measured: Mapping[str, Any],
    yield_count: int | None = None,
) -> float | None:
    """Return the objective's value in a finished run; None if it was not measured.

    Args:
        name: a key of OBJECTIVES (read from the main mining arm, or the baseline if no arm mines), or
            ``arm.figure``, or ``mining.figure``.
        config: the run's.
        summary, measured: contents of ``summary.json`` and ``measured.json``.
        yield_count: for ``purity_at_yield``; None = the run's own ``objective_yield``.

    Raises:
        HemError: if the summary has no such figure.
    """
    if name in OBJECTIVES and OBJECTIVES[name].figure == PURITY_AT_YIELD:
        return _purity_at(measured, yield_count or config.objective_yield)
    if name in OBJECTIVES:
        known = OBJECTIVES[name]
        part, figure = "mining" if known.of_mining else main_mining_arm(config) or "baseline", known.figure
    else:
        part, _, figure = name.partition(".")
    figures = summary["mining"] if part == "mining" else summary["arms"].get(part)
    if figures is None or not figure:
        raise HemError(f"objective={name}: no arm {part!r} in the summary{suggest(part, summary['arms'])}")
    if figure not in figures:
        raise HemError(f"objective={name}: {part} has no figure {figure!r}{suggest(figure, figures)}")
    value = figures[figure]
    return None if value is None else float(value)


def _purity_at(measured: Mapping[str, Any], count: int) -> float | None:
    """Return purity where ``count`` of the surest hard negatives are taken; the curve is thinned."""
    line = measured["purity_yield"].get("hard negative")
    if not line:
        return None
    return next((p for n, p in zip(line["count"], line["purity"], strict=True) if n >= count), None)
