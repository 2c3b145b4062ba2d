"""Paired differences between arms: over seeds, and over videos of one seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hem.errors import HemError


@dataclass(frozen=True)
class Difference:
    """An arm minus the control, over pairs that share a seed (or a resample of the videos).

    Attributes:
        mean, sd: of the differences; sd needs two pairs. low, high: the 95 % interval of the mean.
        n: pairs measured on both sides; dropped: pairs where either side was not measured.

    What could not be computed is None.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    n: int
    dropped: int

    @property
    def clear_of_zero(self) -> bool:
        """True if the interval exists and does not contain 0 (0 at its very end counts as inside)."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-like values."""
        return asdict(self)


def difference(arm: float | None, control: float | None) -> float | None:
    """Return arm - control, or None if either was not measured."""
    return None if arm is None or control is None else arm - control


def paired_difference(
    arm: Sequence[float | None],
    control: Sequence[float | None],
    *,
    relative: bool = False,
    confidence: float = 0.95,
) -> Difference:
    """Return the mean paired difference with Student's t interval; entry k of both is seed k.

    Args:
        relative: divide each difference by its control value (-0.3 = 30 % less); a control of 0 is a
            pair not measured.

    Raises:
        HemError: if the two have different lengths.
    """
    if len(arm) != len(control):
        raise HemError(f"{len(arm)} values cannot be paired with {len(control)}; give one of each a seed")
    pairs = [
        (a, c)
        for a, c in zip(arm, control, strict=True)
        if a is not None and c is not None and not (relative and c == 0)
    ]
    values = np.array([(a - c) / abs(c) if relative else a - c for a, c in pairs], dtype=np.float64)
    n, dropped = len(values), len(arm) - len(values)
    if n == 0:
        return Difference(None, None, None, None, 0, dropped)
    mean = float(values.mean())
    if n == 1:
        return Difference(mean, None, None, None, 1, dropped)
    sd = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * sd / np.sqrt(n)
    return Difference(mean, sd, mean - float(half), mean + float(half), n, dropped)


def _plain_figures(figures: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        name: value
        for name, value in figures.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def arm_differences(
    arms: Mapping[str, Mapping[str, Any]], control: str
) -> dict[str, dict[str, float | None]]:
    """Return every other arm's figures minus the control's, for one seed (``summary.json``).

    Nested figures and text are left out; a figure that either side lacks is None.

    Raises:
        HemError: if ``control`` is not among the arms.
    """
    if control not in arms:
        raise HemError(f"control {control!r} is not among the arms {sorted(arms)}")
    reference = _plain_figures(arms[control])
    return {
        name: {key: difference(value, reference.get(key)) for key, value in _plain_figures(figures).items()}
        for name, figures in arms.items()
        if name != control
    }


def compare_seeds(
    runs: Sequence[Mapping[str, Mapping[str, Any]]], control: str, *, relative: bool = False
) -> dict[str, dict[str, Difference]]:
    """Return arm -> figure -> paired difference to ``control`` over runs of several seeds.

    Each run is arm -> figures, as in ``summary.json``. A run that lacks an arm counts as not measured.

    Raises:
        HemError: if a run lacks the control.
    """
    for index, run in enumerate(runs):
        if control not in run:
            raise HemError(f"run {index} has no arm {control!r}; it has {sorted(run)}")
    plain = [{arm: _plain_figures(figures) for arm, figures in run.items()} for run in runs]
    arms = dict.fromkeys(arm for run in plain for arm in run if arm != control)
    result: dict[str, dict[str, Difference]] = {}
    for arm in arms:
        figures = dict.fromkeys(key for run in plain for key in run.get(arm, {}))
        result[arm] = {
            key: paired_difference(
                [run.get(arm, {}).get(key) for run in plain],
                [run[control].get(key) for run in plain],
                relative=relative,
            )
            for key in figures
        }
    return result


def bootstrap_difference(
    arm_figure: Callable[[NDArray[np.int64]], float | None],
    control_figure: Callable[[NDArray[np.int64]], float | None],
    n_videos: int,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Return arm minus control on one seed with a percentile interval from resampled videos.

    Videos are drawn with replacement, the same draw for both sides, so that a hard video burdens both.
    The interval says how much the choice of videos matters, not how much training varies.

    Args:
        arm_figure, control_figure: give the figure of chosen videos (indices, repeats allowed), for
            example ``lambda rows: figures_at(point, curve_of(matched.of_groups(rows)))["recall"]``.

    Returns:
        ``mean`` is the difference on all videos as they are, ``sd`` that of the resamples; ``n`` the
        resamples measured, ``dropped`` those where either side was None. Fewer than two videos give no
        interval.
    """
    everything = np.arange(n_videos, dtype=np.int64)
    if n_videos == 0:
        return Difference(None, None, None, None, 0, 0)
    mean = difference(arm_figure(everything), control_figure(everything))
    if n_videos < 2 or mean is None:
        return Difference(mean, None, None, None, 0, 0)
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(0, n_videos, n_videos) for _ in range(n_resamples)]
    values = [difference(arm_figure(rows), control_figure(rows)) for rows in drawn]
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    dropped = n_resamples - len(known)
    if len(known) < 2:
        return Difference(mean, None, None, None, len(known), dropped)
    low, high = np.quantile(known, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Difference(mean, float(known.std(ddof=1)), float(low), float(high), len(known), dropped)
