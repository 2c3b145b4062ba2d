"""How a threshold setting in [0, 1] is read on a detector's own scores.

Scores of two detectors are not comparable: at 0.8 one is right nine times of ten, another half the
time, and a third's scores run from -0.8 to 139. A preset that is to serve all of them states its
thresholds on one of three scales.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hem.errors import HemError

_SLACK = 1e-9  # (1 - 0.8) * 10 is 1.9999999999999996 in floating point, and means 2


class ScaleKind(StrEnum):
    """How a setting is read; see ScoreScale."""

    RAW = "raw"
    QUANTILE = "quantile"
    CALIBRATED = "calibrated"


@dataclass(frozen=True, eq=False)
class ScoreScale:
    """Map from settings to score thresholds; build it with raw(), quantile() or calibrated().

    ``raw``: the setting is the score.

    ``quantile``: setting s is the score that the best (1 - s) * ``per_frame`` detections a frame
    reach, counted over all videos of a run together. With the default ``per_frame`` of 10, 0.8
    means "the two highest scores a frame on average", 0.5 the five highest, 0 the ten highest, and
    1 nothing at all. Counting from the top makes it independent of the floor at which detections
    were collected (a share of *all kept* detections would change with the floor), needs no labels
    and takes any scores, bounded or not. It gives every detector the same number of detections on
    the same video; it says nothing of how many of these are right, and ``per_frame`` should follow
    how crowded the videos are (twice the usual number of objects in a frame serves well).

    ``calibrated``: setting s is the lowest score from which, on labelled validation images, a
    detection of *that* score is right with probability >= s (isotonic, so never falling with the
    score). The same meaning on every detector and every video like the validation images; use it
    where labels exist.

    Attributes:
        kind: which of the three.
        scores: float64 (K,), rising. quantile: the highest scores of the pool, at most one for each
            count that can be asked for; calibrated: lowest score of each step.
        values: float64 (K,). calibrated: precision of each step, rising; otherwise empty.
        reference_count: quantile: how many detections setting 0 admits, per_frame * frames.
        floor_score: detections below it were not kept in the pool; what setting 0 admits (calibrated).
    """

    kind: ScaleKind
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    reference_count: float = 0.0
    floor_score: float = float("-inf")

    @classmethod
    def raw(cls) -> "ScoreScale":
        """Return the scale on which a setting is a score."""
        return cls(ScaleKind.RAW)

    @classmethod
    def quantile(
        cls,
        scores: ArrayLike,
        n_frames: int,
        *,
        per_frame: float = 10.0,
        floor_score: float = float("-inf"),
    ) -> "ScoreScale":
        """Return the scale counted over detections pooled from all videos of the run.

        Args:
            scores: (N,), every kept detection's score, any finite values, any order.
            n_frames: frames that were searched, empty ones included, those in gaps not; >= 1.
            per_frame: detections a frame that setting 0 admits, > 0. Raising it lowers every
                threshold: more candidates, more of them noise.
            floor_score: the lowest score the pool could hold.

        Raises:
            HemError: if a score is not finite or lies below the floor, or a number is out of range.
        """
        pool = _finite(scores)
        if n_frames < 1 or not per_frame > 0:
            raise HemError(
                f"score scale: n_frames={n_frames} must be >= 1 and per_frame={per_frame} must be > 0"
            )
        if len(pool) and float(pool.min()) < floor_score:
            raise HemError(f"score scale: a score of {float(pool.min())} is below the floor {floor_score}")
        reference = per_frame * n_frames
        most = min(len(pool), int(reference + _SLACK) + 1)
        top = np.sort(pool)[len(pool) - most :]
        return cls(ScaleKind.QUANTILE, top, np.zeros(0), reference, float(floor_score))

    @classmethod
    def calibrated(cls, scores: ArrayLike, is_true: ArrayLike, *, min_count: int = 20) -> "ScoreScale":
        """Return the scale on which a setting is a probability of being right.

        Args:
            scores: (N,), detections on labelled images; is_true: bool (N,), whether each overlaps
                a true object of its class (leave out those in ignore regions).
            min_count: detections that each estimate rests on at least. Raising it smooths over
                rare scores and caps the highest precision that can be asked for; lowering it lets a
                few lucky detections claim a precision of 1.

        Raises:
            HemError: on fewer than min_count detections, unequal lengths or scores not finite.
        """
        pool, truth = _finite(scores), np.asarray(is_true, dtype=bool).reshape(-1)
        if len(pool) != len(truth):
            raise HemError(f"score scale: {len(pool)} scores and {len(truth)} verdicts must have one length")
        if min_count < 1 or len(pool) < min_count:
            raise HemError(
                f"score scale: {len(pool)} validation detections cannot be calibrated with min_count="
                f"{min_count}; label more images, lower min_count (>= 1), or use score_scale=quantile"
            )
        starts, right, count = _groups(pool, truth, min_count)
        first, fitted = _pool_adjacent(right, count)
        return cls(ScaleKind.CALIBRATED, starts[first], fitted)

    def threshold(self, setting: float) -> float:
        """Return the score threshold for ``setting``: a detection passes with score >= it.

        quantile: +inf where the setting admits less than one detection. Of several detections at
        the threshold all pass. Where more are asked for than were kept, the floor: all pass (see
        ``resolves``). calibrated: the floor for 0, +inf where no score is that precise.

        Raises:
            HemError: if the setting is outside [0, 1] (any finite setting is legal on raw).
        """
        if not np.isfinite(setting):
            raise HemError(f"score setting {setting} must be a finite number")
        if self.kind is ScaleKind.RAW:
            return float(setting)
        if not 0 <= setting <= 1:
            raise HemError(f"score setting {setting} must lie in [0, 1] with score_scale={self.kind.value}")
        if self.kind is ScaleKind.CALIBRATED:
            reached = np.flatnonzero(self.values >= setting - _SLACK)
            if setting == 0:
                return self.floor_score
            return float(self.scores[reached[0]]) if len(reached) else float("inf")
        count = int((1.0 - setting) * self.reference_count + _SLACK)
        if count == 0:
            return float("inf")
        return float(self.scores[-count]) if count <= len(self.scores) else self.floor_score

    def resolves(self, setting: float) -> bool:
        """Return False where a quantile setting asks for more detections than were kept.

        Then ``threshold`` gives the floor, and a lower collecting floor would have admitted more:
        the one case in which the floor matters, so callers say so to the user.
        """
        if self.kind is not ScaleKind.QUANTILE or self.floor_score == float("-inf"):
            return True
        return int((1.0 - setting) * self.reference_count + _SLACK) <= len(self.scores)

    def settings_of(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the highest setting (N,) that each score passes: the scale's inverse.

        raw: the score itself. quantile and calibrated: in [0, 1]; 0 for scores under the scale.
        """
        given = np.asarray(scores, dtype=np.float64).reshape(-1)
        if self.kind is ScaleKind.RAW:
            return given.copy()
        if self.kind is ScaleKind.CALIBRATED:
            step = np.searchsorted(self.scores, given, side="right") - 1
            return np.where(step >= 0, self.values[np.maximum(step, 0)], 0.0)
        above = len(self.scores) - np.searchsorted(self.scores, given, side="right")
        # a score passes setting s if the count-th highest is <= it, so the least count that admits
        # it is the number strictly above, plus one
        return np.clip(1.0 - (above + 1) / self.reference_count, 0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like values for an artifact's header; from_dict gives the same scale back."""
        floor = self.floor_score
        return {
            "kind": self.kind.value,
            "scores": self.scores.tolist(),
            "values": self.values.tolist(),
            "reference_count": self.reference_count,
            "floor_score": floor if np.isfinite(floor) else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "ScoreScale":
        """Return the scale that to_dict described."""
        floor = stored["floor_score"]
        return cls(
            ScaleKind(stored["kind"]),
            np.asarray(stored["scores"], dtype=np.float64),
            np.asarray(stored["values"], dtype=np.float64),
            float(stored["reference_count"]),
            float("-inf") if floor is None else float(floor),
        )


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    pool = np.asarray(scores, dtype=np.float64).reshape(-1)
    if not bool(np.isfinite(pool).all()):
        raise HemError("score scale: every score must be finite")
    return pool


def _groups(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], min_count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lowest score, share right and size of groups of >= min_count detections, from the top down.

    Equal scores are never split. Groups form from the highest score down, so that low scores (and
    with them the floor) cannot move the borders above; what is left over joins the lowest group.
    """
    distinct, inverse = np.unique(scores, return_inverse=True)
    sizes = np.bincount(inverse).astype(np.float64)
    hits = np.bincount(inverse, weights=truth.astype(np.float64))
    starts: list[float] = []
    right: list[float] = []
    count: list[float] = []
    size = hit = 0.0
    for k in range(len(distinct) - 1, -1, -1):
        size, hit = size + sizes[k], hit + hits[k]
        if size >= min_count:
            starts.append(float(distinct[k]))
            right.append(hit)
            count.append(size)
            size = hit = 0.0
    if size:
        starts[-1] = float(distinct[0])
        right[-1] += hit
        count[-1] += size
    shares = np.array(right) / np.array(count)
    return np.array(starts)[::-1], shares[::-1], np.array(count)[::-1]


def _pool_adjacent(
    shares: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Isotonic regression: index of the first group of each step, and its value (strictly rising)."""
    first: list[int] = []
    value: list[float] = []
    weight: list[float] = []
    for k, (share, size) in enumerate(zip(shares.tolist(), count.tolist(), strict=True)):
        first.append(k)
        value.append(share)
        weight.append(size)
        while len(value) > 1 and value[-2] >= value[-1]:
            total = weight[-2] + weight[-1]
            merged = (value[-2] * weight[-2] + value[-1] * weight[-1]) / total
            del first[-1], value[-1], weight[-1]
            value[-1], weight[-1] = merged, total
    return np.array(first, dtype=np.int64), np.array(value)
