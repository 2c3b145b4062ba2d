"""One review: what to show next, what was answered, how pure each rule is; shared by any number of tabs."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from hem.artifacts.rulings import VERDICTS, VerdictLog
from hem.errors import HemError
from hem.reporting.review_source import Reviewable
from hem.reporting.tables import MISSING
from hem.reviewing.formats import claim
from hem.reviewing.purity import Purity, purities, purities_by_kind
from hem.reviewing.sample import Group, Sample
from hem.structures import Answer, HardExample, Verdict
from hem.structures.rulings import place_of

HELD_S = 600.0  # an example that a tab shows is kept from other tabs this long


class Session:
    """Hands out examples and takes answers; every call may come from another thread.

    Args:
        source: what is reviewed.
        width: wanted width of each interval.
        seed: which sample.
        who: kept with each answer.
        clock: seconds, rising; for tests.
    """

    def __init__(
        self,
        source: Reviewable,
        *,
        width: float = 0.1,
        seed: int = 0,
        who: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.sample = Sample(source.examples, seed)
        if not self.sample.strata:
            raise HemError(f"{source.run}: nothing that can be judged was mined")
        self.log = VerdictLog(source.run / VERDICTS)
        self.width = width
        self._who = who
        self._clock = clock
        self._lock = threading.RLock()
        self._held: dict[str, tuple[str, float]] = {}

    def next(self, tab: str) -> str | None:
        """Return the id of the example that a tab should show, or None when all were answered.

        A tab that asks again without having answered gets the same one.
        """
        with self._lock:
            answered = self._standing()
            now = self._clock()
            self._held = {i: h for i, h in self._held.items() if now - h[1] < HELD_S and i not in answered}
            mine = next((one for one, (by, _) in self._held.items() if by == tab), None)
            if mine is None:
                mine = next(self._upcoming(answered), None)
            if mine is not None:
                self._held[mine] = (tab, now)
            return mine

    def _upcoming(self, answered: dict[str, Verdict]) -> Iterator[str]:
        enough = {Group(one.kind, one.rule or "") for one in self._purities(answered) if one.enough}
        return self.sample.upcoming({*answered, *self._held}, enough)

    def coming(self, count: int) -> list[str]:
        """Return the ids that will probably be shown next."""
        with self._lock:
            return list(islice(self._upcoming(self._standing()), count))

    def answer(self, example_id: str, answer: Answer, tab: str) -> None:
        """Keep an answer; on return it is on disk. The same answer sent twice is kept once.

        Raises:
            HemError: if there is no such example to judge.
        """
        if example_id not in self.sample.strata:
            raise HemError(f"no example {example_id} to judge")
        with self._lock:
            standing = self._standing().get(example_id)
            if self.log.last_of(tab) == example_id and standing is not None and standing.answer is answer:
                return  # sent again because the first reply was lost
            self.log.add([verdict_of(self.sample.examples[example_id], answer, self._who)], tab)
            self._held.pop(example_id, None)

    def undo(self, tab: str) -> str | None:
        """Take back the last answer of a tab, which then shows that example again; None without one."""
        with self._lock:
            example_id = self.log.undo(tab, _now())
            if example_id is None or example_id not in self.sample.strata:
                return None
            self._held = {one: held for one, held in self._held.items() if held[0] != tab}
            self._held[example_id] = (tab, self._clock())
            return example_id

    def describe(self, example_id: str) -> dict[str, Any]:
        """Return what a page shows of an example, as JSON-like values."""
        example = self.sample.examples[example_id]
        return {
            "id": example_id,
            "kind": example.kind.value,
            "claim": claim(example, self.source.class_name(example.label)),
            "class": self.source.class_name(example.label),
            "video": example.video_id,
            "frame": example.frame_index,
            "time": round(example.time_s, 3),
            "rule": example.rule,
            "score": None if example.score is None else round(example.score, 4),
            "weight": round(example.weight, 4),
            "round": example.round,
            "evidence": {
                name: round(float(value), 4) for name, value in example.evidence.items() if value == value
            },
        }

    def progress(self) -> dict[str, Any]:
        """Return counts and purities, by kind and rule and by kind, as JSON-like values."""
        with self._lock:
            answered = self._standing()
        answers = {example_id: one.answer for example_id, one in answered.items()}
        groups = self._purities(answered)
        return {
            "answered": len(answers),
            "mined": len(self.sample.strata),
            "width": self.width,
            "enough": all(one.enough for one in groups),
            "groups": [one.as_dict() for one in groups],
            "kinds": [one.as_dict() for one in purities_by_kind(self.sample, answers, self.width)],
        }

    def purities(self) -> list[Purity]:
        """Return what is known about each kind and rule."""
        return self._purities(self._standing())

    def _purities(self, answered: dict[str, Verdict]) -> list[Purity]:
        answers = {example_id: one.answer for example_id, one in answered.items()}
        return purities(self.sample, answers, self.width)

    def _standing(self) -> dict[str, Verdict]:
        self.log.refresh()
        return {one: v for one, v in self.log.standing.items() if one in self.sample.strata}


def verdict_of(example: HardExample, answer: Answer, who: str = "", source: str = "review") -> Verdict:
    """Return an answer about an example, given now."""
    return Verdict(
        example_id=example.example_id,
        answer=answer,
        place=place_of(example),
        rule=example.rule,
        score=example.score,
        weight=example.weight,
        video_id=example.video_id,
        who=who,
        time=_now(),
        source=source,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def table_rows(found: Sequence[Purity]) -> list[tuple[str, ...]]:
    """Return purities as rows of text: kind, rule, mined, right, wrong, unsure, purity, state."""
    rows: list[tuple[str, ...]] = []
    for one in found:
        share = MISSING if one.purity is None else f"{one.purity:.2f} [{one.low:.2f}, {one.high:.2f}]"
        state = "enough" if one.enough else f"about {one.missing} more"
        rows.append((
            one.kind.value.replace("_", " "), one.rule or "all rules", str(one.mined), str(one.right),
            str(one.wrong), str(one.unsure), share, state,
        ))  # fmt: skip
    return rows
