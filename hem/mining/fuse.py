"""Rules on the detector's answers to disturbed frames, alone and together with the video's evidence."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hem.mining.gaps import gap_table, prepare_gaps
from hem.mining.index import index_of, within
from hem.mining.static import background
from hem.mining.table import (
    IGNORE,
    NEGATIVE,
    POSITIVE,
    PSEUDO,
    SAME_OBJECT_IOU,
    MinedTable,
    as_ignored,
    first_kind,
    off_labels,
    with_gaps,
)
from hem.mining.temporal import Steadiness, columns_of, decide, negative_weight, steadiness, verdict_table
from hem.mining.thresholds import (
    ElicitedThresholds,
    HemThresholds,
    check_elicited,
    check_range,
)
from hem.mining.tracks import track_ids, tracks_of
from hem.ops.isolation import any_of
from hem.structures import HardExample
from hem.structures.evidence import Evidence

_SAME_BOX_PX = 0.01  # to which an example's identity is rounded


@dataclass(frozen=True, eq=False)
class Answers:
    """What the detector answers at each detection, (N,).

    Attributes:
        mean: float64, mean score over the variants; NaN where fewer than ``min_variants`` answered.
        count: int64, answers it rests on.
        asked: bool, the detection's frame was disturbed.
    """

    mean: NDArray[np.float64]
    count: NDArray[np.int64]
    asked: NDArray[np.bool_]


def answers_of(evidence: Evidence, min_variants: int) -> Answers:
    """Average the responses of every detection."""
    index, found = index_of(evidence), evidence.detections

    def averaged() -> Answers:
        table = evidence.responses
        if not len(table.candidate):  # nobody was asked: three numbers for all of them
            nobody = (np.broadcast_to(value, len(found)) for value in (np.nan, np.int64(0), np.False_))
            return Answers(*nobody)
        count = np.bincount(table.candidate, minlength=len(found))
        total = np.bincount(table.candidate, weights=table.score, minlength=len(found))
        mean = np.where(count >= min_variants, total / np.maximum(count, 1), np.nan)
        frames = any_of(found.frame_index[table.candidate], found.n_frames)
        return Answers(mean, count.astype(np.int64), frames[found.frame_index])

    return index.remembered("answers", min_variants, averaged, room=2)


def refined_boxes(evidence: Evidence) -> NDArray[np.float64]:
    """Return float64 (N, 4): each detection's box averaged with the boxes that answered for it, by score.

    A detector places the box of one object a little differently in every disturbed copy of the frame,
    and the mean lies nearer to the object than one of them does (Radosavovic et al., Data Distillation,
    CVPR 2018, section 3, average the predictions on transformed images likewise).
    """
    found, table = evidence.detections, evidence.responses
    if not len(table.candidate):
        return found.boxes_xyxy

    def averaged() -> NDArray[np.float64]:
        assert table.box_xyxy is not None
        there = (table.score > 0) & ~np.isnan(table.box_xyxy).any(axis=1)
        if not there.any():
            return found.boxes_xyxy
        rows, score = table.candidate[there], table.score[there]
        own = np.maximum(found.scores, 0.0)
        total = own + np.bincount(rows, weights=score, minlength=len(found))
        sums = [
            own * found.boxes_xyxy[:, side]
            + np.bincount(rows, weights=score * table.box_xyxy[there, side], minlength=len(found))
            for side in range(4)
        ]
        asked = np.bincount(rows, minlength=len(found)) > 0  # others keep their box to the last bit
        mean = np.stack(sums, axis=1) / np.where(asked, total, 1.0)[:, None]
        return np.where(asked[:, None], mean, found.boxes_xyxy)

    return index_of(evidence).remembered("refined", (), averaged, room=1)


def detection_of(evidence: Evidence, example: HardExample) -> int | None:
    """Return the row of the detection that an example was made of; None for a filled gap or another round.

    Its box is the detection's own, or for a positive the one that refined_boxes gives.
    """
    found = evidence.detections
    rows = found.rows_of(example.frame_index)
    same = np.zeros(rows.stop - rows.start, dtype=np.bool_)
    for boxes in (found.boxes_xyxy, refined_boxes(evidence)):
        same |= np.abs(boxes[rows] - np.array(example.box_xyxy)).max(axis=1, initial=0.0) < _SAME_BOX_PX
    hits = np.flatnonzero(same & (found.labels[rows] == example.label))
    return rows.start + int(hits[0]) if len(hits) else None


def with_support(
    mean: NDArray[np.float64],
    steady: Steadiness,
    thresholds: ElicitedThresholds,
    asked: NDArray[np.bool_],
    most: float,
) -> NDArray[np.float64]:
    """Return float64 (N,): the mean answer plus what the frames around say, in units of the score.

    Full support counts as much as ``support_weight`` answers at positive_response, the answer that a true
    object gives; where no score reaches that, at ``most``, the highest score there is. Where no frame around
    could be asked, the average support of the video stands in, and where ``asked``, bool (N,), is false: in
    repeated frames, whose neighbours show the same.
    """
    high = thresholds.positive_response  # -inf, which all detections reach: support says nothing
    unit = most if high == np.inf else high
    there = asked & (steady.neighbours > 0)
    usual = float(steady.support[there].mean()) if there.any() else 0.0
    support = np.where(there, steady.support, usual)
    return np.asarray(mean + thresholds.support_weight * max(unit, 0.0) * support)


def response_weight(
    answer: NDArray[np.float64],
    mean: NDArray[np.float64],
    thresholds: ElicitedThresholds,
    most: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float64 (N,) twice: weight as a negative and as a positive, each in [0.5, 1].

    A negative's falls from 1 at an answer of 0 to 0.5 at negative_response; a positive's rises from 0.5
    at a mean of positive_response to 1 at twice that (or at ``most``, the highest score there is, if nearer).
    """
    low, high = max(thresholds.negative_response, 1e-9), thresholds.positive_response
    top = max(min(2 * high, most), high + 1e-9)
    negative = 0.5 + 0.5 * np.clip(1 - answer / low, 0.0, 1.0)
    if np.isfinite(high):
        positive = 0.5 + 0.5 * np.clip((mean - high) / (top - high), 0.0, 1.0)
    else:  # a quantile that every detection reaches, or none
        positive = np.full(len(mean), 1.0 if high < 0 else 0.5)
    return negative, positive


