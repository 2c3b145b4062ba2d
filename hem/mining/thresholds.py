"""Thresholds of hem's own rules, and the check that evidence can answer them."""

import math
from dataclasses import dataclass, field

from hem.errors import HemError
from hem.mining.index import within
from hem.structures.evidence import Evidence


@dataclass(frozen=True)
class TemporalThresholds:
    """What hem asks of a video's temporal evidence.

    Score settings are read on the preset's score scale, which says their range (raw here, once resolved:
    any number). Infinite limits are legal unless a range says finite; NaN never is.

    Attributes:
        score_threshold: a detection at or above it is one the detector stands by: a candidate for a
            hard negative, or a pseudo-label. Lower: more of both, less sure.
            Range: 0..1 (raw: any number).
        neighbour_threshold: a detection at or above it (and below score_threshold) is doubtful: it
            counts as a neighbour and becomes an ignore region. Lower: fewer, purer negatives.
            Range: 0..1 (raw: any number), <= score_threshold.
        ignore_threshold: detections at or above it that are nothing else are ignore regions; None =
            from neighbour_threshold on. Lower: objects that the detector hardly sees are not taught
            as background, at the price of less background that teaches.
            Range: null or 0..1 (raw: any number), <= neighbour_threshold.
        label_threshold: pseudo-labels, and the detections that make a track sure, reach this and
            score_threshold; below it a confident detection that is not false is an ignore region.
            Higher: fewer labels, purer. At or below score_threshold it changes nothing.
            Range: 0..1 (raw: any number).
        max_score: a candidate at or above it needs strong evidence (see strong_factor).
            Range: 0..1 (raw: any number).
        strong_factor: such a candidate's steadiness must stay below this share of the threshold, and
            every neighbour frame must show it. Lower: fewer sure ones, purer. Range: > 0, <= 1.
        window: frames on each side at most. Range: >= 1 frame.
        window_s: seconds on each side; frames further away in time do not count. Range: >= 0 s.
        min_window: distinct frames on each side that count however far apart in time they are.
            Range: >= 1 frame.
        ncc_threshold: a neighbour frame shows the candidate's picture if its NCC, between -1 and 1,
            reaches this. Higher: fewer frames count as seen, so fewer, purer negatives and hard
            positives. Range: any number.
        track_ncc: the place it was tracked to counts beside its own place where the NCC reaches this.
            Lower: lookalikes nearby count as the candidate itself, so fewer negatives. Range: any number.
        visible_share: share of the neighbour frames on each side that must show it. Range: > 0, <= 1.
        iou_threshold: a candidate overlapped by more than this in both nearest frames is steady at
            once. Lower: fewer negatives. Range: >= 0.
        steadiness_threshold: a candidate below it is a hard negative. Higher: more, less pure.
            Range: any number.
        score_weight: of the candidate's own rank in its steadiness. Range: >= 0, finite.
        inside_weight: of its lying inside a surer box, taken off it. Range: >= 0, finite.
        border: part of the box's longer side that must lie between it and the frame's border.
            Range: >= 0.
        min_side: candidates with a shorter side of fewer pixels than this are left alone.
            Range: >= 0 px.
        link_iou: overlap from which detections of neighbouring frames may be one object.
            Range: > 0, <= 1.
        min_track: detections on each side of a gap. Higher: fewer, purer hard positives.
            Range: >= 1 detection.
        max_gap: longest gap that is filled; 0 mines no hard positives. Range: >= 0 frames.
        agree_iou: overlap that forward and backward matching must reach in every frame of a gap.
            Range: > 0, <= 1.
        steady_share: support from which a detection is a pseudo-label and not an ignore region.
            Range: > 0, <= 1.
    """

    score_threshold: float = 0.5
    neighbour_threshold: float = 0.1
    max_score: float = 0.98
    strong_factor: float = 0.5
    window: int = 8
    window_s: float = 0.3
    min_window: int = 2
    ncc_threshold: float = 0.3
    track_ncc: float = 0.9
    visible_share: float = 0.5
    iou_threshold: float = 0.5
    steadiness_threshold: float = 0.065
    score_weight: float = 0.0
    inside_weight: float = 0.2
    border: float = 0.0
    min_side: float = 0.0
    link_iou: float = 0.3
    min_track: int = 3
    max_gap: int = 5
    agree_iou: float = 0.5
    steady_share: float = 0.5
    label_threshold: float = 0.0
    ignore_threshold: float | None = None

    def __post_init__(self) -> None:
        require_numbers(self)
        for name in ("window", "min_window", "min_track"):
            _require(name, getattr(self, name) >= 1, ">= 1", self)
        for name in ("max_gap", "window_s", "border", "min_side", "iou_threshold"):
            _require(name, getattr(self, name) >= 0, ">= 0", self)
        for name in ("score_weight", "inside_weight"):
            _require(name, 0 <= getattr(self, name) < math.inf, ">= 0 and finite", self)
        for name in ("strong_factor", "visible_share", "link_iou", "agree_iou", "steady_share"):
            _require(name, 0 < getattr(self, name) <= 1, "in (0, 1]", self)
        _require(
            "neighbour_threshold",
            self.neighbour_threshold <= self.score_threshold,
            f"at most score_threshold ({self.score_threshold:g})",
            self,
        )

        _ignore_below_neighbour(self.ignore_threshold, self)

    @property
    def label_score(self) -> float:
        """Score from which a detection may be a label, or the sure end of a track."""
        return max(self.score_threshold, self.label_threshold)

    @property
    def ignore_score(self) -> float:
        """Score from which a detection that is nothing else is an ignore region."""
        return self.neighbour_threshold if self.ignore_threshold is None else self.ignore_threshold


