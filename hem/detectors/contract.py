"""The Target contract, apart from any network: which anchor, proposal or point teaches what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import box_iou

from hem.detectors.soft_labels import soften
from hem.errors import HemError
from hem.structures import Target

Labels = dict[str, Tensor]


@dataclass(frozen=True)
class Contract:
    """How partly labelled images are taught.

    Attributes:
        ignore_ioa: share of an anchor's or proposal's own area that must lie in an ignore region
            for it to be left out, in (0, 1]. Lower leaves more out, so fewer false lessons and
            fewer background samples near uncertain objects. 0.5 as in the Caltech and COCO
            evaluations of crowd regions.
        soft_lambda, soft_temperature: see soft_labels.soften; used only where a Target carries
            soft_scores.
        negative_repeats: copies of every hard negative among the second stage's samples, >= 1; the
            first is exact, the others are moved by ``negative_jitter`` (share of the box's size).
            More copies weigh mined boxes more against random background. Four at 5 % gave the
            fewest false alarms of 1, 4 and 16 on pedestrian video.
        ohem: online hard example mining, the comparison method: only the samples with the largest
            loss teach.
        ohem_ratio: one-stage detectors: background samples kept for each positive, > 0.
        ohem_minimum: one-stage detectors: background samples kept at least, so that an image
            without positives still teaches.

    Raises:
        HemError: if a value is out of range.
    """

    ignore_ioa: float = 0.5
    soft_lambda: float = 1.0
    soft_temperature: float = 1.0
    negative_repeats: int = 4
    negative_jitter: float = 0.05
    ohem: bool = False
    ohem_ratio: float = 3.0
    ohem_minimum: int = 32

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Contract":
        """Return the contract that a detector's settings ask for; what they leave out keeps its default."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def __post_init__(self) -> None:
        if not 0 < self.ignore_ioa <= 1:
            raise HemError(f"detector: ignore_ioa must lie in (0, 1], got {self.ignore_ioa}")
        if not 0 <= self.soft_lambda <= 1 or not self.soft_temperature > 0:
            raise HemError(
                "detector: soft_lambda must lie in [0, 1] and soft_temperature be > 0, "
                f"got {self.soft_lambda} and {self.soft_temperature}"
            )
        if self.negative_repeats < 1 or not 0 <= self.negative_jitter <= 0.2:
            raise HemError(
                "detector: negative_repeats must be >= 1 and negative_jitter lie in [0, 0.2], "
                f"got {self.negative_repeats} and {self.negative_jitter}"
            )
        if not self.ohem_ratio > 0 or self.ohem_minimum < 0:
            raise HemError(
                f"detector: ohem_ratio must be > 0 and ohem_minimum >= 0, "
                f"got {self.ohem_ratio} and {self.ohem_minimum}"
            )

    def soft_targets(self, labels: Labels) -> Tensor:
        """Return the classification target of every positive of one image, float32 (N,), in [0, 1]."""
        if "soft_scores" not in labels:
            return torch.ones(len(labels["labels"]), device=labels["boxes"].device)
        return soften(labels["soft_scores"], self.soft_lambda, self.soft_temperature)


class PartialTransform(GeneralizedRCNNTransform):
    """torchvision's resizing, which carries hard negatives and ignore regions along."""

    def resize(self, image: Tensor, target: Labels | None = None) -> tuple[Tensor, Labels | None]:
        """Resize one image with its boxes; see torchvision."""
        before = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignore" in target:
            for name in ("negatives", "ignore"):
                target[name] = resize_boxes(target[name], before, image.shape[-2:])
        return image, target


def adopt(module: nn.Module, cls: type[nn.Module], **attributes: object) -> None:
    """Turn a torchvision module into hem's subclass of its class, in place, weights kept.

    Changing the class keeps every attribute that whichever torchvision version has set, so hem does
    not depend on constructor signatures that differ between releases.
    """
    base = type(module)
    if not issubclass(cls, base):
        raise TypeError(f"{cls.__name__} does not extend {base.__name__}")
    module.__class__ = cls
    for name, value in attributes.items():
        setattr(module, name, value)


def to_labels(target: Target, device: torch.device) -> Labels:
    """Return torchvision's dict of one target; the extra keys only where the image needs them.

    Keys: ``boxes`` (N, 4), ``labels`` (N,); for partly labelled images also ``weights`` (N,),
    ``negatives`` (M, 4), ``negative_labels`` (M,), ``negative_weights`` (M,), ``ignore`` (K, 4) and,
    if given, ``soft_scores`` (N,).
    """
    labels = {"boxes": target.boxes_xyxy.to(device), "labels": target.labels.to(device)}
    if target.fully_labelled:
        return labels
    negatives, negative_labels, negative_weights = target.hard_negatives
    labels["weights"] = target.box_weights.to(device)
    labels["negatives"] = negatives.to(device)
    labels["negative_labels"] = negative_labels.to(device)
    labels["negative_weights"] = negative_weights.to(device)
    labels["ignore"] = target.ignore_xyxy.to(device)
    if target.soft_scores is not None:
        labels["soft_scores"] = target.soft_scores.to(device)
    return labels


def is_plain(targets: Sequence[Labels] | None) -> bool:
    """Return True if every image is fully labelled, so that upstream's own loss serves."""
    return targets is None or not any(map(is_partial, targets))


def is_partial(labels: Labels) -> bool:
    """Return True if one image needs the contract."""
    return "ignore" in labels


def complete(labels: Labels) -> Labels:
    """Return ``labels`` with all keys; a fully labelled image gets weights 1 and nothing else."""
    if is_partial(labels):
        return labels
    boxes = labels["boxes"]
    return {
        **labels,
        "weights": torch.ones(len(boxes), device=boxes.device),
        "negatives": boxes.new_zeros((0, 4)),
        "negative_labels": labels["labels"].new_zeros(0),
        "negative_weights": torch.ones(0, device=boxes.device),
        "ignore": boxes.new_zeros((0, 4)),
    }


def boxes_inside(boxes_xyxy: Tensor, regions_xyxy: Tensor, ignore_ioa: float) -> Tensor:
    """Return bool (A,): intersection with one region / own area >= ``ignore_ioa``.

    Args:
        boxes_xyxy: (A, 4); a box without area is never inside.
        regions_xyxy: (K, 4); K may be 0.
    """
    if not len(regions_xyxy):
        return torch.zeros(len(boxes_xyxy), dtype=torch.bool, device=boxes_xyxy.device)
    low = torch.maximum(boxes_xyxy[None, :, :2], regions_xyxy[:, None, :2])
    high = torch.minimum(boxes_xyxy[None, :, 2:], regions_xyxy[:, None, 2:])
    shared = (high - low).clamp(min=0).prod(-1).amax(0)
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)
    return (shared >= ignore_ioa * area) & (area > 0)