def _most(evidence: Evidence) -> float:
    """Return the highest score that the detector gives."""
    known = evidence.detections.score_range
    most = 1.0 if known is None else known[1]
    if np.isfinite(most):
        return most
    scores = (evidence.detections.scores, evidence.responses.score)
    return float(max((one.max(initial=0.0) for one in scores), default=0.0))


def on_track(
    evidence: Evidence, neighbour: float, confident: float, link_iou: float, min_track: int
) -> NDArray[np.bool_]:
    """Return bool (N,): doubtful or better, in a track of ``min_track`` with a confident one in it."""
    tracks = tracks_of(evidence, neighbour, link_iou)
    sure = (tracks.of >= 0) & (evidence.detections.scores >= confident)
    good = (tracks.length >= min_track) & any_of(tracks.of[sure], len(tracks.length))
    return np.asarray(np.append(good, False)[tracks.of])  # -1, in no track, reads the end


def with_clear_negatives(
    evidence: Evidence, verdict: NDArray[np.int8], neighbour: float, clear_iou: float
) -> NDArray[np.int8]:
    """Return verdicts in which no hard negative lies on a surer detection that is not one itself.

    Nor, whatever ``clear_iou``, on what is taught as an object of its class, however unsure that is.
    """
    found, index = evidence.detections, index_of(evidence)
    kept = verdict.copy()
    own, surer, _ = index.in_frame
    negative, taught = verdict == NEGATIVE, (verdict == POSITIVE) | (verdict == PSEUDO)
    same = (index.in_frame_iou >= SAME_OBJECT_IOU) & (found.labels[own] == found.labels[surer])
    kept[surer[same & negative[surer] & taught[own]]] = IGNORE
    kept[own[same & negative[own] & taught[surer]]] = IGNORE
    if clear_iou < 1:
        rivals = (found.scores >= neighbour) & ~negative
        kept[own[negative[own] & rivals[surer] & (index.in_frame_iou > clear_iou)]] = IGNORE
    return kept


