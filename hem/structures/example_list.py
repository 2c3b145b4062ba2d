"""Hard examples in columns: a list that makes its objects when they are asked for."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from hem.structures.examples import HardExample, Kind

KINDS = (Kind.HARD_NEGATIVE, Kind.HARD_POSITIVE, Kind.PSEUDO_LABEL, Kind.IGNORE)
"""What the codes in a column of kinds stand for."""
SLICE = 4096  # objects that lie in memory at once while a list is gone through: 3 MiB of them


@dataclass(frozen=True, eq=False)
class ExampleColumns:
    """Boxes that one rule mined in one round from one video.

    Attributes:
        video_id, video_digest, rule, round: as in HardExample, the same for all.
        frame_index: int64 (N,).
        time_s: float64 (N,).
        boxes_xyxy: float64 (N, 4).
        labels: int64 (N,).
        kind: int8 (N,), index into KINDS.
        scores: float64 (N,), NaN where the detector said nothing.
        weights: float64 (N,).
        evidence: columns float64 (N,), NaN where a value does not apply.
    """

    video_id: str
    video_digest: str
    rule: str
    round: int
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    kind: NDArray[np.int8]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    evidence: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame_index)

    def objects(self, rows: NDArray[np.int64]) -> Iterator[HardExample]:
        """Yield the boxes of ``rows`` as objects.

        Raises:
            HemError: for a box without extent, or any other value that HardExample refuses.
        """
        names = list(self.evidence)
        seen = zip(*(self.evidence[name][rows].tolist() for name in names), strict=True)
        columns = (self.frame_index, self.time_s, self.boxes_xyxy, self.labels, self.kind)
        numbers = (*columns, self.scores, self.weights)
        values = zip(*(column[rows].tolist() for column in numbers), strict=True)
        for frame, time_s, box, label, kind, score, weight in values:
            yield HardExample(
                video_id=self.video_id,
                video_digest=self.video_digest,
                frame_index=frame,
                time_s=time_s,
                box_xyxy=tuple(box),
                label=label,
                kind=KINDS[kind],
                score=score if score == score else None,
                weight=weight,
                rule=self.rule,
                round=self.round,
                evidence={n: v for n, v in zip(names, next(seen, ()), strict=True) if v == v},
            )


class ExampleList(Sequence[HardExample]):
    """Hard examples in order, about a hundred bytes each; otherwise like a list that never changes.

    A slice is a list of objects. Equal to any sequence with equal examples in the same order.

    Args:
        parts: where the boxes lie.
        rows: int64 (N,), which ones, in order, counted through the parts; None = all of them.
    """

    def __init__(self, parts: Iterable[ExampleColumns] = (), rows: NDArray[np.int64] | None = None) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self._rows = np.arange(self._starts[-1]) if rows is None else np.asarray(rows, dtype=np.int64)

    @classmethod
    def joined(cls, lists: Iterable["ExampleList"]) -> "ExampleList":
        """Return the examples of several lists, one list after the other."""
        given = list(lists)
        starts = np.cumsum([0, *(int(one._starts[-1]) for one in given)]).tolist()
        rows = [one._rows + start for one, start in zip(given, starts[:-1], strict=True)]
        parts = [part for one in given for part in one._parts]
        return cls(parts, np.concatenate([np.zeros(0, dtype=np.int64), *rows]))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> HardExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[HardExample]: ...
    def __getitem__(self, index: int | slice) -> HardExample | list[HardExample]:
        """Return one example, or a list of them."""
        if isinstance(index, slice):
            return list(self._objects(self._rows[index]))
        return next(self._objects(self._rows[[index]]))

    def __iter__(self) -> Iterator[HardExample]:
        for first in range(0, len(self), SLICE):
            yield from self._objects(self._rows[first : first + SLICE])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} examples)"

    def _objects(self, rows: NDArray[np.int64]) -> Iterator[HardExample]:
        for part, inner in self._runs(rows):
            yield from part.objects(inner)

    def _runs(self, rows: NDArray[np.int64]) -> Iterator[tuple[ExampleColumns, NDArray[np.int64]]]:
        """Yield runs of rows that lie in one part, as rows of that part."""
        part = np.searchsorted(self._starts, rows, side="right") - 1
        edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(rows)]
        for first, end in pairwise(edges) if len(rows) else ():
            at = int(part[first])
            yield self._parts[at], rows[first:end] - self._starts[at]

    def places(self) -> Iterator[tuple[str, int, float]]:
        """Yield (video_id, frame_index, time_s) of every example, without making objects."""
        for first in range(0, len(self), SLICE):
            for part, rows in self._runs(self._rows[first : first + SLICE]):
                frames, times = part.frame_index[rows].tolist(), part.time_s[rows].tolist()
                for frame, time_s in zip(frames, times, strict=True):
                    yield part.video_id, frame, time_s

    def counts(self) -> Counter[tuple[str, Kind]]:
        """Return how many there are by (video_id, kind)."""
        found: Counter[tuple[str, Kind]] = Counter()
        for part, rows in self._runs(np.sort(self._rows)):
            for code, count in enumerate(np.bincount(part.kind[rows], minlength=len(KINDS)).tolist()):
                found[part.video_id, KINDS[code]] += count
        return +found

    def in_order(self) -> "ExampleList":
        """Return them sorted by video, frame, kind's name, label and box; equal ones stay as they are."""

        def column(name: str) -> NDArray:
            return np.concatenate([getattr(part, name) for part in self._parts])[self._rows]

        if not len(self):
            return self
        ids, names = sorted({part.video_id for part in self._parts}), sorted(kind.value for kind in KINDS)
        video = np.repeat([ids.index(part.video_id) for part in self._parts], np.diff(self._starts))
        kind = np.array([names.index(kind.value) for kind in KINDS])[column("kind")]
        box = column("boxes_xyxy").T[::-1]
        keys = (*box, column("labels"), kind, column("frame_index"), video[self._rows])
        return ExampleList(self._parts, self._rows[np.lexsort(keys)])

    def corrected(self, change: Callable[[HardExample], HardExample | None]) -> "ExampleList":
        """Return the examples with another kind or weight, or without some; objects live for a moment.

        Args:
            change: gives an example that differs in kind and weight at most, or None to leave it out.
        """
        kinds = np.concatenate([np.zeros(0, dtype=np.int8), *(part.kind for part in self._parts)])
        weights = np.concatenate([np.zeros(0), *(part.weights for part in self._parts)])
        kept = np.ones(len(self), dtype=np.bool_)
        for at, example in enumerate(self):
            after = change(example)
            kept[at] = after is not None
            if after is not None and after is not example:
                row = self._rows[at]
                kinds[row], weights[row] = KINDS.index(after.kind), after.weight
        spans = list(pairwise(self._starts.tolist()))
        parts = [
            replace(part, kind=kinds[first:end], weights=weights[first:end])
            for part, (first, end) in zip(self._parts, spans, strict=True)
        ]
        return ExampleList(parts, self._rows[kept])


def in_order(examples: Sequence[HardExample]) -> Sequence[HardExample]:
    """Return examples sorted as ExampleList.in_order does, whatever holds them."""
    if isinstance(examples, ExampleList):
        return examples.in_order()
    return sorted(examples, key=lambda e: (e.video_id, e.frame_index, e.kind.value, e.label, e.box_xyxy))


def frames_of(examples: Sequence[HardExample]) -> Iterator[tuple[str, int, float, int]]:
    """Yield (video_id, frame_index, time_s, examples) of each run of examples in one frame."""
    places = (
        examples.places()
        if isinstance(examples, ExampleList)
        else ((e.video_id, e.frame_index, e.time_s) for e in examples)
    )
    for (video_id, frame), group in groupby(places, key=lambda place: place[:2]):
        times = [time_s for _, _, time_s in group]
        yield video_id, frame, times[0], len(times)


def counts_of(examples: Sequence[HardExample]) -> Counter[tuple[str, Kind]]:
    """Return how many examples there are by (video_id, kind), whatever holds them."""
    if isinstance(examples, ExampleList):
        return examples.counts()
    return Counter((example.video_id, example.kind) for example in examples)
