"""What one pass over a video leaves behind: enough to answer any threshold setting in a stated range."""

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from hem.errors import HemError
from hem.structures._check import same_length
from hem.structures.detections import VideoDetections

PIXEL_REGION = 0
"""Neighbour rows matched at full resolution in a region of ``search_margin`` pixels (`paper`)."""
BOX_REGION = 1
"""Neighbour rows matched at reduced resolution in a region of ``box_margin`` box sides (`hem`)."""


@dataclass(frozen=True)
class CollectSettings:
    """How evidence is collected, and the settings that it can answer afterwards.

    Changing a *collect* parameter means another pass over the video; a *query* parameter may take any
    value inside its collected range without one.

    Attributes:
        floor_score: collect; detections below it are not kept. Lower keeps more of what the detector
            doubts (neighbours, missed objects), and costs storage. Range: any number.
        search_margin: collect; pixels searched round a candidate on every side, at full resolution,
            for `paper` (its 100); None collects nothing for `paper`. Range: null or >= 0 px.
        box_margin: collect; the same in multiples of the box's longer side, for hem's own rules;
            None collects no appearance for them. Larger follows faster objects, finds more lookalikes.
            Range: null or > 0.
        match_side: collect; hem's own matching shrinks a template's longer side to at most this many
            pixels. Larger is finer and dearer. Range: >= 8 px.
        window: frames on each side; a query may use 1..window. Range: >= 1 frame.
        max_gap: longest gap in a track that a query may fill; 0 collects none. Range: >= 0 frames.
        paper_score_threshold: of a `paper` query. Range: [lowest, highest], lowest <= highest.
        paper_iou_threshold: of a `paper` query. Range: [lowest, highest], lowest <= highest.
        paper_min_area: lowest of a `paper` query. Range: >= 0 px².
        paper_border_margin: lowest of a `paper` query. Range: >= 0 px.
        score_threshold, neighbour_threshold, iou_threshold: of a query by hem's own rules, in raw
            scores. A wide range needs more template matching: every candidate is matched whose fate
            some setting in the range leaves to its appearance. Range: [lowest, highest], lowest <= highest.
        variants: collect; disturbances under which frames are detected again, each once; empty asks
            nothing. Names: those of hem.mining.disturbances.DISTURBANCES.
        elicit_share: collect; at most this share of the pass's detector calls goes to disturbed frames.
            Range: >= 0, < 1.
        still_s: collect; seconds from which the picture at a detection's place is held against the same
            place earlier and later (see hem.mining.stillness); 0 collects none of it. Shorter takes
            slow objects for still ones, longer needs longer videos. Range: >= 0 s, finite.
    """

    floor_score: float = 0.05
    search_margin: float | None = 100.0
    box_margin: float | None = 0.75
    match_side: int = 24
    window: int = 8
    max_gap: int = 5
    paper_score_threshold: tuple[float, float] = (0.7, 0.9)
    paper_iou_threshold: tuple[float, float] = (0.1, 0.5)
    paper_min_area: float = 1600.0
    paper_border_margin: float = 50.0
    score_threshold: tuple[float, float] = (0.2, 0.8)
    neighbour_threshold: tuple[float, float] = (0.05, 0.3)
    iou_threshold: tuple[float, float] = (0.1, 0.5)
    variants: tuple[str, ...] = ()
    elicit_share: float = 0.25
    still_s: float = 0.0

    def __post_init__(self) -> None:
        for name in _PAIRS:
            pair = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, pair)
            if len(pair) != 2 or not pair[0] <= pair[1]:
                raise HemError(f"collect.{name} must be (lowest, highest), got {pair}")
        object.__setattr__(self, "variants", tuple(self.variants))
        self._require("window", self.window >= 1, ">= 1 frame")
        self._require("max_gap", self.max_gap >= 0, ">= 0 frames")
        self._require("match_side", self.match_side >= 8, ">= 8 pixels")
        self._require("search_margin", self.search_margin is None or self.search_margin >= 0, ">= 0")
        self._require("box_margin", self.box_margin is None or self.box_margin > 0, "> 0")
        self._require("paper_min_area", self.paper_min_area >= 0, ">= 0 px²")
        self._require("paper_border_margin", self.paper_border_margin >= 0, ">= 0 px")
        self._require("elicit_share", 0 <= self.elicit_share < 1, "in [0, 1)")
        self._require("still_s", 0 <= self.still_s < float("inf"), ">= 0 seconds")
        self._require("floor_score", not np.isnan(self.floor_score), "a number")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise HemError(f"collect.{name} must be {rule}, got {getattr(self, name)}")

    @property
    def reach(self) -> int:
        """Frames on each side that the pass must hold at once."""
        return max(self.window, self.max_gap)

    def reaching(self, highest: float) -> "CollectSettings":
        """Return the same for a detector that scores up to ``highest``.

        Score ranges that end at 1, the most that most detectors give, end there; others are as they are.
        """
        names = ("paper_score_threshold", "score_threshold", "neighbour_threshold")
        ranges = {name: getattr(self, name) for name in names}
        longer = {name: (low, highest) for name, (low, high) in ranges.items() if high == 1.0 < highest}
        return replace(self, **longer)  # type: ignore[arg-type]

    def plain(self) -> dict[str, object]:
        """Return the settings as JSON-like values (infinite limits as strings)."""

        def value_of(value: object) -> object:
            if isinstance(value, tuple):
                return [value_of(item) for item in value]
            if isinstance(value, float) and not np.isfinite(value):
                return str(value)
            return value

        return {item.name: value_of(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_plain(cls, values: dict[str, object]) -> "CollectSettings":
        """Rebuild from what ``plain`` gave.

        Raises:
            HemError: on a key that is unknown.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise HemError(f"collect settings: unknown {unknown}; known are {sorted(known)}")

        def value_of(name: str, value: object) -> object:
            if isinstance(value, list | tuple):
                return tuple(value if name == "variants" else (float(item) for item in value))
            return float(value) if isinstance(value, str) else value

        return cls(**{name: value_of(name, value) for name, value in values.items()})  # type: ignore[arg-type]


_PAIRS = (
    "paper_score_threshold",
    "paper_iou_threshold",
    "score_threshold",
    "neighbour_threshold",
    "iou_threshold",
)


def _column(table: object, name: str, dtype: type, tail: tuple[int, ...] = ()) -> None:
    value: NDArray = np.ascontiguousarray(np.asarray(getattr(table, name), dtype=dtype)).reshape((-1, *tail))
    object.__setattr__(table, name, value)


@dataclass(frozen=True, eq=False)
class NeighbourTable:
    """Where a candidate's picture is found again in the frames around it, one row each.

    Attributes:
        candidate: int64 (K,), row of the candidate in the detections; sorted.
        offset: int16 (K,), frames from the candidate's, negative is earlier, never 0.
        region: int8 (K,), PIXEL_REGION or BOX_REGION.
        ncc: float64 (K,), best zero-mean normalised cross-correlation, in [-1, 1].
        tracked_xyxy: float64 (K, 4), the template-sized box at the best place, original pixels.
    """

    candidate: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    offset: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    region: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    ncc: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    tracked_xyxy: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))

    def __post_init__(self) -> None:
        _column(self, "candidate", np.int64)
        _column(self, "offset", np.int16)
        _column(self, "region", np.int8)
        _column(self, "ncc", np.float64)
        _column(self, "tracked_xyxy", np.float64, (4,))
        same_length(
            "neighbour table",
            **{item.name: len(getattr(self, item.name)) for item in fields(self)},
        )
        if (self.offset == 0).any():
            raise HemError("neighbour table: offset 0 is the candidate's own frame")
        if not np.isfinite(self.ncc).all():
            raise HemError("neighbour table: ncc holds a value that is not finite")

    def __len__(self) -> int:
        return len(self.candidate)


@dataclass(frozen=True, eq=False)
class ResponseTable:
    """What the detector answers at a candidate when its frame is disturbed, one row a variant.

    Attributes:
        candidate: int64 (K,), row of the candidate in the detections.
        variant: int16 (K,), index into CollectSettings.variants.
        score: float64 (K,), best score of its class with IoU > 0.5 after mapping back; 0 if none.
        iou: float64 (K,), IoU of that detection with the candidate; 0 if none.
        box_xyxy: float64 (K, 4), that detection's box in pixels of the original frame; NaN if none, or if
            the evidence was collected without.
    """

    candidate: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    variant: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    score: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    iou: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    box_xyxy: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        _column(self, "candidate", np.int64)
        _column(self, "variant", np.int16)
        _column(self, "score", np.float64)
        _column(self, "iou", np.float64)
        if self.box_xyxy is None:
            object.__setattr__(self, "box_xyxy", np.full((len(self.candidate), 4), np.nan))
        _column(self, "box_xyxy", np.float64, (4,))
        same_length("response table", **{item.name: len(getattr(self, item.name)) for item in fields(self)})

    def __len__(self) -> int:
        return len(self.candidate)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was found out about one video in one pass.

    Attributes:
        detections: every frame's, down to ``collected.floor_score``.
        cut_before: bool (F,), a shot begins at this frame (never linked across).
        duplicate: bool (F,), the same picture as the frame before (passed over by hem's own rules).
        collected: how it was collected, and the ranges it answers for.
        neighbours: appearance in the frames around candidates.
        responses: answers to disturbed frames; empty if none were asked.
        change: float64 (N,), share of the picture at each detection's place that changes in the seconds
            around it, in [0, 1], NaN where unknown; None if ``collected.still_s`` is 0.
        detector_digest: of the detector (or the detection file) behind the detections.
        detector_calls, elicit_calls: frames detected plainly and disturbed (the latter is bounded by
            ``collected.elicit_share`` of both together).
        pixels: whose pixels it rests on, ``cpu`` or ``cuda``; those that a GPU decodes differ a little.

    Raises:
        HemError: if a length does not fit or a row points outside the video.
    """

    detections: VideoDetections
    cut_before: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    collected: CollectSettings
    neighbours: NeighbourTable = field(default_factory=NeighbourTable)
    responses: ResponseTable = field(default_factory=ResponseTable)
    detector_digest: str = ""
    detector_calls: int = 0
    elicit_calls: int = 0
    change: NDArray[np.float64] | None = None
    pixels: str = "cpu"

    def __post_init__(self) -> None:
        where = f"evidence of {self.detections.video.video_id}"
        for name in ("cut_before", "duplicate"):
            _column(self, name, np.bool_)
        same_length(
            where,
            frames=self.detections.n_frames,
            cut_before=len(self.cut_before),
            duplicate=len(self.duplicate),
        )
        if (self.change is None) != (self.collected.still_s == 0):
            raise HemError(f"{where}: change and collected.still_s={self.collected.still_s:g} do not fit")
        if self.change is not None:
            _column(self, "change", np.float64)
            same_length(where, detections=len(self.detections), change=len(self.change))
        for name, table in (("neighbours", self.neighbours), ("responses", self.responses)):
            rows = table.candidate
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.detections)):
                raise HemError(f"{where}: {name}.candidate points outside the detections")
        variant, n_variants = self.responses.variant, len(self.collected.variants)
        if len(variant) and not (variant.min() >= 0 and variant.max() < n_variants):
            raise HemError(f"{where}: responses.variant points outside the {n_variants} variants")
        target = self.detections.frame_index[self.neighbours.candidate] + self.neighbours.offset
        if len(target) and not (target.min() >= 0 and target.max() < self.detections.n_frames):
            raise HemError(f"{where}: a neighbour row points outside the video")

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the disturbances, in the order of ``responses.variant``."""
        return self.collected.variants

    @property
    def video_id(self) -> str:
        """Identity of the video."""
        return self.detections.video.video_id

    @property
    def floor_score(self) -> float:
        """Score below which detections are missing: of the pass, or of the file they came in."""
        return max(self.collected.floor_score, self.detections.floor_score)
