"""Mined boxes of one video in columns: cheap to make by the hundred, turned into objects on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hem.ops.boxes import paired_iou
from hem.ops.isolation import any_of, expand_ranges
from hem.structures import HardExample, Kind, VideoDetections
from hem.structures.example_list import KINDS, ExampleColumns, ExampleList
from hem.structures.video import VideoInfo

NEGATIVE, POSITIVE, PSEUDO, IGNORE = range(4)
SAME_OBJECT_IOU = 0.5  # as everywhere a box counts as an object's


@dataclass(frozen=True, eq=False)
class MinedTable:
    """What one rule says of one video.

    Attributes:
        video: where the boxes are.
        rule: name of the rule.
        row: int64 (N,), row of the detection, -1 where the detector said nothing.
        frame_index: int64 (N,).
        time_s: float64 (N,).
        boxes_xyxy: float64 (N, 4).
        labels: int64 (N,).
        kind: int8 (N,), index into KINDS.
        scores: float64 (N,), NaN where the detector said nothing.
        weights: float64 (N,).
        evidence: columns float64 (N,), NaN where a value does not apply.
    """

    video: VideoInfo
    rule: str
    row: NDArray[np.int64]
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

    def of_kind(self, kind: Kind) -> NDArray[np.int64]:
        """Return the positions of one kind."""
        return np.flatnonzero(self.kind == KINDS.index(kind))

    def taught(self, mining_round: int = 1) -> ExampleList:
        """Return the boxes as a lazy list of HardExample, ordered by frame, kind, label and box.

        Boxes without extent (some detectors give them) teach nothing and are left out.
        """
        boxes = self.boxes_xyxy
        order = np.lexsort((*boxes.T[::-1], self.labels, self.kind, self.frame_index))
        whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        columns = ExampleColumns(
            video_id=self.video.video_id,
            video_digest=self.video.digest,
            rule=self.rule,
            round=mining_round,
            frame_index=self.frame_index,
            time_s=self.time_s,
            boxes_xyxy=boxes,
            labels=self.labels,
            kind=self.kind,
            scores=self.scores,
            weights=self.weights,
            evidence=self.evidence,
        )
        return ExampleList([columns], order[whole[order]])

    def examples(self, mining_round: int = 1) -> list[HardExample]:
        """Return what ``taught`` gives as a list of objects."""
        return list(self.taught(mining_round))


def frame_times(detections: VideoDetections) -> NDArray[np.float64]:
    """Return float64 (F,): presentation times, index / fps where a frame has none."""
    times = detections.frame_times_s
    nominal = np.arange(len(times)) / detections.video.fps
    return np.where(np.isnan(times), nominal, times)


def detection_table(
    detections: VideoDetections,
    rule: str,
    rows: NDArray[np.int64],
    kind: NDArray[np.int8],
    weights: NDArray[np.float64],
    evidence: Mapping[str, NDArray[np.float64]] | None = None,
    times_s: NDArray[np.float64] | None = None,
    at: NDArray[np.int64] | slice | None = None,
) -> MinedTable:
    """Return a table whose boxes are detections, ``rows``; ``times_s`` are frame_times, ``at`` is what picks
    gives, both if at hand."""
    at = picks(rows, len(detections)) if at is None else at
    boxes, frame = detections.boxes_xyxy, detections.frame_index[at]
    return MinedTable(
        video=detections.video,
        rule=rule,
        row=np.asarray(rows, dtype=np.int64),
        frame_index=frame,
        time_s=(frame_times(detections) if times_s is None else times_s)[frame],
        boxes_xyxy=boxes[at] if isinstance(at, slice) else boxes.take(at, axis=0),
        labels=detections.labels[at],
        kind=np.asarray(kind, dtype=np.int8),
        scores=detections.scores[at],
        weights=np.asarray(weights, dtype=np.float64),
        evidence=dict(evidence or {}),
    )


def picks(rows: NDArray[np.int64], count: int) -> NDArray[np.int64] | slice:
    """Return what picks ``rows`` from columns of ``count``: all in order as a slice, which copies nothing."""
    return slice(None) if len(rows) == count and bool((rows == np.arange(count)).all()) else rows


def first_kind(*cases: tuple[NDArray[np.bool_], int]) -> NDArray[np.int8]:
    """Return int8 (N,): the code of the first case whose mask, bool (N,), holds; -1 where none does."""
    kind = np.full(len(cases[0][0]), -1, dtype=np.int8)
    for mask, code in reversed(cases):
        np.putmask(kind, mask, code)
    return kind


def joined(tables: Sequence[MinedTable]) -> MinedTable:
    """Return the rows of several tables of one video and rule as one."""
    names = sorted({name for table in tables for name in table.evidence})

    def seen(table: MinedTable, name: str) -> NDArray[np.float64]:
        return table.evidence[name] if name in table.evidence else np.full(len(table), np.nan)

    columns = {name: np.concatenate([seen(table, name) for table in tables]) for name in names}

    def column(name: str) -> NDArray:
        return np.concatenate([getattr(table, name) for table in tables])

    return MinedTable(
        tables[0].video,
        tables[0].rule,
        column("row"),
        column("frame_index"),
        column("time_s"),
        column("boxes_xyxy"),
        column("labels"),
        column("kind"),
        column("scores"),
        column("weights"),
        columns,
    )


def with_gaps(table: MinedTable, gaps: MinedTable) -> MinedTable:
    """Return the rows of both, without what one of them settles for the other.

    Dropped are gap boxes whose detection teaches something already (also that it is false), and ignored
    detections (the teacher's own low score) that a filled gap turns into a hard positive. An ignored gap box
    that is an ignored detection's own is said once.
    """
    if not len(gaps):
        return table
    count = int(max(table.row.max(initial=-1), gaps.row.max(initial=-1))) + 2  # row -1 reads the end
    judged = any_of(table.row[table.kind != IGNORE], count)
    gaps = some_of(gaps, ~judged[gaps.row] | (gaps.row < 0))
    gaps = some_of(gaps, ~_said(table, gaps, count))
    filled = any_of(gaps.row[(gaps.kind == POSITIVE) & (gaps.row >= 0)], count)
    return joined([some_of(table, ~((table.kind == IGNORE) & filled[table.row])), gaps])


def _said(table: MinedTable, gaps: MinedTable, count: int) -> NDArray[np.bool_]:
    """Return bool (M,): ignored gap boxes that are their detection's own, as exactly as an id tells boxes."""
    at = np.full(count, -1, dtype=np.int64)
    at[table.row] = np.arange(len(table))
    own = at[gaps.row]
    both = np.flatnonzero((gaps.kind == IGNORE) & (gaps.row >= 0) & (own >= 0))
    said = np.zeros(len(gaps), dtype=np.bool_)
    boxes = (table.boxes_xyxy.take(own[both], axis=0), gaps.boxes_xyxy.take(both, axis=0))
    said[both] = (np.round(boxes[0], 2) == np.round(boxes[1], 2)).all(axis=1)
    return said


def off_labels(table: MinedTable) -> MinedTable:
    """Return the table with hard negatives ignored that lie on what is taught as an object of their class.

    The boxes are those that are taught: of filled gaps and refined ones, too. IoU from SAME_OBJECT_IOU on;
    how sure either is does not matter.
    """
    negative = np.flatnonzero(table.kind == NEGATIVE)
    frames = table.frame_index[negative]
    if not len(negative):
        return table
    here = any_of(frames, int(table.frame_index.max()) + 1)[table.frame_index]
    taught = np.flatnonzero(here & ((table.kind == POSITIVE) | (table.kind == PSEUDO)))
    taught = taught[np.argsort(table.frame_index[taught], kind="stable")]
    start, end = (np.searchsorted(table.frame_index[taught], frames, side=side) for side in ("left", "right"))
    owner, at = expand_ranges(start, end)
    one, other = negative[owner], taught[at]
    same = table.labels[one] == table.labels[other]
    one, other = one[same], other[same]
    overlap = paired_iou(table.boxes_xyxy.take(one, axis=0), table.boxes_xyxy.take(other, axis=0))
    on_one = one[overlap >= SAME_OBJECT_IOU]
    return as_ignored(table, any_of(on_one, len(table))) if len(on_one) else table


def as_ignored(table: MinedTable, which: NDArray[np.bool_] | bool = True) -> MinedTable:
    """Return the same boxes, those that bool (M,) ``which`` names as ignore regions."""
    return replace(
        table, kind=np.where(which, IGNORE, table.kind), weights=np.where(which, 0.0, table.weights)
    )


def some_of(table: MinedTable, keep: NDArray[np.bool_]) -> MinedTable:
    """Return the rows that bool (M,) ``keep`` names."""
    at = np.flatnonzero(keep)
    if len(at) == len(keep):
        return table
    names = ("row", "frame_index", "time_s", "boxes_xyxy", "labels", "kind", "scores", "weights")
    columns = {name: getattr(table, name).take(at, axis=0) for name in names}
    return replace(table, **columns, evidence={n: c.take(at) for n, c in table.evidence.items()})