def points_inside(points_xy: Tensor, regions_xyxy: Tensor) -> Tensor:
    """Return bool (K, A): point (A, 2) lies in region (K, 4), borders included."""
    low = (points_xy[None] >= regions_xyxy[:, None, :2]).all(-1)
    return low & (points_xy[None] <= regions_xyxy[:, None, 2:]).all(-1)


def hard_pairs(overlap: Tensor, threshold: float, blocked: Tensor) -> Tensor:
    """Return bool (M, A): candidate a stands for hard negative m.

    A candidate stands for a negative if it overlaps it as a positive would have to (>= threshold),
    or overlaps it best of all, so that every negative that any candidate touches has one.

    Args:
        overlap: float (M, A), IoU.
        threshold: the detector's positive threshold.
        blocked: bool (A,) or (M, A): candidates that are positives and therefore not available.
    """
    if not overlap.numel():
        return torch.zeros_like(overlap, dtype=torch.bool)
    free = overlap.masked_fill(blocked, -1.0)
    best = free.amax(1, keepdim=True)
    return (free >= threshold) | ((free == best) & (best > 0))


def negative_weight(pairs: Tensor, weights: Tensor) -> Tensor:
    """Return float (A,): the largest weight of the negatives a candidate stands for, 0 for none.

    Args:
        pairs: bool (M, A) from hard_pairs.
        weights: float (M,).
    """
    if not len(weights):
        return torch.zeros(pairs.shape[1], device=pairs.device)
    return (pairs * weights[:, None]).amax(0)


