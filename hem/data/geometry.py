"""Moving every part of a Target with its image: what a crop leaves, and what then is still known."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.ops import box_iou

from hem.errors import HemError
from hem.structures import Target


@dataclass(frozen=True)
class Visible:
    """When a box that a crop has cut still counts as itself.

    Attributes:
        positive: share of a positive's area that must stay in the picture; below it the rest becomes
            an ignore region, never background. Raising it trains on whole objects only; lowering
            it teaches that a hand is a person.
        negative: the same for a hard negative; below it the rest becomes an ignore region.
        min_side: pixels; a positive or hard negative smaller than this on a side becomes an ignore
            region too.
    """

    positive: float = 0.3
    negative: float = 0.5
    min_side: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.positive <= 1 or not 0 <= self.negative <= 1 or not self.min_side >= 0:
            raise HemError(f"shares must lie in [0, 1] and min_side must be >= 0, got {self}")


DEFAULT_VISIBLE = Visible()


def flip(target: Target, width: int) -> Target:
    """Return the target of the image mirrored left to right; nothing is lost."""

    def mirrored(boxes: Tensor) -> Tensor:
        out = boxes.clone()
        out[:, 0], out[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
        return out

    return _settled(
        target, mirrored(target.boxes_xyxy), mirrored(target.hard_negatives[0]), mirrored(target.ignore_xyxy)
    )


def place(
    target: Target,
    scale: tuple[float, float],
    shift: tuple[float, float],
    window: tuple[int, int, int, int],
    source: tuple[int, int],
    visible: Visible = DEFAULT_VISIBLE,
) -> Target:
    """Return the target after each x became ``x * scale[0] + shift[0]`` (y alike), cut at a window.

    Args:
        target: labels of the source image; never changed in place.
        scale: factors of x and y, > 0.
        shift: pixels of the new canvas.
        window: (left, top, right, bottom), the part of the new canvas that shows this image.
        source: (width, height) of the source image: what lay beyond its edge was never visible.
        visible: see Visible.

    What a cut leaves of a positive or hard negative that is not visible enough becomes an ignore
    region; what lies wholly outside the window is gone with its pixels. Where a cut makes a hard
    negative and a positive of its class one region (IoU >= the target's ``conflict_iou``) the hard
    negative becomes an ignore region: the positive, which is matched first, stands.
    """

    parts = [target.boxes_xyxy, target.hard_negatives[0], target.ignore_xyxy]
    seen = _clip(torch.cat(parts), (0, 0, *source))
    full = seen * seen.new_tensor(scale * 2) + seen.new_tensor(shift * 2)
    kept = _clip(full, window)
    share = _area(kept) / _area(full).clamp(min=1e-9)
    boxes, negatives, ignore = kept.split([len(part) for part in parts])
    box_share, negative_share, _ = share.split([len(part) for part in parts])
    return _settled(
        target,
        boxes,
        negatives,
        ignore,
        keep_boxes=(box_share >= visible.positive) & (_side(boxes) >= visible.min_side),
        keep_negatives=(negative_share >= visible.negative) & (_side(negatives) >= visible.min_side),
    )


def _clip(boxes: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    low, high = boxes.new_tensor(window[:2] * 2), boxes.new_tensor(window[2:] * 2)
    return torch.minimum(torch.maximum(boxes, low), high)


def _side(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).amin(1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _settled(
    target: Target,
    boxes: Tensor,
    negatives: Tensor,
    ignore: Tensor,
    keep_boxes: Tensor | None = None,
    keep_negatives: Tensor | None = None,
) -> Target:
    """Build the moved target; what is not kept becomes an ignore region where it still has extent."""
    _, negative_labels, negative_weights = target.hard_negatives
    stays = _side(boxes) > 0
    positive = stays if keep_boxes is None else keep_boxes & stays
    negative = _side(negatives) > 0
    if keep_negatives is not None:
        negative = negative & keep_negatives
    if bool(negative.any()) and bool(positive.any()):
        same = (negative_labels[:, None] == 0) | (negative_labels[:, None] == target.labels[None])
        overlap = box_iou(negatives, boxes) >= target.conflict_iou
        negative = negative & ~(same & overlap & positive[None]).any(1)
    unknown = torch.cat([ignore, boxes[~positive], negatives[~negative]])
    return replace(
        target,
        boxes_xyxy=boxes[positive],
        labels=target.labels[positive],
        weights=target.box_weights[positive],
        negatives_xyxy=negatives[negative],
        negative_labels=negative_labels[negative],
        negative_weights=negative_weights[negative],
        ignore_xyxy=unknown[_side(unknown) > 0],
        soft_scores=None if target.soft_scores is None else target.soft_scores[positive],
    )


def joined(targets: list[Target], name: str) -> Target:
    """Return one target of several whose boxes already lie in separate parts of one picture.

    Where some have soft scores and others none, a human label counts as believed: 1.
    """
    soft = None
    if any(target.soft_scores is not None for target in targets):
        soft = torch.cat(
            [
                torch.ones(len(target.labels)) if target.soft_scores is None else target.soft_scores
                for target in targets
            ]
        )
    negatives = [target.hard_negatives for target in targets]
    return Target(
        boxes_xyxy=torch.cat([target.boxes_xyxy for target in targets]),
        labels=torch.cat([target.labels for target in targets]),
        weights=torch.cat([target.box_weights for target in targets]),
        negatives_xyxy=torch.cat([part[0] for part in negatives]),
        negative_labels=torch.cat([part[1] for part in negatives]),
        negative_weights=torch.cat([part[2] for part in negatives]),
        ignore_xyxy=torch.cat([target.ignore_xyxy for target in targets]),
        soft_scores=soft,
        name=name,
        conflict_iou=max(target.conflict_iou for target in targets),
    )
