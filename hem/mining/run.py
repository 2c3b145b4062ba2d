"""One way to ask any rule about any number of videos."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.mining.fuse import query_elicited, query_hem
from hem.mining.paper import PaperThresholds, query_paper
from hem.mining.score_scale import ScaleKind, ScoreScale
from hem.mining.table import MinedTable
from hem.mining.temporal import query_temporal
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds
from hem.structures.evidence import Evidence
from hem.structures.example_list import ExampleList

Rule = Literal["paper", "temporal", "elicited", "hem"]
Thresholds = PaperThresholds | TemporalThresholds | ElicitedThresholds | HemThresholds
_OF_RULE = {
    "paper": PaperThresholds,
    "temporal": TemporalThresholds,
    "elicited": ElicitedThresholds,
    "hem": HemThresholds,
}
SCORES = (  # settings that are read on the score scale
    "score_threshold",
    "neighbour_threshold",
    "ignore_threshold",
    "label_threshold",
    "max_score",
    "negative_response",
    "positive_response",
)


NO_CALIBRATION = (
    "mining.score_scale=calibrated needs a calibration: hem.train makes its own, calibration.json in "
    "the run directory; elsewhere give calibration=FILE, or use mining.score_scale=quantile"
)


@dataclass(frozen=True)
class MiningPreset:
    """A rule with its thresholds.

    Attributes:
        rule: ``paper``, ``temporal``, ``elicited`` or ``hem``.
        thresholds: of that rule; the score settings in it are read on ``score_scale``.
        score_scale: ``raw`` (always, for paper), ``quantile`` or ``calibrated``; see ScoreScale.
        per_frame: detections a frame that quantile setting 0 admits.
    """

    rule: Rule
    thresholds: Thresholds
    score_scale: Literal["raw", "quantile", "calibrated"] = "raw"
    per_frame: float = 10.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise HemError(f"mining rule must be one of {get_args(Rule)}, got {self.rule!r}")
        if not isinstance(self.thresholds, _OF_RULE[self.rule]):
            raise HemError(
                f"mining rule {self.rule} needs {_OF_RULE[self.rule].__name__}, "
                f"got {type(self.thresholds).__name__}"
            )
        if self.score_scale not in ("raw", "quantile", "calibrated"):
            raise HemError(
                f"mining.score_scale must be raw, quantile or calibrated, got {self.score_scale!r}"
            )
        if self.rule == "paper" and self.score_scale != "raw":
            raise HemError("mining.score_scale must be raw for `paper`: its thresholds are published scores")


@dataclass(frozen=True)
class _Pool:
    """What scores are counted over: all of them, float64 (N,), decoded frames, highest floor, video ids."""

    scores: NDArray[np.float64]
    n_frames: int
    floor_score: float
    video_ids: tuple[str, ...]


def _pool_of(evidence: Iterable[Evidence]) -> _Pool:
    """Go through evidence once; only the scores stay, so lazily loaded videos lie in memory one by one."""

    def of_one(item: Evidence) -> _Pool:
        found = item.detections
        decoded = found.decoded
        # of frames that count only; a copy, unlike a view, lets go of the rest
        scores = found.scores[decoded[found.frame_index]]
        return _Pool(scores, int(decoded.sum()), found.floor_score, (item.video_id,))

    parts = list(map(of_one, evidence))  # a loop's variable would keep one while the next is read
    return _Pool(
        np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        sum(part.n_frames for part in parts),
        max((part.floor_score for part in parts), default=float("-inf")),
        tuple(part.video_ids[0] for part in parts),
    )


def scale_of(
    evidence: Iterable[Evidence], preset: MiningPreset, calibrated: ScoreScale | None = None
) -> ScoreScale:
    """Return the scale that a preset's settings are read on, counted over all the videos together.

    Raises:
        HemError: if the preset is calibrated and no calibration is given.
    """
    return _scale(_pool_of(evidence), preset, calibrated)


def _scale(pool: _Pool, preset: MiningPreset, calibrated: ScoreScale | None) -> ScoreScale:
    if preset.score_scale == "calibrated":
        if calibrated is None:
            raise HemError(NO_CALIBRATION)
        return replace(calibrated, floor_score=pool.floor_score)
    if preset.score_scale == "raw":
        return ScoreScale.raw()
    return ScoreScale.quantile(
        pool.scores[pool.scores >= pool.floor_score],
        max(pool.n_frames, 1),
        per_frame=preset.per_frame,
        floor_score=pool.floor_score,
    )


def resolved(thresholds: Thresholds, scale: ScoreScale) -> Thresholds:
    """Return the thresholds with their score settings as raw scores."""
    if isinstance(thresholds, HemThresholds):
        temporal, elicited = resolved(thresholds.temporal, scale), resolved(thresholds.elicited, scale)
        assert isinstance(temporal, TemporalThresholds) and isinstance(elicited, ElicitedThresholds)
        return HemThresholds(temporal, elicited)
    if scale.kind is ScaleKind.RAW:
        return thresholds  # infinite limits are legal there
    given = {item.name: getattr(thresholds, item.name) for item in fields(thresholds) if item.name in SCORES}
    raw: dict[str, Any] = {name: scale.threshold(value) for name, value in given.items() if value is not None}
    return replace(thresholds, **raw)


def _reachable(thresholds: Thresholds, scale: ScoreScale) -> None:
    """Raise HemError if no score at all is as precise as a calibrated setting asks that makes negatives.

    Beyond every score, score_threshold admits nothing, and every answer is below negative_response.
    """
    if scale.kind is not ScaleKind.CALIBRATED:
        return
    parts = [thresholds]
    if isinstance(thresholds, HemThresholds):
        parts = [thresholds.temporal, thresholds.elicited]
    for name in ("score_threshold", "negative_response"):
        for asked in (getattr(part, name) for part in parts if hasattr(part, name)):
            if scale.threshold(asked) == float("inf"):
                raise HemError(
                    f"mining.{name}={asked:g} asks for scores that are right in {asked:g} of cases, but "
                    f"this detector's are in at most {float(scale.values[-1]):g}: lower it, or train further"
                )


def query(evidence: Evidence, rule: Rule, thresholds: Thresholds) -> MinedTable:
    """Answer one rule on one video, thresholds in raw scores."""
    if rule == "paper" and isinstance(thresholds, PaperThresholds):
        return query_paper(evidence, thresholds)
    if rule == "temporal" and isinstance(thresholds, TemporalThresholds):
        return query_temporal(evidence, thresholds)
    if rule == "elicited" and isinstance(thresholds, ElicitedThresholds):
        return query_elicited(evidence, thresholds)
    if rule == "hem" and isinstance(thresholds, HemThresholds):
        return query_hem(evidence, thresholds)
    raise HemError(f"mining rule {rule!r} does not go with {type(thresholds).__name__}")


def mine_tables(
    evidence: Sequence[Evidence], preset: MiningPreset, calibrated: ScoreScale | None = None
) -> list[MinedTable]:
    """Answer a preset on every video, in order; quantile settings are counted over all of them.

    Raises:
        HemError: if two videos have one id, or a threshold lies outside what was collected.
    """
    pool = _pool_of(evidence)
    twice = sorted(name for name, count in Counter(pool.video_ids).items() if count > 1)
    if twice:
        raise HemError(f"two videos have the id {twice[0]!r}: mine them apart, or rename one")
    scale = _scale(pool, preset, calibrated)
    _reachable(preset.thresholds, scale)
    thresholds = resolved(preset.thresholds, scale)
    return list(map(lambda item: query(item, preset.rule, thresholds), evidence))


def mine(
    evidence: Sequence[Evidence],
    preset: MiningPreset,
    calibrated: ScoreScale | None = None,
    mining_round: int = 1,
) -> ExampleList:
    """Return the hard examples of all videos, video by video, each ordered by frame and kind."""
    tables = mine_tables(evidence, preset, calibrated)
    return ExampleList.joined(table.taught(mining_round) for table in tables)
