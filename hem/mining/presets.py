"""Mining presets as the configuration names them: a rule, its thresholds, and how scores are read.

Every preset has ``score_threshold`` and is a pure function of evidence. ``paper``, ``temporal``,
``elicited`` and ``hem`` are rules; ``random``, ``score`` and ``pseudo_labels`` are baselines on the
same footing: they see the same frames and give the same kind of output.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from hem.errors import HemError
from hem.mining.baselines import limit_frames, mine_pseudo_labels, mine_random, mine_score
from hem.mining.paper import PaperThresholds
from hem.mining.run import SCORES, MiningPreset, mine, scale_of
from hem.mining.score_scale import ScoreScale
from hem.mining.thresholds import ElicitedThresholds, HemThresholds, TemporalThresholds, require_numbers
from hem.structures import HardExample
from hem.structures.evidence import Evidence
from hem.structures.example_list import ExampleList

Scale = Literal["raw", "quantile", "calibrated"]


class Preset(ABC):
    """Hard examples as a pure function of evidence."""

    @abstractmethod
    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """Return the hard examples of all videos, in order; rules give a lazy list, baselines a list.

        Args:
            evidence: of every video of the run; quantile settings are counted over all of them.
            seed: what random baselines draw from; rules do not look at it.
            calibrated: the scale of ``score_scale=calibrated``.

        Raises:
            HemError: if a threshold lies outside what was collected.
        """


def _taken(owner: object, kind: type[Any]) -> Any:  # noqa: ANN401
    """Return the fields of ``owner`` that ``kind`` has too, as a ``kind``."""
    return kind(**{one.name: getattr(owner, one.name) for one in fields(kind)})


def _check_scale(owner: Any) -> None:  # noqa: ANN401
    """Check what a preset that reads scores on a scale asks of it.

    Raises:
        HemError: if a setting is NaN, ``per_frame`` counts nothing, or a score setting is not on the scale.
    """
    require_numbers(owner)
    if not 0 < owner.per_frame < math.inf:
        raise HemError(f"mining.per_frame must be > 0 and finite, got {owner.per_frame}")
    if owner.score_scale == "raw":
        return  # a setting is a score there, of whatever range the detector has
    for name in (*SCORES, "low_score"):
        value = getattr(owner, name, None)
        if value is not None and not 0 <= value <= 1:
            raise HemError(f"mining.{name} must be in 0..1 with score_scale={owner.score_scale}, got {value}")


@dataclass(frozen=True)
class Paper(Preset, PaperThresholds):
    """The published method to the letter; its thresholds are raw scores and pixels."""

    score_scale: Literal["raw"] = "raw"

    @property
    def thresholds(self) -> PaperThresholds:
        """The thresholds alone."""
        return PaperThresholds(**{one.name: getattr(self, one.name) for one in fields(PaperThresholds)})

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> ExampleList:
        """See Preset.mine."""
        return mine(evidence, MiningPreset("paper", self.thresholds))


@dataclass(frozen=True)
class Temporal(Preset, TemporalThresholds):
    """hem's own rules on time alone."""

    score_scale: Scale = "quantile"
    per_frame: float = 10.0

    def __post_init__(self) -> None:
        _check_scale(self)
        super().__post_init__()

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        thresholds = _taken(self, TemporalThresholds)
        return mine(
            evidence, MiningPreset("temporal", thresholds, self.score_scale, self.per_frame), calibrated
        )


@dataclass(frozen=True)
class Elicited(Preset, ElicitedThresholds):
    """What the detector answers to disturbed frames, alone."""

    score_scale: Scale = "quantile"
    per_frame: float = 10.0

    def __post_init__(self) -> None:
        _check_scale(self)
        super().__post_init__()

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        thresholds = _taken(self, ElicitedThresholds)
        return mine(
            evidence, MiningPreset("elicited", thresholds, self.score_scale, self.per_frame), calibrated
        )


