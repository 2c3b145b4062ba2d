"""Hard examples: what mining gives and replay takes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hem.errors import HemError


class Kind(StrEnum):
    """What a mined box teaches."""

    HARD_NEGATIVE = "hard_negative"
    HARD_POSITIVE = "hard_positive"
    PSEUDO_LABEL = "pseudo_label"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class HardExample:
    """One mined box.

    Attributes:
        video_id, video_digest, frame_index, time_s: where it is.
        box_xyxy: left, top, right, bottom in pixels of the original frame, with positive extent.
        label: class from 1 (0 only for ignore regions of every class).
        kind: see Kind.
        score: the detector's own score there; None where it said nothing.
        weight: >= 0; 1 is the weight of a human label.
        rule: the rule that found it, for example ``paper`` or ``elicited``.
        round: mining round, from 1.
        evidence: what the rule saw (numbers by name: ``ncc_before``, ``response``, ``track_id`` …).
    """

    video_id: str
    video_digest: str
    frame_index: int
    time_s: float
    box_xyxy: tuple[float, float, float, float]
    label: int
    kind: Kind
    score: float | None
    weight: float
    rule: str
    round: int = 1
    evidence: Mapping[str, float] = field(default_factory=dict)
    _id: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = f"hard example in {self.video_id} frame {self.frame_index}"
        object.__setattr__(self, "box_xyxy", tuple(map(float, self.box_xyxy)))
        object.__setattr__(self, "kind", Kind(self.kind))
        left, top, right, bottom = self.box_xyxy
        if not (right > left and bottom > top):
            raise HemError(f"{where}: box {self.box_xyxy} has no extent")
        if self.frame_index < 0:
            raise HemError(f"{where}: frame_index must be >= 0")
        if self.label < (0 if self.kind is Kind.IGNORE else 1):
            raise HemError(f"{where}: label must be >= 1 (0 only for ignore regions), got {self.label}")
        if not self.weight >= 0:
            raise HemError(f"{where}: weight must be >= 0, got {self.weight}")

    @property
    def example_id(self) -> str:
        """Permanent id: 16 hex digits over video digest, frame, label, kind and box to 0.01 px.

        Round and rule are left out, so the same box found again keeps its id.
        """
        if not self._id:  # worked out once: every table and file asks for it
            box = ",".join([f"{round(value, 2) + 0.0:.2f}" for value in self.box_xyxy])
            text = f"{self.video_digest}|{self.frame_index}|{self.label}|{self.kind.value}|{box}"
            object.__setattr__(self, "_id", hashlib.sha256(text.encode()).hexdigest()[:16])
        return self._id
