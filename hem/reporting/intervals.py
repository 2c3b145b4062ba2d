"""How much an arm's difference on video could be due to which videos were held out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hem.evaluation.compare import bootstrap_difference
from hem.evaluation.matching import Matched, match_videos
from hem.evaluation.video import OperatingPoint, curve_of, figures_at
from hem.structures import VideoDetections, VideoTruth

FIGURES = ("recall", "false_alarms_per_minute", "false_alarms_per_frame")
_RESAMPLES = 300
_Figure = Callable[[NDArray[np.int64]], float | None]


def video_intervals(
    point: OperatingPoint | None,
    videos: Mapping[str, Sequence[VideoDetections]],
    truths: Sequence[VideoTruth],
    control: str,
    *,
    n_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Return ``intervals`` of ``summary.json``: arm -> figure -> [low, high] of arm minus control, 95 %.

    The held-out videos are drawn with replacement, the same draw for both sides; the operating point
    stays that of the whole set. The interval says how much the choice of videos matters, not how much
    training varies from seed to seed: for that, run several seeds.

    Args:
        point: the comparison's operating point.
        videos: detections on the held-out videos by arm, each in the same order.
        truths: of those videos.
        control: the arm that differences are taken to.
        n_resamples: draws; more makes the ends steadier and takes longer in proportion.
        seed: of the draws.

    Returns:
        What could be computed; {} without truth, operating point or control, or with one video.
    """
    if point is None or control not in videos or len(truths) < 2:
        return {}
    figure_of = {name: _figures(point, match_videos(found, truths)) for name, found in videos.items()}
    intervals: dict[str, dict[str, list[float]]] = {}
    for arm, figure in figure_of.items():
        if arm == control:
            continue
        for name in FIGURES:
            found = bootstrap_difference(
                figure(name),
                figure_of[control](name),
                len(truths),
                n_resamples=n_resamples,
                seed=seed,
            )
            if found.low is not None and found.high is not None:
                intervals.setdefault(arm, {})[name] = [found.low, found.high]
    return intervals


def _figures(point: OperatingPoint, matched: Matched) -> Callable[[str], _Figure]:
    """Return a maker of figures; every figure of one draw comes from one curve."""
    known: dict[bytes, dict[str, float | None]] = {}

    def figure(name: str) -> _Figure:
        def of(rows: NDArray[np.int64]) -> float | None:
            key = rows.tobytes()
            if key not in known:
                known[key] = figures_at(point, curve_of(matched.of_groups(rows)))
            return known[key][name]

        return of

    return figure
