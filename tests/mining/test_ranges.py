"""The ranges that ``--help`` tells of mining settings are those that the classes hold to."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hem.errors import HemError
from hem.mining.disturbances import DISTURBANCES
from hem.mining.presets import Elicited, Hem, Paper, PseudoLabels, Random, Score, Temporal
from hem.reference import Setting, node_settings
from hem.structures.evidence import CollectSettings

CLASSES: dict[type, str] = dict.fromkeys(
    (Paper, Temporal, Elicited, Hem, Random, Score, PseudoLabels), "mining"
)
CLASSES[CollectSettings] = "collect"
ALL = tuple(CLASSES)
FAR = 1e9  # any number goes as far
_PAIR = "[lowest, highest], lowest <= highest"
_LIMIT = re.compile(r"(>=|>|<=|<) (\w+)(?: [a-z]+²?)?")


@dataclass(frozen=True)
class Told:
    """One setting's range as its text tells it.

    Attributes:
        nullable, raw_any, finite: null is legal; any number is on the raw scale; infinity is not.
        low, high: ends, infinite where there is none; ``_open``: the end itself is not legal.
        at_most: the setting that it must not exceed.
    """

    nullable: bool
    raw_any: bool
    finite: bool
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    at_most: str | None = None

    def nearest(self, value: float) -> float:
        """Return the value in the range that is nearest to ``value``."""
        return min(max(value, self.low), self.high)


def told(text: str) -> Told:
    """Read a range; every form but the documented ones fails."""
    found: dict[str, Any] = {
        "nullable": text.startswith("null or "),
        "raw_any": "(raw: any number)" in text,
        "finite": text.endswith(", finite"),
    }
    text = text.removeprefix("null or ").replace(" (raw: any number)", "").removesuffix(", finite")
    for part in text.split(", "):
        limit = _LIMIT.fullmatch(part)
        if span := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", part):
            found |= {"low": float(span[1]), "high": float(span[2])}
        elif limit and limit[2].isdigit():
            end = "low" if limit[1].startswith(">") else "high"
            found |= {end: float(limit[2]), f"{end}_open": "=" not in limit[1]}
        elif limit:
            assert limit[1] == "<="
            found["at_most"] = limit[2]
        else:
            assert part == "any number", f"{part!r} is no form of a range"
    return Told(**found)


def settings(target: type) -> Iterator[tuple[str, Setting, str]]:
    """Give the name of every setting that takes numbers, its row, and its range as text."""
    rows = node_settings({"_target_": f"{target.__module__}.{target.__qualname__}"}, CLASSES[target])
    for row in rows[1:]:
        if "number" in row.kind:
            found = re.search(r"\bRange: (.+)\.$", row.meaning)
            assert found, f"{row.key} of {target.__name__} tells no range at its end: {row.meaning!r}"
            yield row.key.partition(".")[2], row, found[1]


CASES = [(target, name, row, text) for target in ALL for name, row, text in settings(target)]
ONE_NUMBER = [case for case in CASES if case[3] != _PAIR]
IDS = [f"{target.__name__}.{name}" for target, name, *_ in ONE_NUMBER]


def built(target: type, name: str, value: float | None, **more: Any) -> object:
    """Build with one setting, and those it is bound to moved along as far as their own ranges go."""
    ranges = {one: told(text) for one, _, text in settings(target) if text != _PAIR}
    given = {**more, name: value}
    bound = [one for one in given if one in ranges]
    while bound and value is not None and not math.isnan(value):
        here = bound.pop()
        above = [ranges[here].at_most] if ranges[here].at_most else []
        below = [one for one, found in ranges.items() if found.at_most == here]
        for other in (*above, *below):
            if other not in given:
                given[other] = value if "raw" in more.values() else ranges[other].nearest(value)
                bound.append(other)
    return target(**given)


def beyond(end: float, towards: float, whole: bool) -> float:
    """Return the next number behind an end."""
    return end + math.copysign(1, towards) if whole else math.nextafter(end, towards)


def refused(target: type, name: str, value: float, **more: Any) -> None:
    with pytest.raises(HemError, match=rf"{CLASSES[target]}\.{name}\b"):
        built(target, name, value, **more)


@pytest.mark.parametrize(("target", "name", "row", "text"), ONE_NUMBER, ids=IDS)
def test_ends_are_accepted_and_what_lies_behind_them_is_refused(target, name, row, text):
    found, whole = told(text), "whole number" in row.kind
    kind = int if whole else float
    for end, is_open, away in (
        (found.low, found.low_open, -math.inf), (found.high, found.high_open, math.inf),
    ):  # fmt: skip
        if math.isinf(end):
            built(target, name, kind(math.copysign(FAR, away)))
            continue
        inner = beyond(end, -away, whole) if is_open else end
        built(target, name, kind(inner))
        refused(target, name, kind(end if is_open else beyond(end, away, whole)))
    if not whole:
        refused(target, name, math.nan)
    if not whole and not math.isinf(found.low) and math.isinf(found.high):
        if found.finite:
            refused(target, name, math.inf)
        else:
            built(target, name, math.inf)


@pytest.mark.parametrize(("target", "name", "row", "text"), ONE_NUMBER, ids=IDS)
def test_what_is_told_of_null_the_raw_scale_and_other_settings_holds(target, name, row, text):
    found = told(text)
    assert found.nullable is ("null" in row.kind)
    if found.nullable:
        built(target, name, None)
    if found.raw_any:
        for value in (-FAR, FAR):
            built(target, name, value, score_scale="raw")
        if found.finite:
            above = {found.at_most: 0.5} if found.at_most else {}
            refused(target, name, -math.inf, score_scale="raw", **above)
        else:
            built(target, name, math.inf, score_scale="raw")
    if found.at_most:
        other = 0.5
        built(target, name, other, **{found.at_most: other})
        refused(target, name, math.nextafter(other, math.inf), **{found.at_most: other})


@pytest.mark.parametrize("name", [name for _, name, _, text in CASES if text == _PAIR])
def test_collected_ranges_run_from_the_lowest_to_the_highest(name):
    for pair in ((-FAR, FAR), (0.5, 0.5), (-math.inf, math.inf)):
        assert getattr(CollectSettings(**{name: pair}), name) == pair
    for pair in ((math.nextafter(0.5, 1), 0.5), (math.nan, 1.0), (0.0, math.nan), (0.5,)):
        with pytest.raises(HemError, match=rf"collect\.{name} must be"):
            CollectSettings(**{name: pair})


def test_every_preset_and_kind_of_setting_is_among_the_cases():
    names = {(target, name) for target, name, *_ in CASES}
    assert {target for target, _ in names} == set(ALL) and len(names) > 80
    assert all(name in DISTURBANCES for name in CollectSettings(variants=tuple(DISTURBANCES)).variants)