@dataclass(frozen=True)
class ElicitedThresholds:
    """What hem asks of the detector's answers to disturbed frames (mean response over the variants).

    Attributes:
        score_threshold: as in TemporalThresholds.
        neighbour_threshold, label_threshold, ignore_threshold: as in TemporalThresholds.
        negative_response: a detection the detector stands by whose mean response is below it is a
            hard negative. Higher: more, less pure. Range: 0..1 (raw: any number), <= positive_response.
        positive_response: one at or above it is a pseudo-label; a doubtful detection at or above it
            that lies on a track or in a gap is a hard positive. Lower: more, less pure.
            Range: 0..1 (raw: any number).
        support_weight: `hem` alone: how much the support of the frames around counts beside the answer
            when negative_response is asked: full support as much as this many answers at
            positive_response. 0 asks the answer alone. Higher: fewer negatives among what lasts.
            Range: >= 0, finite.
        min_variants: answers that the mean must rest on. Range: >= 1 answer.
        clear_iou: a hard negative by its answers that overlaps a surer detection, which is not one
            itself, by more than this becomes an ignore region: such a box is often a badly placed box
            of a true object, and calling its place background teaches a dense detector to lose the
            object. Higher: more negatives, of which more lie on objects; 1 lifts the rule. Range: 0..1.
        needs_answer: `hem` alone: where the pass asked the detector at all, a hard negative in a frame
            that was not asked about is an ignore region, however the video looks. A smooth detector's
            isolated detections are often true objects that wobble round the threshold, so False gives
            more negatives that are less pure.
        labels_need_answer: `hem` alone: the same for pseudo-labels and for filled gaps. True leaves only
            what the detector was asked about to label, of which more is right; raise
            collect.elicit_share with it.
        static_share: `hem` alone: a detection whose place holds one in this share of the frames at least
            ``static_s`` seconds away is taken for background that never moves: false if it is confident,
            never a label. Above 1 nothing is. For classes that move, seen by a camera that does not;
            never for parked cars. Lower: more false alarms that stay, and objects that stand still.
            Range: > 0.
        static_s: seconds away from which static_share counts. Higher: only what stays longer, in longer
            videos. Range: > 0 s.
        still_change: `hem` alone: a detection where a smaller share of the picture changes in the seconds
            around it (see hem.mining.stillness) is no label, and taken for background likewise where no
            more of the other frames with a detection at its place say otherwise than say so too; 0 takes
            none, above 0 needs evidence collected with ``collect.still_s``. For classes that move, seen by a
            camera that does not; never for parked cars. Works in videos of a few seconds, and leaves a
            person who stands still alone. Higher: more of what hardly moves. Range: 0..1.
        refine_boxes: positives get the mean of the detection's box and those that answered for it, by
            score. False keeps the detection's own box.
        link_iou: a doubtful detection lies on a track when links of this overlap join it, over doubtful
            ones too, to min_track detections with a confident one among them. Range: > 0, <= 1.
        min_track: see link_iou. Range: >= 1 detection.
    """

    score_threshold: float = 0.3
    neighbour_threshold: float = 0.1
    negative_response: float = 0.25
    positive_response: float = 0.6
    support_weight: float = 0.5
    min_variants: int = 3
    clear_iou: float = 0.1
    link_iou: float = 0.3
    min_track: int = 3
    label_threshold: float = 0.0
    ignore_threshold: float | None = None
    needs_answer: bool = True
    labels_need_answer: bool = False
    static_share: float = 2.0
    static_s: float = 10.0
    still_change: float = 0.0
    refine_boxes: bool = True

    def __post_init__(self) -> None:
        require_numbers(self)
        _require("min_variants", self.min_variants >= 1, ">= 1", self)
        _require("min_track", self.min_track >= 1, ">= 1", self)
        _require("support_weight", 0 <= self.support_weight < math.inf, ">= 0 and finite", self)
        _require("link_iou", 0 < self.link_iou <= 1, "in (0, 1]", self)
        _require("static_share", self.static_share > 0, "> 0", self)
        _require("static_s", self.static_s > 0, "> 0", self)
        _require("clear_iou", 0 <= self.clear_iou <= 1, "in [0, 1]", self)
        _require("still_change", 0 <= self.still_change <= 1, "in [0, 1]", self)
        _require(
            "negative_response",
            self.negative_response <= self.positive_response,
            f"at most positive_response ({self.positive_response:g})",
            self,
        )
        _require(
            "neighbour_threshold",
            self.neighbour_threshold <= self.score_threshold,
            f"at most score_threshold ({self.score_threshold:g})",
            self,
        )

        _ignore_below_neighbour(self.ignore_threshold, self)

    @property
    def label_score(self) -> float:
        """Score from which a detection may be a label, or the sure end of a track."""
        return max(self.score_threshold, self.label_threshold)

    @property
    def ignore_score(self) -> float:
        """Score from which a detection that is nothing else is an ignore region."""
        return self.neighbour_threshold if self.ignore_threshold is None else self.ignore_threshold