def query_elicited(evidence: Evidence, thresholds: ElicitedThresholds) -> MinedTable:
    """Answer by responses alone, in the frames that were disturbed.

    Confident detections with a low mean response are hard negatives, with a high one (from
    label_threshold on) pseudo-labels; lower ones with a high one that lie on a sure track are hard
    positives; the rest is ignored.

    Raises:
        HemError: if the evidence holds no responses, or was not kept down to the thresholds.
    """
    check_elicited(evidence, thresholds)
    found, answers = evidence.detections, answers_of(evidence, thresholds.min_variants)
    doubtful = answers.asked & (found.scores >= thresholds.neighbour_threshold)
    unsure = answers.asked & (found.scores >= thresholds.ignore_score)
    confident = doubtful & (found.scores >= thresholds.score_threshold)
    sure = confident & (found.scores >= thresholds.label_score)
    with np.errstate(invalid="ignore"):
        low = answers.mean < thresholds.negative_response
        high = answers.mean >= thresholds.positive_response
    tracked = on_track(
        evidence,
        thresholds.neighbour_threshold,
        thresholds.label_score,
        thresholds.link_iou,
        thresholds.min_track,
    )
    verdict = first_kind(
        (confident & low, NEGATIVE),
        (doubtful & ~sure & high & tracked, POSITIVE),
        (sure & high, PSEUDO),
        (unsure, IGNORE),
    )
    verdict = with_clear_negatives(evidence, verdict, thresholds.neighbour_threshold, thresholds.clear_iou)
    mean = np.nan_to_num(answers.mean, nan=0.0)
    as_negative, as_positive = response_weight(mean, mean, thresholds, _most(evidence))
    weights = np.where(verdict == NEGATIVE, as_negative, as_positive)
    tracks = track_ids(evidence, thresholds.label_score, thresholds.link_iou)
    seen = {"response": answers.mean, "track_id": tracks}
    return off_labels(_table(evidence, "elicited", verdict, weights, seen, thresholds.refine_boxes))


def _table(
    evidence: Evidence,
    rule: str,
    verdict: NDArray[np.int8],
    weights: NDArray[np.float64],
    seen: dict[str, NDArray[np.float64]],
    refine: bool,
) -> MinedTable:
    table = verdict_table(evidence, rule, verdict, weights, seen)
    if not refine or refined_boxes(evidence) is evidence.detections.boxes_xyxy:
        return table
    positive = (table.kind == POSITIVE) | (table.kind == PSEUDO)
    boxes = np.where(positive[:, None], refined_boxes(evidence)[table.row], table.boxes_xyxy)
    return replace(table, boxes_xyxy=boxes)


def query_hem(evidence: Evidence, thresholds: HemThresholds) -> MinedTable:
    """Answer by both kinds of evidence; where a frame was not disturbed, by the video alone.

    In a disturbed frame, for a detection with a mean response (and with what the frames around say added,
    see with_support, where a response has to be low):
    - confident: hard negative if the response is low; pseudo-label if it reaches label_threshold, the
      response is high and the video does not say false;
    - below label_threshold: hard positive if the response is high and it lies on a sure track;
    - else ignore.
    With ``static_share`` a detection whose place is occupied through the video (see hem.mining.static), and
    with ``still_change`` one whose picture does not change, there nor in most other frames, is taken for a
    low response, and is no positive in any frame; where the pass asked about no frame at all, it is a hard
    negative if it is confident. What does not change in its own frame alone, and what lies at the place of
    such an unchanged one, is no positive either.
    Elsewhere the temporal rule decides, but if the pass asked about other frames, its hard negatives
    are ignored with ``needs_answer``, and its labels and filled gaps with ``labels_need_answer``.
    Gaps filled by matching come on top, unless a detection in them was judged already; between detections
    of which one is a hard negative or can be no positive they are ignored.
    No hard negative lies on what is taught as an object of its class: see off_labels.
    A verdict that both kinds reach has the larger of their weights, plus a tenth of the smaller, at
    most 1: more evidence of either kind never lowers it.

    Raises:
        HemError: if a threshold lies outside the ranges that the evidence was collected for.
    """
    limits, response = thresholds.temporal, thresholds.elicited
    check_range(evidence, limits)
    if evidence.collected.variants:
        within("min_variants", response.min_variants, (1, len(evidence.collected.variants)), "variants")
    prepare_gaps(evidence, limits, "hem")
    steady, answers = steadiness(evidence, limits), answers_of(evidence, response.min_variants)
    static, no_label = background(evidence, response)
    verdict, weights = _fused(evidence, thresholds, steady, answers, static, no_label)
    seen = columns_of(steady) | {
        "response": answers.mean,
        "track_id": track_ids(evidence, limits.label_score, limits.link_iou),
    }
    if evidence.change is not None:
        seen["change"] = evidence.change
    table = _table(evidence, "hem", verdict, weights, seen, response.refine_boxes)
    if limits.max_gap:
        gaps = gap_table(evidence, limits, "hem", (verdict == NEGATIVE) | no_label)
        table = with_gaps(table, as_ignored(gaps) if _labels_asked(evidence, response) else gaps)
    return off_labels(table)


