"""Honouring what people decided: wrong examples become ignore regions, weights follow the answers.

How weights are recalibrated. Let a group be all examples of one kind found by one rule, ``n`` of them
answered right or wrong, ``r`` of these right. The group's calibration factor is

    p = (r + PRIOR) / (n + PRIOR)

so it is 1 without answers and comes to the share of right ones as answers add up. Then

- wrong: an ignore region of weight 0 (a wrong hard negative may well be an object, a wrong positive
  may still touch one: neither is taught as background);
- right: weight max(w, 1), since 1 is the weight of a human label and a person has confirmed it;
- unsure, or not looked at: weight w * p.

A verdict or removal holds for the example with its permanent id, and for an example of the same kind
and class in the same frame that overlaps it with IoU >= SAME_IOU, so that it still holds when a
retrained detector finds the same box a little off.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from hem.ops.boxes import iou_matrix
from hem.structures import HardExample, Kind
from hem.structures.example_list import ExampleList
from hem.structures.rulings import JUDGED_KINDS, Answer, Drop, Place, Rulings, Verdict, place_of

SAME_IOU = 0.5  # what evaluation calls covering the same object
PRIOR = 2.0  # raising it needs more answers before weights move
Group = tuple[Kind, str]
"""(kind, rule)."""
Value = TypeVar("Value")
_Key = tuple[str, int, int, Kind]


@dataclass
class _Said(Generic[Value]):
    """Finds what was said about an example: by its permanent id, else by the best overlap."""

    by_id: dict[str, Value] = field(default_factory=dict)
    by_key: dict[_Key, list[tuple[Place, Value]]] = field(default_factory=dict)

    def add(self, place: Place, value: Value) -> None:
        key = (place.video_digest, place.frame_index, place.label, place.kind)
        self.by_key.setdefault(key, []).append((place, value))

    def find(self, example: HardExample) -> Value | None:
        place = place_of(example)
        known = self.by_key.get((place.video_digest, place.frame_index, place.label, place.kind), [])
        exact = self.by_id.get(example.example_id) if self.by_id else None
        if exact is not None or not known:
            return exact
        boxes = np.array([one.box_xyxy for one, _ in known], dtype=np.float64)
        overlap = iou_matrix(np.array([place.box_xyxy], dtype=np.float64), boxes)[0]
        best = len(overlap) - 1 - int(overlap[::-1].argmax())  # of equals the latest
        return known[best][1] if overlap[best] >= SAME_IOU else None


def honour(examples: Sequence[HardExample], rulings: Rulings) -> Sequence[HardExample]:
    """Return examples as they are to be taught after removals and verdicts, in the order given.

    Removals come first, then verdicts with recalibrated weights; see the head of this module. An
    ExampleList stays one: its objects live for a moment each.
    """
    if not rulings:
        return examples if isinstance(examples, ExampleList) else list(examples)
    dropped, judged = _dropping(rulings.drops), _judging(rulings.verdicts)

    def change(example: HardExample) -> HardExample | None:
        left = dropped(example)
        return None if left is None else judged(left)

    if isinstance(examples, ExampleList):
        return examples.corrected(change)
    return [after for example in examples if (after := change(example)) is not None]


def without_dropped(examples: Iterable[HardExample], drops: Sequence[Drop]) -> list[HardExample]:
    """Return examples without those of dropped videos; other dropped ones as ignore regions."""
    dropped = _dropping(drops)
    return [after for example in examples if (after := dropped(example)) is not None]


def with_verdicts(examples: Iterable[HardExample], verdicts: Sequence[Verdict]) -> list[HardExample]:
    """Return examples with wrong ones as ignore regions and the other weights recalibrated."""
    judged = _judging(verdicts)
    return [judged(example) for example in examples]


def _dropping(drops: Sequence[Drop]) -> Callable[[HardExample], HardExample | None]:
    """Return what makes of an example what the removals leave of it."""
    videos = {video for drop in drops for video in drop.video_ids}
    rules = {rule for drop in drops for rule in drop.rules}
    said = _Said[bool]({example_id: True for drop in drops for example_id in drop.example_ids})
    for drop in drops:
        for place in drop.places:
            said.add(place, True)

    def dropped(example: HardExample) -> HardExample | None:
        if example.video_id in videos:
            return None
        gone = example.kind in JUDGED_KINDS and (example.rule in rules or said.find(example))
        return ignored(example) if gone else example

    return dropped


def _judging(verdicts: Sequence[Verdict]) -> Callable[[HardExample], HardExample]:
    """Return what makes of an example what the verdicts say of it."""
    said = _Said[Answer]({one.example_id: one.answer for one in verdicts})
    for one in verdicts:
        said.add(one.place, one.answer)
    factors = calibration(verdicts)

    def judged(example: HardExample) -> HardExample:
        if example.kind not in JUDGED_KINDS:
            return example
        answer = said.find(example)
        if answer is Answer.WRONG:
            return ignored(example)
        if answer is Answer.RIGHT:
            return replace(example, weight=max(example.weight, 1.0))
        factor = factors.get((example.kind, example.rule), 1.0)
        return replace(example, weight=example.weight * factor)

    return judged


def calibration(verdicts: Iterable[Verdict]) -> Mapping[Group, float]:
    """Return the factor (right + PRIOR) / (answered + PRIOR) of every group that was answered."""
    right, answered = Counter[Group](), Counter[Group]()
    for one in verdicts:
        if one.answer is not Answer.UNSURE:
            group = (one.place.kind, one.rule)
            answered[group] += 1
            right[group] += one.answer is Answer.RIGHT
    return {group: (right[group] + PRIOR) / (count + PRIOR) for group, count in answered.items()}


def ignored(example: HardExample) -> HardExample:
    """Return an example as an ignore region."""
    return replace(example, kind=Kind.IGNORE, weight=0.0)


def as_mined(
    examples: Sequence[HardExample], verdicts: Sequence[Verdict], drops: Sequence[Drop] = ()
) -> list[HardExample]:
    """Undo honour for examples named one by one: an ignore region that a ruling made is the example again.

    So a review that goes on after its verdicts were honoured still measures what the rules mined.

    Args:
        examples: mined with rulings honoured.
        verdicts: whose wrong ones are to be restored, with the weight they had when they were judged.
        drops: whose places are to be restored, with the weight that is left.
    """
    said = {_key(place): (place.kind, None) for drop in drops for place in drop.places}
    wrong = [one for one in verdicts if one.answer is Answer.WRONG]
    known: dict[object, tuple[Kind, float | None]] = {**said}
    known |= {_key(one.place): (one.place.kind, one.weight) for one in wrong}
    found = []
    for example in examples:
        was = known.get(_key(place_of(example))) if example.kind is Kind.IGNORE else None
        if was is not None:
            weight = example.weight if was[1] is None else was[1]
            example = replace(example, kind=was[0], weight=weight)
        found.append(example)
    return found


def _key(place: Place) -> object:
    box = tuple(round(value, 2) for value in place.box_xyxy)
    return place.video_digest, place.frame_index, place.label, box