@dataclass(frozen=True)
class HemThresholds:
    """Both kinds of evidence together; see fuse.query_hem.

    Attributes:
        temporal: thresholds of the temporal rule; its score thresholds and tracks hold for both.
        elicited: thresholds of the responses (its score thresholds are not looked at).
    """

    temporal: TemporalThresholds = field(default_factory=TemporalThresholds)
    elicited: ElicitedThresholds = field(default_factory=ElicitedThresholds)


def _require(name: str, holds: bool, rule: str, owner: object) -> None:
    if not holds:
        raise HemError(f"mining.{name} must be {rule}, got {getattr(owner, name)}")


def require_numbers(owner: object) -> None:
    """Raise HemError for a threshold that is NaN: no comparison with it holds."""
    for name in owner.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(owner, name)
        if isinstance(value, float) and math.isnan(value):
            _require(name, False, "a number", owner)


def _ignore_below_neighbour(ignore: float | None, owner: "TemporalThresholds | ElicitedThresholds") -> None:
    rule = f"null or at most neighbour_threshold ({owner.neighbour_threshold:g})"
    _require("ignore_threshold", ignore is None or ignore <= owner.neighbour_threshold, rule, owner)


def check_elicited(evidence: Evidence, thresholds: ElicitedThresholds) -> None:
    """Raise HemError unless the evidence holds answers to disturbed frames for such a query."""
    collected, kept = evidence.collected, (evidence.floor_score, float("inf"))
    if not collected.variants:
        raise HemError(
            "the evidence holds no answers to disturbed frames (collect.variants was empty): "
            "collect again with variants, or mine with `temporal`"
        )
    within("min_variants", thresholds.min_variants, (1, len(collected.variants)), "variants")
    within("neighbour_threshold", thresholds.neighbour_threshold, kept, "floor_score")
    within("ignore_threshold", thresholds.ignore_score, kept, "floor_score")


def check_range(evidence: Evidence, thresholds: TemporalThresholds) -> None:
    """Raise HemError unless this evidence can answer a query with these (raw) thresholds.

    A threshold of +inf, which nothing passes, needs no evidence.
    """
    collected, kept = evidence.collected, (evidence.floor_score, float("inf"))
    if collected.box_margin is None:
        raise HemError(
            "the evidence was collected without collect.box_margin, so only `paper` can be asked of it"
        )
    if thresholds.score_threshold < float("inf"):
        within("score_threshold", thresholds.score_threshold, collected.score_threshold, "score_threshold")
        within(
            "neighbour_threshold",
            thresholds.neighbour_threshold,
            collected.neighbour_threshold,
            "neighbour_threshold",
        )
    if thresholds.label_score < float("inf"):
        within("label_threshold", thresholds.label_score, collected.score_threshold, "score_threshold")
    within("neighbour_threshold", thresholds.neighbour_threshold, kept, "floor_score")
    within("ignore_threshold", thresholds.ignore_score, kept, "floor_score")
    within("iou_threshold", thresholds.iou_threshold, collected.iou_threshold, "iou_threshold")
    within("window", thresholds.window, (1, collected.window), "window")
    within("max_gap", thresholds.max_gap, (0, collected.max_gap), "max_gap")
