"""Whether a preset can be answered at all from what a pass would collect, found out before the pass."""

from dataclasses import replace

import numpy as np

from hem.mining.presets import Preset
from hem.mining.score_scale import ScaleKind, ScoreScale
from hem.structures import VideoDetections, VideoInfo
from hem.structures.evidence import CollectSettings, Evidence


def try_out(preset: Preset, settings: CollectSettings, scale: ScoreScale | None = None) -> None:
    """Ask the preset about a video in which nothing was found, before hours go into real ones.

    What hangs on scores that nobody has seen yet is left open: quantiles, and a calibrated scale that is
    not there yet, may turn out as any score from the floor up.

    Args:
        preset: what will be asked.
        settings: how evidence will be collected.
        scale: of ``score_scale=calibrated``; None if it is not known yet.

    Raises:
        HemError: if the preset could never be answered from what ``settings`` collect, or a disturbance
            is unknown.
    """
    if settings.variants:
        from hem.mining.disturbances import disturbances  # not needed to answer from evidence

        disturbances(settings.variants)
    read_as = getattr(preset, "score_scale", "raw")
    kept, floor = settings, settings.floor_score
    if read_as == "quantile" or (read_as == "calibrated" and scale is None):
        # every setting is read as the floor then (so are quantiles of no score), and no real scale goes below
        scale = ScoreScale(ScaleKind.CALIBRATED, np.array([floor]), np.ones(1))
        scores, neighbours = settings.score_threshold, settings.neighbour_threshold
        kept = replace(
            settings,
            score_threshold=(min(floor, scores[0]), scores[1]),
            neighbour_threshold=(min(floor, neighbours[0]), neighbours[1]),
        )
    nothing = VideoDetections.from_frames(
        VideoInfo("nothing", width=64, height=64), [], np.zeros(1), floor_score=floor
    )
    no_change = np.zeros(0) if settings.still_s > 0 else None
    evidence = Evidence(nothing, np.zeros(1, np.bool_), np.zeros(1, np.bool_), kept, change=no_change)
    preset.mine([evidence], calibrated=scale)
