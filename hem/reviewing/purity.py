"""How pure each rule is by the answers so far, with an interval, and whether that is known well enough.

Answers come from a stratified sample without replacement. The estimate weighs each stratum's share of
right ones by the stratum's size; strata nobody answered about yet are taken to be like the others. The
interval is Wilson's at the effective sample size

    n_eff = 1 / sum over strata h of W_h^2 (1 - f_h) / n_h

(W_h: the stratum's share of the examples, n_h: answers, f_h: (n_h - 1) / (N_h - 1), the part of the
stratum that was seen; Kish 1965 for unequal weights, Cochran 1977 for the finite population). It leaves
out what stratification gains, so it is rather too wide than too narrow, and it shrinks to a point when
everything was looked at. Examples answered with "unsure" count neither as right nor as wrong.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hem.ops.intervals import wilson
from hem.reviewing.sample import Group, Sample, Stratum
from hem.structures import Answer, Kind


@dataclass(frozen=True)
class Purity:
    """What is known about one group, or about one kind over all rules (``rule`` None).

    Attributes:
        kind, rule: of the examples.
        mined: examples there are.
        right, wrong, unsure: answers.
        purity: estimated share of right ones; None without a right or wrong answer.
        low, high: its 95 % interval; None without an answer.
        enough: the interval is as narrow as wanted, or there is nothing left to look at.
        missing: about how many more answers it takes; 0 if there are enough.
    """

    kind: Kind
    rule: str | None
    mined: int
    right: int
    wrong: int
    unsure: int
    purity: float | None
    low: float | None
    high: float | None
    enough: bool
    missing: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        return {**vars(self), "kind": self.kind.value}


def purities(sample: Sample, answers: Mapping[str, Answer], width: float) -> list[Purity]:
    """Return the purity of every group, sorted by kind and rule.

    Args:
        sample: what the answers are about.
        answers: by example id; ids outside the sample are passed over.
        width: wanted width (high - low) of each interval, in (0, 1).
    """
    counts = _counts(sample, answers)
    return [
        _purity(group.kind, group.rule, _strata(sample, [group]), sample, counts, width)
        for group in sample.groups
    ]


def purities_by_kind(sample: Sample, answers: Mapping[str, Answer], width: float) -> list[Purity]:
    """Return the purity of every kind, over all rules; see purities."""
    counts = _counts(sample, answers)
    kinds = sorted({group.kind for group in sample.groups})
    return [
        _purity(
            kind, None, _strata(sample, [g for g in sample.groups if g.kind is kind]), sample, counts, width
        )
        for kind in kinds
    ]


def _counts(sample: Sample, answers: Mapping[str, Answer]) -> Counter[tuple[Stratum, Answer]]:
    return Counter(
        (sample.strata[example_id], answer)
        for example_id, answer in answers.items()
        if example_id in sample.strata
    )


def _strata(sample: Sample, groups: Sequence[Group]) -> list[Stratum]:
    return sorted(stratum for stratum in sample.sizes if stratum.group in groups)


def _purity(
    kind: Kind,
    rule: str | None,
    strata: Sequence[Stratum],
    sample: Sample,
    counts: Mapping[tuple[Stratum, Answer], int],
    width: float,
) -> Purity:
    rows = [
        (
            sample.sizes[one] - counts.get((one, Answer.UNSURE), 0),
            counts.get((one, Answer.RIGHT), 0),
            counts.get((one, Answer.RIGHT), 0) + counts.get((one, Answer.WRONG), 0),
        )
        for one in strata
    ]
    mined = sum(sample.sizes[one] for one in strata)
    unsure = sum(counts.get((one, Answer.UNSURE), 0) for one in strata)
    right, answered = sum(row[1] for row in rows), sum(row[2] for row in rows)
    share, interval = stratified_interval(rows)
    left = mined - unsure - answered
    enough = left == 0 or (interval is not None and interval[1] - interval[0] <= width)
    missing = 0 if enough else _missing(rows, right, answered, width)
    low, high = interval or (None, None)
    return Purity(kind, rule, mined, right, answered - right, unsure, share, low, high, enough, missing)


def stratified_interval(
    rows: Sequence[tuple[int, int, int]],
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the estimated share and its 95 % interval, or None twice without an answer.

    Args:
        rows: of each stratum, how many examples it has, how many were right, how many were answered.
    """
    seen = [(size, right, answered) for size, right, answered in rows if answered]
    if not seen:
        return None, None
    total = sum(size for size, _, _ in seen)
    share = sum(size / total * right / answered for size, right, answered in seen)
    share = min(max(share, 0.0), 1.0)
    return share, wilson(share, _effective([(size, answered) for size, _, answered in seen], rows))


def _effective(seen: Sequence[tuple[float, float]], rows: Sequence[tuple[int, int, int]]) -> float:
    """Return n_eff; strata nobody answered about enlarge the others, so nothing is ever all seen."""
    everything, known = sum(row[0] for row in rows), sum(size for size, _ in seen)
    spread = 0.0
    for size, answered in seen:
        size = max(size * everything / known, answered)
        rest = (size - answered) / (size - 1) if size > 1 else 0.0
        spread += (size / everything) ** 2 * rest / answered
    return 1 / spread if spread > 0 else math.inf


def _missing(rows: Sequence[tuple[int, int, int]], right: int, answered: int, width: float) -> int:
    """Return how many more answers, spread in proportion, would bring the interval to ``width``."""
    total = sum(row[0] for row in rows)
    share = (right + 1) / (answered + 2)  # a first few equal answers say little of how it will end
    low, high = answered, total
    while low < high:
        middle = (low + high) // 2
        rest = (total - middle) / (total - 1) if total > 1 else 0.0
        ends = wilson(share, middle / rest if rest > 0 else math.inf)
        if ends[1] - ends[0] <= width:
            high = middle
        else:
            low = middle + 1
    return max(1, low - answered)
