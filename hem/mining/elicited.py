"""Elicited flicker: disturb a frame a little, detect again, and see which detections answer.

True objects keep being found under small disturbances and false alarms less so, so the mean answer
over a few disturbances tells them apart better than the detector's own score does.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError
from hem.mining.collect import Detect
from hem.mining.disturbances import DEFAULT_VARIANTS, DISTURBANCES, Disturbance, disturbances

__all__ = [
    "DEFAULT_VARIANTS",
    "DISTURBANCES",
    "Disturbance",
    "choose_frames",
    "disturbances",
    "elicit",
    "mean_response",
]


def elicit(
    frame: Tensor,
    boxes_xyxy: Tensor | NDArray[np.float64],
    labels: Tensor | NDArray[np.int64],
    detect: Detect,
    variants: Sequence[Disturbance | str] = DEFAULT_VARIANTS,
    *,
    iou_threshold: float = 0.5,
    max_batch: int = 16,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ask the detector about each box again, once in every disturbed copy of the frame.

    Args:
        frame: uint8 (3, H, W) RGB, never written to.
        boxes_xyxy: (N, 4), candidates in pixels of the frame; labels: (N,), from 1.
        detect: gives the detections of a batch uint8 (B, 3, H, W), down to its floor score, in
            pixels of the frames given.
        variants: disturbances or their names.
        iou_threshold: a detection answers for a candidate of its class when their IoU is above
            (not at) this. Raising it makes objects whose box wobbles look false; lowering it lets
            neighbours answer for each other. 0.5: METHOD section 8.
        max_batch: disturbed frames in one call of ``detect``; bounds memory, changes no result.

    Returns:
        scores float64 (N, V): the best score that answers, 0 where nothing does, NaN where the
        candidate is not wholly visible in the variant; ious float64 (N, V): IoU of the candidate
        with the detection that answered, 0 and NaN likewise; answers_xyxy float64 (N, V, 4): the part of
        its box inside the frame, in pixels, NaN where nothing answers.

    Raises:
        HemError: if a name is unknown or ``detect`` answers for another number of frames.
    """
    chosen = [disturbances([one])[0] if isinstance(one, str) else one for one in variants]
    boxes = torch.as_tensor(boxes_xyxy, dtype=torch.float64, device="cpu").reshape(-1, 4)
    classes = torch.as_tensor(labels, dtype=torch.int64, device="cpu").reshape(-1)
    scores = np.full((len(boxes), len(chosen)), np.nan)
    ious = np.full((len(boxes), len(chosen)), np.nan)
    answers_xyxy = np.full((len(boxes), len(chosen), 4), np.nan)
    height, width = int(frame.shape[1]), int(frame.shape[2])
    visible = [one.visible(boxes, height, width) for one in chosen]
    asked = [column for column, mask in enumerate(visible) if bool(mask.any())]
    for start in range(0, len(asked), max_batch):
        columns = asked[start : start + max_batch]
        batch = torch.stack([chosen[column].apply(frame) for column in columns])
        answers = detect(batch)
        if len(answers) != len(columns):
            raise HemError(f"the detector answered for {len(answers)} frames of {len(columns)}")
        for column, answer in zip(columns, answers, strict=True):
            mapped = chosen[column].to_original(answer.boxes_xyxy.cpu(), height, width)
            best, overlap, places = _best_answer(
                boxes, classes, mapped, answer.scores.cpu(), answer.labels.cpu(), iou_threshold
            )
            places = places.clamp(min=0).minimum(places.new_tensor([width, height, width, height]))
            seen = visible[column]
            scores[seen.numpy(), column] = best[seen].numpy()
            ious[seen.numpy(), column] = overlap[seen].numpy()
            answers_xyxy[seen.numpy(), column] = places[seen].numpy()
    return scores, ious, answers_xyxy


