"""What people decided about mined examples: verdicts of a review, and removals."""

from dataclasses import dataclass, field
from enum import StrEnum

from hem.errors import HemError
from hem.structures.examples import HardExample, Kind

JUDGED_KINDS = (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL)
"""Kinds that claim something; an ignore region claims nothing and is never judged."""


class Answer(StrEnum):
    """Is the example what it claims to be?

    A hard negative is right where its box covers no object of its class, a hard positive or a
    pseudo-label where it covers one (IoU >= 0.5 with the object's true box).
    """

    RIGHT = "right"
    WRONG = "wrong"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Place:
    """Where an example is and what it claims: all that its permanent id rests on.

    Attributes:
        video_digest: sha256 of the video's content.
        frame_index: frame from 0.
        label: class from 1.
        kind: see Kind.
        box_xyxy: pixels of the original frame.
    """

    video_digest: str
    frame_index: int
    label: int
    kind: Kind
    box_xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "box_xyxy", tuple(float(value) for value in self.box_xyxy))
        if len(self.box_xyxy) != 4:
            raise HemError(f"a place needs a box of four numbers, got {self.box_xyxy}")


def place_of(example: HardExample) -> Place:
    """Return where an example is and what it claims."""
    return Place(example.video_digest, example.frame_index, example.label, example.kind, example.box_xyxy)


@dataclass(frozen=True)
class Verdict:
    """What a person answered about one example.

    Attributes:
        example_id: permanent id of the example.
        answer: see Answer.
        place: where it is, so that the verdict also holds for the same box found again a little off.
        rule: the rule that found it.
        score, weight: as mined.
        video_id: for people; the place holds the digest.
        who: who answered, as they named themselves; "" if they did not.
        time: when, ISO 8601 in UTC.
        source: ``review``, or the format it was imported from.
    """

    example_id: str
    answer: Answer
    place: Place
    rule: str
    score: float | None
    weight: float
    video_id: str
    who: str = ""
    time: str = ""
    source: str = "review"

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer", Answer(self.answer))


@dataclass(frozen=True)
class Drop:
    """One removal.

    Attributes:
        asked: what was asked for, in words.
        example_ids: the examples it named, which become ignore regions.
        video_ids: videos it named, whose frames leave the replay set.
        reason: why, as given.
        time: when, ISO 8601 in UTC.
        who: who asked, as they named themselves; "" if they did not.
        rules: rules it named; examples of theirs mined later become ignore regions too.
        places: of the examples named by id, so that the same box found again a little off is dropped.
    """

    asked: str
    example_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    reason: str
    time: str
    who: str = ""
    rules: tuple[str, ...] = ()
    places: tuple[Place, ...] = field(default=())


@dataclass(frozen=True)
class Rulings:
    """All that people decided and that mining is to honour; empty = nothing."""

    verdicts: tuple[Verdict, ...] = ()
    drops: tuple[Drop, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.verdicts or self.drops)
