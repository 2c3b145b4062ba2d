"""Losses of RetinaNet, FCOS and SSD for weighted and partly labelled images."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou, generalized_box_iou_loss

from hem.detectors.contract import (
    Contract,
    Labels,
    blocked_pairs,
    boxes_inside,
    channel_weights,
    complete,
    forbidden_classes,
    hard_pairs,
    is_plain,
    negative_weight,
    points_inside,
)
from hem.detectors.losses import box_loss, focal, hardest, mined, not_these_classes, soft_cross_entropy


def _sigmoid_lesson(
    target: Labels, matched: Tensor, pairs: Tensor, left_out: Tensor, channels: int, contract: Contract
) -> tuple[Tensor, Tensor]:
    """Return weights and targets, (A, C) each, of one image for heads with independent channels.

    Args:
        target: complete() labels.
        matched: int64 (A,), index of the matched positive or negative.
        pairs: bool (M, A), candidate a stands for hard negative m.
        left_out: bool (A,), ignored unless matched or a hard negative.
        channels: C.
        contract: soft labels.
    """
    weights, wanted = channel_weights(target, matched, pairs, left_out, channels)
    if "soft_scores" in target:
        positive = matched >= 0
        wanted[positive] *= contract.soft_targets(target)[matched[positive]][:, None]
    return weights, wanted


class PartialRetinaNetHead(RetinaNetHead):
    """torchvision's RetinaNet head with the Target contract in its loss."""

    contract: Contract
    positive_iou: float

    def compute_loss(
        self,
        targets: list[Labels],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses ``classification`` and ``bbox_regression``; see torchvision."""
        if is_plain(targets) and not self.contract.ohem:
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        classification, regression = [], []
        rows = zip(
            targets,
            head_outputs["cls_logits"],
            head_outputs["bbox_regression"],
            anchors,
            matched_idxs,
            strict=True,
        )
        for labels, logits, deltas, boxes, matched in rows:
            target = complete(labels)
            positive = matched >= 0
            count = max(1, int(positive.sum()))
            classification.append(self._classification(logits, target, boxes, matched) / count)
            index = matched[positive]
            loss = box_loss(
                self.regression_head._loss_type,
                self.regression_head.box_coder,
                boxes[positive],
                target["boxes"][index],
                deltas[positive],
            )
            regression.append((loss * target["weights"][index]).sum() / count)
        return {
            "classification": torch.stack(classification).mean(),
            "bbox_regression": torch.stack(regression).mean(),
        }

    def _classification(self, logits: Tensor, target: Labels, anchors: Tensor, matched: Tensor) -> Tensor:
        between = matched == self.classification_head.BETWEEN_THRESHOLDS
        ignored = boxes_inside(anchors, target["ignore"], self.contract.ignore_ioa)
        pairs = ignored.new_zeros((0, len(anchors)))
        if len(target["negatives"]):
            blocked = blocked_pairs(target, matched)
            pairs = hard_pairs(box_iou(target["negatives"], anchors), self.positive_iou, blocked)
        weights, wanted = _sigmoid_lesson(
            target, matched, pairs, ignored | between, logits.shape[1], self.contract
        )
        losses = focal(logits, wanted) * weights
        if self.contract.ohem:
            losses = mined(
                losses, weights, matched, pairs, self.contract.ohem_ratio, self.contract.ohem_minimum
            )
        return losses.sum()


class PartialFCOSHead(FCOSHead):
    """torchvision's FCOS head with the Target contract in its loss."""

    contract: Contract
    radius: float

    def compute_loss(
        self,
        targets: list[Labels],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return ``classification``, ``bbox_regression`` and ``bbox_ctrness``; see torchvision."""
        if is_plain(targets) and not self.contract.ohem:
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        complete_targets = [complete(labels) for labels in targets]
        logits = head_outputs["cls_logits"]
        lessons = [
            self._lesson(*row, logits.shape[2])
            for row in zip(complete_targets, anchors, matched_idxs, strict=True)
        ]
        weights = torch.stack([weight for weight, _, _ in lessons])
        losses = focal(logits, torch.stack([wanted for _, wanted, _ in lessons])) * weights
        if self.contract.ohem:
            pairs = [pair for _, _, pair in lessons]
            rows = zip(losses, weights, matched_idxs, pairs, strict=True)
            quota = self.contract.ohem_ratio, self.contract.ohem_minimum
            losses = torch.cat([mined(*row, *quota) for row in rows])
        box, centre, foreground = self._regression(head_outputs, complete_targets, anchors, matched_idxs)
        count = max(1, foreground)
        return {
            "classification": losses.sum() / count,
            "bbox_regression": box / count,
            "bbox_ctrness": centre / count,
        }

    def _lesson(
        self, target: Labels, cells: Tensor, matched: Tensor, channels: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (A, C), targets (A, C) and hard-negative pairs (M, A) of one image."""
        points = (cells[:, :2] + cells[:, 2:]) / 2
        ignored = torch.zeros_like(matched, dtype=torch.bool)
        if len(target["ignore"]):
            ignored = points_inside(points, target["ignore"]).any(0)
        pairs = self._negative_points(target, cells, points, matched)
        weights, wanted = _sigmoid_lesson(target, matched, pairs, ignored, channels, self.contract)
        return weights, wanted, pairs

    def _negative_points(self, target: Labels, cells: Tensor, points: Tensor, matched: Tensor) -> Tensor:
        """Return bool (M, A): the points that would be matched to each negative were it an object.

        FCOS' own rule (near the centre, inside the box, on the level of the box's size); a negative
        that no point satisfies gets the free point nearest its centre.
        """
        negatives = target["negatives"]
        if not len(negatives):
            return torch.zeros((0, len(points)), dtype=torch.bool, device=points.device)
        stride = cells[:, 2] - cells[:, 0]
        centres = (negatives[:, :2] + negatives[:, 2:]) / 2
        offset = (points[None] - centres[:, None]).abs().amax(-1)
        edges = torch.cat(
            [points[None] - negatives[:, None, :2], negatives[:, None, 2:] - points[None]], dim=-1
        )
        reach = edges.amax(-1)
        low = torch.where(stride == stride.min(), 0.0, stride * 4)
        high = torch.where(stride == stride.max(), float("inf"), stride * 8)
        covers = (offset < self.radius * stride) & (edges.amin(-1) > 0) & (reach > low) & (reach < high)
        free = ~blocked_pairs(target, matched)
        covers &= free
        nearest = offset.masked_fill(~free, float("inf"))
        fallback = (nearest == nearest.amin(1, keepdim=True)) & free & ~covers.any(1, keepdim=True)
        return covers | fallback

    def _regression(
        self,
        head_outputs: dict[str, Tensor],
        targets: list[Labels],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> tuple[Tensor, Tensor, int]:
        """Return summed box and centreness losses of the matched points of a batch, and their number."""
        matched = torch.stack(matched_idxs)
        positive = matched >= 0
        indices = [one[one >= 0] for one in matched_idxs]
        weights, boxes = (
            torch.cat([target[name][index] for target, index in zip(targets, indices, strict=True)])
            for name in ("weights", "boxes")
        )
        cells = torch.stack(anchors)[positive]
        predicted = self.box_coder.decode(head_outputs["bbox_regression"][positive], cells)
        box = generalized_box_iou_loss(predicted, boxes, reduction="none")
        sides = self.box_coder.encode(cells, boxes)
        across, down = sides[:, [0, 2]], sides[:, [1, 3]]
        wanted = torch.sqrt((across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1)))
        centre = F.binary_cross_entropy_with_logits(
            head_outputs["bbox_ctrness"][positive][:, 0].float(), wanted.float(), reduction="none"
        )
        return (box * weights).sum(), (centre * weights).sum(), len(weights)


class PartialSSD(SSD):
    """torchvision's SSD with the Target contract in its loss.

    SSD mines hard negatives online by construction (its own paper, section 2.2): per image the
    ``neg_to_pos_ratio`` x positives background boxes with the largest loss. Mined hard negatives come
    on top of that quota and ignore regions never enter it.
    """

    contract: Contract

    def compute_loss(
        self,
        targets: list[Labels],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses ``bbox_regression`` and ``classification``; see torchvision."""
        if is_plain(targets):
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        classification, regression, foreground = [], [], 0
        rows = zip(
            targets,
            head_outputs["cls_logits"],
            head_outputs["bbox_regression"],
            anchors,
            matched_idxs,
            strict=True,
        )
        for labels, logits, deltas, boxes, matched in rows:
            target = complete(labels)
            classification.append(self._classification(logits, target, boxes, matched))
            positive = matched >= 0
            index = matched[positive]
            loss = box_loss(
                "smooth_l1", self.box_coder, boxes[positive], target["boxes"][index], deltas[positive]
            )
            regression.append((loss * target["weights"][index]).sum())
            foreground += int(positive.sum())
        count = max(1, foreground)
        return {
            "bbox_regression": torch.stack(regression).sum() / count,
            "classification": torch.stack(classification).sum() / count,
        }

    def _classification(self, logits: Tensor, target: Labels, anchors: Tensor, matched: Tensor) -> Tensor:
        positive = matched >= 0
        pairs = hard_pairs(
            box_iou(target["negatives"], anchors), self.proposal_matcher.high_threshold, positive
        )
        hard = pairs.any(0)
        labels = torch.zeros_like(matched)
        soft = torch.ones_like(logits[:, 0], dtype=torch.float32)
        weights = torch.where(hard, negative_weight(pairs, target["negative_weights"]), soft)
        index = matched[positive]
        labels[positive] = target["labels"][index]
        soft[positive] = self.contract.soft_targets(target)[index]
        weights[positive] = target["weights"][index]
        losses = soft_cross_entropy(logits, labels, soft)
        if bool(hard.any()):
            ruled_out = forbidden_classes(target, pairs, logits.shape[1])[hard]
            losses = losses.index_put((hard,), not_these_classes(logits[hard], ruled_out))
        ignored = boxes_inside(anchors, target["ignore"], self.contract.ignore_ioa)
        quota = int(self.neg_to_pos_ratio * int(positive.sum()))
        background = hardest(losses, ~positive & ~hard & ~ignored, quota)
        return (losses * weights)[positive | hard | background].sum()