@dataclass(frozen=True)
class Hem(Preset, ElicitedThresholds, TemporalThresholds):
    """Both kinds of evidence together: the default. Thresholds that both have are one."""

    score_scale: Scale = "quantile"
    per_frame: float = 10.0

    def __post_init__(self) -> None:
        _check_scale(self)
        TemporalThresholds.__post_init__(self)
        ElicitedThresholds.__post_init__(self)

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        thresholds = HemThresholds(_taken(self, TemporalThresholds), _taken(self, ElicitedThresholds))
        return mine(evidence, MiningPreset("hem", thresholds, self.score_scale, self.per_frame), calibrated)


@dataclass(frozen=True)
class _Baseline(Preset):
    """What the baselines share.

    Attributes:
        score_threshold: detections at or above it are pseudo-labels.
            Range: 0..1 (raw: any number), finite.
        score_scale: how score settings are read; see ScoreScale.
        per_frame: detections a frame that setting 0 admits; see ScoreScale. Range: > 0, finite.
        max_frames: frames that may hold an example, over all videos; None for all. Replay rounds hold
            rules and baselines to one number of frames, so that none wins or loses by it
            (``replay.max_frames``): a smaller one here gives a baseline less to choose from.
            Range: null or >= 1 frame.
    """

    score_threshold: float = 0.8
    score_scale: Scale = "quantile"
    per_frame: float = 10.0
    max_frames: int | None = None

    def __post_init__(self) -> None:
        _check_scale(self)
        for name in ("score_threshold", "low_score"):
            if math.isinf(getattr(self, name, 0.0)):
                raise HemError(f"mining.{name} must be finite, got {getattr(self, name)}")
        if self.max_frames is not None and self.max_frames < 1:
            raise HemError(f"mining.max_frames must be null or >= 1, got {self.max_frames}")

    def _scale(self, evidence: Sequence[Evidence], calibrated: ScoreScale | None) -> ScoreScale:
        as_read = MiningPreset("temporal", TemporalThresholds(), self.score_scale, self.per_frame)
        return scale_of(evidence, as_read, calibrated)

    def _labels(self, evidence: Sequence[Evidence], scale: ScoreScale) -> list[HardExample]:
        threshold = scale.threshold(self.score_threshold)
        return [
            example
            for one in evidence
            for example in mine_pseudo_labels(one.detections, score_threshold=threshold)
        ]


@dataclass(frozen=True)
class Random(_Baseline):
    """Random background boxes as hard negatives; confident detections as pseudo-labels.

    Attributes:
        boxes_per_frame: random boxes in every decoded frame, fewer where it is crowded. Higher: more
            negatives, those of a frame more alike. Range: >= 0 boxes.
    """

    boxes_per_frame: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes_per_frame < 0:
            raise HemError(f"mining.boxes_per_frame must be >= 0, got {self.boxes_per_frame}")

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        labels = self._labels(evidence, self._scale(evidence, calibrated))
        found = [
            example
            for one in evidence
            for example in mine_random(one.detections, per_frame=self.boxes_per_frame, seed=seed)
        ]
        return limit_frames(found + labels, self.max_frames, seed=seed)


@dataclass(frozen=True)
class Score(_Baseline):
    """Low-score detections as hard negatives; confident ones as pseudo-labels.

    Attributes:
        low_score: detections from here up to ``score_threshold`` are taken to be false. Lower adds
            easy background. Range: 0..1 (raw: any number), <= score_threshold, finite.
    """

    low_score: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_score > self.score_threshold:
            raise HemError(
                f"mining.low_score must be at most score_threshold ({self.score_threshold:g}), "
                f"got {self.low_score}"
            )

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        scale = self._scale(evidence, calibrated)
        low, high = scale.threshold(self.low_score), scale.threshold(self.score_threshold)
        found = [e for one in evidence for e in mine_score(one.detections, low=low, high=high)]
        return limit_frames(found + self._labels(evidence, scale), self.max_frames, seed=seed)


@dataclass(frozen=True)
class PseudoLabels(_Baseline):
    """Confident detections as labels, and nothing else: the rest of each frame is background."""

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        labels = self._labels(evidence, self._scale(evidence, calibrated))
        return limit_frames(labels, self.max_frames, seed=seed)