def _best_answer(
    boxes: Tensor, classes: Tensor, found: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Best score (N,) over same-class detections with IoU > iou_threshold, that one's IoU (N,) and box."""
    nowhere = boxes.new_full(boxes.shape, torch.nan)
    if len(boxes) == 0 or len(found) == 0:
        return boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes)), nowhere
    from torchvision.ops import box_iou  # see hem.structures.target

    overlap = box_iou(boxes, found)
    answers = (overlap > iou_threshold) & (classes[:, None] == labels[None])
    ranked = torch.where(answers, scores[None].expand_as(overlap), overlap.new_tensor(-torch.inf))
    best, which = ranked.max(1)
    there = answers.any(1)
    nothing = boxes.new_zeros(())
    iou = torch.where(there, overlap.gather(1, which[:, None])[:, 0], nothing)
    places = torch.where(there[:, None], found.to(boxes.dtype)[which], nowhere)
    return torch.where(there, best, nothing), iou, places


def mean_response(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean (N,) of responses (N, V) over the variants that show the candidate.

    NaN for a candidate that no variant shows (or with V = 0): nothing was asked of it.
    """
    seen = ~np.isnan(scores)
    count = seen.sum(1)
    total = np.where(seen, scores, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def choose_frames(
    frame_index: NDArray[np.int64],
    scores: NDArray[np.float64],
    doubt: NDArray[np.float64] | None = None,
    *,
    passes_per_frame: int,
    budget_passes: int,
) -> NDArray[np.int64]:
    """Choose the frames whose disturbance decides most, within a budget of detector passes.

    A candidate is worth 4 u (1 - u), u being its score's rank among the candidates from 0 to 1 (so
    nothing depends on the detector's scale): a very high or a very low score is seldom overturned.
    That is multiplied by its ``doubt``. Frames with the largest sums over their candidates are taken;
    equal sums go to the earlier frame. The result depends on the candidates only, not on their order.

    Args:
        frame_index: int64 (N,), frame of each candidate; scores: float64 (N,), any scale.
        doubt: float64 (N,) >= 0, how doubtful the temporal evidence leaves it (for example 1 for
            isolated or in a short track, 0.2 for one well inside a long steady track); None = 1.
        passes_per_frame: detector passes that one frame costs (its number of variants), >= 1.
        budget_passes: passes that may be spent in all, >= 0.

    Returns:
        int64 (K,), chosen frames in rising order, K * passes_per_frame <= budget_passes; frames of
        no worth are left out, so K may be smaller.

    Raises:
        HemError: if a setting is out of range or lengths differ.
    """
    count = len(frame_index)
    doubt = np.ones(count) if doubt is None else np.asarray(doubt, dtype=np.float64)
    _check_choice(count, scores, doubt, passes_per_frame, budget_passes)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    worth = _undecided(np.asarray(scores, dtype=np.float64)) * doubt
    order = np.lexsort((worth, frame_index))  # sums must not depend on the order given
    frames, of = np.unique(frame_index[order], return_inverse=True)
    total = np.bincount(of, weights=worth[order])
    best = np.argsort(-total, kind="stable")[: budget_passes // passes_per_frame]
    return np.sort(frames[best[total[best] > 0]]).astype(np.int64)


def _undecided(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """4 u (1 - u) of the mid-rank u in (0, 1) of each score; equal scores get equal worth."""
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    rank = (below + upto) / (2 * len(scores))
    return np.asarray(4 * rank * (1 - rank))


def _check_choice(
    count: int,
    scores: NDArray[np.float64],
    doubt: NDArray[np.float64],
    passes_per_frame: int,
    budget_passes: int,
) -> None:
    if not count == len(scores) == len(doubt):
        raise HemError(
            f"choosing frames: frame_index={count}, scores={len(scores)} and doubt={len(doubt)} must have "
            "one length"
        )
    if passes_per_frame < 1 or budget_passes < 0:
        raise HemError(
            f"choosing frames: passes_per_frame={passes_per_frame} must be >= 1 and budget_passes="
            f"{budget_passes} >= 0"
        )
    if count and not bool((doubt >= 0).all()):
        raise HemError("choosing frames: doubt must be >= 0")
