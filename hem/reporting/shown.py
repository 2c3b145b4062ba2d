"""Which of a run's mined examples its report lists and shows, and what is added to their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hem.artifacts.evidence import load_evidence
from hem.mining.fuse import detection_of
from hem.structures import HardExample, Kind
from hem.structures.evidence import Evidence

MOST_STRIPS = 300  # each costs five decoded frames and some 10 kB
MOST_LISTED = 20_000  # rows of examples that teach; each costs some 250 bytes
MOST_IGNORED = 1_000  # ignore regions teach nothing: a sample of them is enough to judge by
_TEACHES = (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL)


def best_first(examples: Sequence[HardExample], right: Mapping[str, bool]) -> list[HardExample]:
    """Return examples as the page sorts them: right by the truth, then unknown, then wrong; by weight."""

    def place(example: HardExample) -> tuple[float, float, str, int, str]:
        known = right.get(example.example_id)
        rank = 1 if known is None else 0 if known else 2
        return rank, -example.weight, example.video_id, example.frame_index, example.example_id

    return sorted(examples, key=place)


def with_strips(
    examples: Sequence[HardExample], right: Mapping[str, bool], most: int = MOST_STRIPS
) -> list[HardExample]:
    """Return the examples to show as pictures: of each kind that teaches as many of the best as of the worst.

    Room that one kind does not need goes to the others.
    """
    ranked = {kind: best_first([e for e in examples if e.kind is kind], right) for kind in _TEACHES}
    chosen: list[HardExample] = []
    left = most
    for number, kind in enumerate(sorted(_TEACHES, key=lambda kind: len(ranked[kind]))):
        share = min(len(ranked[kind]), left // (len(_TEACHES) - number))
        best, worst = share - share // 2, share // 2
        chosen += ranked[kind][:best] + ranked[kind][len(ranked[kind]) - worst :]
        left -= share
    return chosen


def listed(
    examples: Sequence[HardExample], always: Sequence[HardExample] = ()
) -> tuple[list[HardExample], list[str]]:
    """Return the examples to list, in order, and a sentence about each group that was cut short.

    Args:
        examples: everything mined.
        always: listed in any case (those with pictures).
    """
    keep = {example.example_id for example in always}
    notes = []
    for teaches, most in ((True, MOST_LISTED), (False, MOST_IGNORED)):
        group = [e for e in examples if (e.kind is not Kind.IGNORE) is teaches]
        what = "mined examples" if teaches else "ignore regions"
        if len(group) > most:
            notes.append(
                f"{most} of {len(group)} {what} are listed, spread evenly over the videos; "
                "all of them are in hard_examples.parquet"
            )
        rows = np.unique(np.linspace(0, len(group) - 1, min(most, len(group))).round().astype(int))
        keep |= {group[row].example_id for row in rows}
    return [example for example in examples if example.example_id in keep], notes


def with_neighbours(examples: Sequence[HardExample], evidence: Path | None) -> dict[str, HardExample]:
    """Return examples by id with ``ncc_before`` and ``ncc_after`` from the stored evidence.

    These are the correlations (NCC) of the example's picture with the nearest frame before and after
    it that was matched. An example that is no stored detection (a gap that tracking filled) stays as
    it is.

    Args:
        examples: to look up.
        evidence: folder of a run's evidence, a folder a video; None changes nothing.
    """
    found = {example.example_id: example for example in examples}
    if evidence is None:
        return found
    for digest in sorted({example.video_digest for example in examples}):
        folder = evidence / digest[:16]
        if not folder.is_dir():
            continue
        stored = load_evidence(folder)
        for example in examples:
            if example.video_digest == digest:
                seen = _nearest_ncc(stored, example)
                found[example.example_id] = replace(example, evidence={**example.evidence, **seen})
    return found


def _nearest_ncc(stored: Evidence, example: HardExample) -> dict[str, float]:
    row = detection_of(stored, example)
    if row is None:
        return {}
    table = stored.neighbours
    low, high = np.searchsorted(table.candidate, [row, row + 1])
    offsets, ncc = table.offset[low:high], table.ncc[low:high]
    seen = {}
    for name, side in (("ncc_before", offsets < 0), ("ncc_after", offsets > 0)):
        if side.any():
            nearest = np.abs(offsets[side]) == np.abs(offsets[side]).min()
            seen[name] = float(ncc[side][nearest].max())
    return seen