def _labels_asked(evidence: Evidence, response: ElicitedThresholds) -> bool:
    """Whether labels need an answer, and answers were to be had."""
    return response.labels_need_answer and evidence.elicit_calls > 0


def _fused(
    evidence: Evidence,
    thresholds: HemThresholds,
    steady: Steadiness,
    answers: Answers,
    static: NDArray[np.bool_],
    no_label: NDArray[np.bool_],
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return what query_hem says of every detection, int8 (N,), -1 for nothing, and its weight (N,)."""
    limits, response = thresholds.temporal, thresholds.elicited
    found, was_asked = evidence.detections, evidence.elicit_calls > 0
    negative, pseudo, ignore = decide(evidence, limits, steady)
    distinct = index_of(evidence).fresh
    known = ~np.isnan(answers.mean) & distinct
    by_place = static & distinct & (not was_asked)
    # without an answer the video alone decides, unless answers were to be had and are needed
    alone = negative & (not (response.needs_answer and was_asked))
    unasked = pseudo & ~no_label & (not _labels_asked(evidence, response))
    as_true, as_false = np.minimum(steady.support, 1.0) * pseudo, np.zeros(len(found))
    false = np.flatnonzero(negative)
    as_false[false] = negative_weight(steady, limits, false)
    if not (known | by_place).any():
        verdict = first_kind((alone, NEGATIVE), (unasked, PSEUDO), (ignore | negative | pseudo, IGNORE))
        return verdict, np.where(verdict == NEGATIVE, as_false, as_true)

    mean = np.nan_to_num(answers.mean, nan=0.0)
    both = with_support(mean, steady, response, distinct, _most(evidence))
    low = by_place | (known & ((both < response.negative_response) | static))
    high = known & (mean >= response.positive_response) & ~no_label
    confident = found.scores >= limits.score_threshold
    sure = confident & (found.scores >= limits.label_score)
    score, link = limits.label_score, limits.link_iou
    tracked = known & on_track(evidence, limits.neighbour_threshold, score, link, limits.min_track)
    is_negative = confident & np.where(known | by_place, low, alone)
    is_pseudo = sure & ~is_negative & np.where(known, high & ~negative, unasked)
    doubtful = found.scores >= limits.neighbour_threshold
    is_positive = tracked & doubtful & ~sure & ~negative & high
    rest = (known & (found.scores >= limits.ignore_score)) | (~known & (ignore | negative | pseudo))
    verdict = first_kind(
        (is_negative, NEGATIVE), (is_positive, POSITIVE), (is_pseudo, PSEUDO), (rest, IGNORE)
    )
    # what the video alone calls false was isolated from its neighbours already
    clear = with_clear_negatives(evidence, verdict, limits.neighbour_threshold, response.clear_iou)
    verdict = np.where(known | by_place, clear, verdict)
    by_answer = response_weight(np.where(static, 0.0, both), mean, response, _most(evidence))
    weights = np.where(
        verdict == NEGATIVE, _together(as_false, by_answer[0] * low), _together(as_true, by_answer[1] * high)
    )
    return verdict, weights


def _together(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.minimum(np.maximum(one, other) + 0.1 * np.minimum(one, other), 1.0))