def channel_weights(
    labels: Labels, matched: Tensor, pairs: Tensor, ignored: Tensor, channels: int
) -> tuple[Tensor, Tensor]:
    """Return what each sigmoid output of one image weighs, and its target.

    Args:
        labels: complete() labels of the image.
        matched: int64 (A,), index of the positive each candidate is matched to, negative for none.
        pairs: bool (M, A), from hard_pairs.
        ignored: bool (A,): candidates that teach nothing unless matched or a hard negative.
        channels: C outputs of a candidate; channel c is label c (channel 0 is torchvision's unused
            background channel).

    Returns:
        weights float32 (A, C), 0 where the output gets no gradient; hard targets float32 (A, C).
    """
    positive = matched >= 0
    targets = torch.zeros((len(matched), channels), device=matched.device)
    rows = positive.nonzero()[:, 0]
    index = matched[rows]
    targets[rows, labels["labels"][index]] = 1.0
    left_out = ((ignored | pairs.any(0)) & ~positive) if len(pairs) else ignored & ~positive
    weights = (~left_out).to(targets.dtype)[:, None].repeat(1, channels)
    weights[rows] = labels["weights"][index][:, None]
    for label in labels["negative_labels"].unique().tolist() if len(pairs) else ():
        chosen = labels["negative_labels"] == label
        weight = negative_weight(pairs[chosen], labels["negative_weights"][chosen])
        hit = weight > 0
        columns = slice(None) if label == 0 else slice(label, label + 1)
        weights[hit, columns] = torch.maximum(weights[hit, columns], weight[hit, None])
    return weights, targets


def blocked_pairs(labels: Labels, matched: Tensor) -> Tensor:
    """Return bool (M, A): candidate a is a positive that contradicts hard negative m.

    A negative of class c leaves positives of other classes alone: their channel c is free.
    """
    negative_labels = labels["negative_labels"][:, None]
    if not len(labels["labels"]):
        return torch.zeros((len(negative_labels), len(matched)), dtype=torch.bool, device=matched.device)
    own = torch.where(matched >= 0, labels["labels"][matched.clamp(min=0)], -1)[None]
    return (own > 0) & ((negative_labels == 0) | (negative_labels == own))


def forbidden_classes(labels: Labels, pairs: Tensor, classes: int) -> Tensor:
    """Return bool (A, classes): classes that hard negatives rule out for a candidate of a softmax head.

    Column 0 (background) is never ruled out; a negative of label 0 rules out all others.
    """
    ruled_out = torch.zeros((pairs.shape[1], classes), dtype=torch.bool, device=pairs.device)
    for label in labels["negative_labels"].unique().tolist():
        hit = pairs[labels["negative_labels"] == label].any(0)
        columns = slice(1, None) if label == 0 else slice(label, label + 1)
        ruled_out[hit, columns] = True
    return ruled_out


# Signs by which the copies of a hard negative move left, top, right and bottom. A fixed table, so
# that a batch teaches the same whatever was drawn before it.
_MOVES = ((1, 1, 1, 1), (-1, -1, -1, -1), (1, -1, 1, -1), (-1, 1, -1, 1), (-1, -1, 1, 1), (1, 1, -1, -1))


def negative_copies(
    labels: Labels, repeats: int, jitter: float, positive_iou: float
) -> tuple[Tensor, Tensor]:
    """Return proposals that stand for the hard negatives of one image.

    Args:
        labels: complete() labels.
        repeats, jitter: see Contract.
        positive_iou: moved copies that overlap a positive of the negative's class by this much are
            left out (the exact copy never does, or the Target would not have been built).

    Returns:
        boxes (R, 4) and int64 (R,), which negative each copy stands for.
    """
    negatives = labels["negatives"]
    size = (negatives[:, 2:] - negatives[:, :2]).repeat(1, 2)
    boxes, owners = [negatives], [torch.arange(len(negatives), device=negatives.device)]
    for copy in range(repeats - 1):
        moves = negatives.new_tensor(_MOVES[copy % len(_MOVES)])
        # After six copies the moves start again, smaller each time, so that no two copies are equal.
        boxes.append(negatives + size * moves * (jitter / (1 + copy // len(_MOVES))))
        owners.append(owners[0])
    copies, owner = torch.cat(boxes), torch.cat(owners)
    if repeats > 1 and len(labels["boxes"]) and len(negatives):
        classes = labels["negative_labels"][owner][:, None]
        same = (classes == 0) | (classes == labels["labels"][None])
        clash = ((box_iou(copies, labels["boxes"]) >= positive_iou) & same).any(1)
        clash[: len(negatives)] = False
        copies, owner = copies[~clash], owner[~clash]
    return copies, owner


def contract_of(module: nn.Module) -> Contract:
    """Return the Contract that adopt() gave a module."""
    return cast(Contract, cast(Any, module).contract)
