"""Losses with a weight and a soft target for every sample; at weight 1 and hard targets, upstream's."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import generalized_box_iou_loss


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the element-wise focal loss, float32, same shape as ``logits``, for targets in [0, 1].

    The modulating factor is |target - p|^gamma: for targets 0 and 1 that is the focal loss of Lin et
    al., 2017, section 3 (torchvision's sigmoid_focal_loss); for a soft target the minimum lies at
    p = target, which the hard form would miss.
    """
    logits = logits.float()
    gap = (targets - torch.sigmoid(logits)).abs()
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return balance * gap**gamma * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def soft_cross_entropy(logits: Tensor, labels: Tensor, soft: Tensor) -> Tensor:
    """Return (S,) cross-entropy of softmax heads: ``soft`` on the label, the rest on background.

    Args:
        logits: (S, C) with background in column 0.
        labels: int64 (S,), 0 for background.
        soft: (S,) in [0, 1]; 1 is plain cross-entropy.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    own = log_p.gather(1, labels[:, None])[:, 0]
    return -(soft * own + (1 - soft) * log_p[:, 0])


def not_these_classes(logits: Tensor, ruled_out: Tensor) -> Tensor:
    """Return (S,): -log(1 - sum of p over the classes that are ruled out).

    Args:
        logits: (S, C) with background in column 0.
        ruled_out: bool (S, C); column 0 must be False. With all other columns True this is the
            cross-entropy of background; with column c alone, -log(1 - p_c).
    """
    logits = logits.float()
    allowed = logits.masked_fill(ruled_out, float("-inf")).logsumexp(1)
    return logits.logsumexp(1) - allowed


def box_loss(kind: str, coder: BoxCoder, anchors: Tensor, boxes: Tensor, deltas: Tensor) -> Tensor:
    """Return (P,) regression losses of matched anchors, summed over the coordinates.

    Args:
        kind: ``l1``, ``smooth_l1`` (beta 1) or ``giou``, as torchvision names them.
        coder: torchvision's box coder.
        anchors, boxes, deltas: (P, 4) each: anchors, the positives they are matched to, predictions.
    """
    if kind == "giou":
        return generalized_box_iou_loss(coder.decode_single(deltas, anchors), boxes, reduction="none")
    if kind not in ("l1", "smooth_l1"):
        raise ValueError(f"box loss {kind!r} is none of l1, smooth_l1, giou")
    loss = F.l1_loss if kind == "l1" else F.smooth_l1_loss
    return loss(deltas, coder.encode_single(boxes, anchors), reduction="none").sum(1)


def hardest(losses: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return bool (A,): the ``count`` candidates with the largest loss (all of them if fewer).

    Args:
        losses: (A,), finite.
        candidates: bool (A,): only these may be chosen.
        count: >= 0.
    """
    count = min(max(0, count), int(candidates.sum()))
    order = losses.detach().masked_fill(~candidates, float("-inf")).topk(count).indices
    chosen = torch.zeros_like(candidates)
    chosen[order] = True
    return chosen


def mined(
    losses: Tensor, weights: Tensor, matched: Tensor, pairs: Tensor, ratio: float, minimum: int
) -> Tensor:
    """Return the rows of one image's losses that OHEM keeps: all but the easy background.

    Args:
        losses, weights: (A, C) of the image's candidates; weights are 0 where nothing is taught.
        matched: int64 (A,), index of the matched positive or negative.
        pairs: bool (M, A), candidate a stands for hard negative m.
        ratio: background candidates kept for each positive, > 0. Raising it keeps easier ones.
        minimum: background candidates kept at least, so that an image without positives teaches.
    """
    positive = matched >= 0
    background = ~positive & ~pairs.any(0) & (weights > 0).any(1)
    count = max(minimum, int(ratio * int(positive.sum())))
    return losses[~background | hardest(losses.sum(1), background, count)]
