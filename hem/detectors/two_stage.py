"""Proposal and second stage of Faster R-CNN for weighted and partly labelled images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou, nms

from hem.detectors.contract import (
    Contract,
    Labels,
    boxes_inside,
    complete,
    forbidden_classes,
    hard_pairs,
    is_partial,
    is_plain,
    negative_copies,
    negative_weight,
)
from hem.detectors.losses import hardest, not_these_classes, soft_cross_entropy


@dataclass(frozen=True)
class _AnchorPlan:
    """What the anchors of one image teach beyond upstream's labels: all (A,)."""

    hard: Tensor
    weights: Tensor
    soft: Tensor


class PartialRPN(RegionProposalNetwork):
    """torchvision's proposal network, with weights, ignore regions and hard negatives.

    Objectness knows no classes. A hard negative of one class says nothing about the others, so with
    more than one class its anchors are left out here (the second stage teaches it); with a single
    class, or label 0, its anchors are always among the samples.
    """

    contract: Contract
    single_class: bool
    _plans: list[_AnchorPlan] | None = None

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Labels]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return upstream's labels and boxes, with -1 where the contract leaves an anchor out."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        self._plans = None
        if not is_plain(targets):
            self._plans = []
            for image, target in enumerate(targets):
                if is_partial(target):
                    labels[image], plan = self._plan(labels[image], boxes[image], anchors[image], target)
                else:
                    nothing = torch.zeros_like(labels[image], dtype=torch.bool)
                    plan = _AnchorPlan(nothing, torch.ones_like(labels[image]), labels[image])
                self._plans.append(plan)
        return labels, boxes

    def _plan(
        self, labels: Tensor, matched_boxes: Tensor, anchors: Tensor, target: Labels
    ) -> tuple[Tensor, _AnchorPlan]:
        weights, soft = torch.ones_like(labels), labels.clamp(min=0)
        positive = labels > 0
        if bool(positive.any()):
            # Upstream returns matched boxes, not indices; they are copies, so equality finds them.
            same = (matched_boxes[positive][:, None] == target["boxes"][None]).all(-1)
            index = same.to(torch.uint8).argmax(1)
            weights[positive] = target["weights"][index]
            soft[positive] = self.contract.soft_targets(target)[index]
        labels = labels.clone()
        labels[(labels == 0) & boxes_inside(anchors, target["ignore"], self.contract.ignore_ioa)] = -1
        pairs = hard_pairs(
            box_iou(target["negatives"], anchors), self.proposal_matcher.high_threshold, positive
        )
        every_class = (target["negative_labels"] == 0) | self.single_class
        weight = negative_weight(pairs[every_class], target["negative_weights"][every_class])
        hard = weight > 0
        # Left to the sampler they would be drawn by luck; compute_loss adds them all.
        labels[pairs.any(0)] = -1
        return labels, _AnchorPlan(hard, torch.where(hard, weight, weights), torch.where(hard, 0.0, soft))

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return objectness and box loss; see torchvision."""
        plans, self._plans = self._plans, None
        if plans is None:
            return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        positives, negatives = self.fg_bg_sampler(labels)
        positive = torch.cat(positives).nonzero()[:, 0]
        negative = torch.cat(negatives).nonzero()[:, 0]
        hard = torch.cat([plan.hard for plan in plans]).nonzero()[:, 0]
        weights = torch.cat([plan.weights for plan in plans])
        soft = torch.cat([plan.soft for plan in plans])
        sampled = torch.cat([positive, negative, hard])
        count = max(1, sampled.numel())
        wanted = torch.cat(regression_targets)
        box = F.smooth_l1_loss(pred_bbox_deltas[positive], wanted[positive], beta=1 / 9, reduction="none")
        scores = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled].float(), soft[sampled], reduction="none"
        )
        return (
            (scores * weights[sampled]).sum() / count,
            (box * weights[positive][:, None]).sum() / count,
        )


@dataclass(frozen=True)
class _Samples:
    """Proposals of one image with what each teaches, all of length S."""

    boxes: Tensor
    labels: Tensor  # int64, 0 background, -1 left out
    weights: Tensor
    soft: Tensor
    ruled_out: Tensor  # bool (S, classes)
    matched_boxes: Tensor  # (S, 4)
    forced: Tensor  # bool

    def __getitem__(self, rows: Tensor) -> "_Samples":
        return _Samples(
            self.boxes[rows],
            self.labels[rows],
            self.weights[rows],
            self.soft[rows],
            self.ruled_out[rows],
            self.matched_boxes[rows],
            self.forced[rows],
        )


class PartialRoIHeads(RoIHeads):
    """torchvision's second stage, with weights, ignore regions, hard negatives, soft labels and OHEM."""

    contract: Contract
    classes: int  # background included

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Labels] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return (detections, losses); see torchvision."""
        if not self.training or targets is None or (is_plain(targets) and not self.contract.ohem):
            return super().forward(features, proposals, image_shapes, targets)
        pools = [
            self._candidates(*pair)
            for pair in zip(proposals, [complete(labels) for labels in targets], strict=True)
        ]
        ohem = self.contract.ohem
        chosen = self._hardest(features, pools, image_shapes) if ohem else self._random(pools)
        logits, deltas = self._predict(features, chosen, image_shapes)
        classifier, box = self._sample_losses(logits, deltas, chosen)
        count = max(1, len(classifier))
        return [], {"loss_classifier": classifier.sum() / count, "loss_box_reg": box.sum() / count}

    def _predict(
        self, features: dict[str, Tensor], samples: list[_Samples], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        pooled = self.box_roi_pool(features, [one.boxes for one in samples], image_shapes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas

    def _candidates(self, proposals: Tensor, target: Labels) -> _Samples:
        """Return all proposals of one image, its boxes and copies of its hard negatives behind them."""
        gt_boxes = target["boxes"].to(proposals.dtype)
        boxes = torch.cat([proposals, gt_boxes])
        matched, labels = (
            rows[0] for rows in self.assign_targets_to_proposals([boxes], [gt_boxes], [target["labels"]])
        )
        if len(target["ignore"]):
            inside = boxes_inside(boxes, target["ignore"], self.contract.ignore_ioa)
            labels[(labels == 0) & inside] = -1
        weights = torch.ones(len(boxes), device=boxes.device)
        soft, matched_boxes = weights.clone(), boxes.clone()
        rows = (labels > 0).nonzero()[:, 0]
        if len(rows):
            index = matched[rows]
            weights[rows], soft[rows] = target["weights"][index], self.contract.soft_targets(target)[index]
            matched_boxes[rows] = gt_boxes[index]
        nothing = torch.zeros_like(labels, dtype=torch.bool)
        ruled_out = nothing[:, None].expand(-1, self.classes)
        samples = _Samples(boxes, labels, weights, soft, ruled_out, matched_boxes, nothing)
        return self._with_negatives(samples, target) if len(target["negatives"]) else samples

    def _with_negatives(self, samples: _Samples, target: Labels) -> _Samples:
        """Return the samples with hard negatives marked among them, and exact and moved copies added."""
        fg_iou = self.proposal_matcher.high_threshold
        copies, owner = negative_copies(
            target, self.contract.negative_repeats, self.contract.negative_jitter, fg_iou
        )
        pairs = (box_iou(target["negatives"], samples.boxes) >= fg_iou) & (samples.labels <= 0)
        own = torch.arange(len(target["negatives"]), device=owner.device)[:, None] == owner
        pairs = torch.cat([pairs, own], dim=1)
        hard = pairs.any(0)
        ones = samples.weights.new_ones(len(copies))
        labels = torch.cat([samples.labels, samples.labels.new_zeros(len(copies))])
        weights = torch.cat([samples.weights, ones])
        copies = copies.to(samples.boxes.dtype)
        return _Samples(
            torch.cat([samples.boxes, copies]),
            labels.masked_fill(hard, 0),
            torch.where(hard, negative_weight(pairs, target["negative_weights"]), weights),
            torch.cat([samples.soft, ones]),
            forbidden_classes(target, pairs, self.classes),
            torch.cat([samples.matched_boxes, copies]),
            torch.cat([samples.forced, ones.bool()]),
        )

    def _random(self, pools: list[_Samples]) -> list[_Samples]:
        """Return upstream's random samples of each image, in its order, with every forced one added."""
        drawn = self.subsample([pool.labels.masked_fill(pool.forced, -1) for pool in pools])
        forced = [pool.forced.nonzero()[:, 0] for pool in pools]
        return [
            pool[torch.cat(rows)] for pool, rows in zip(pools, zip(drawn, forced, strict=True), strict=True)
        ]

    def _hardest(
        self, features: dict[str, Tensor], pools: list[_Samples], image_shapes: list[tuple[int, int]]
    ) -> list[_Samples]:
        """Return the samples with the largest loss of each image, overlapping ones counted once.

        Source: Shrivastava et al., CVPR 2016 (OHEM), section 4: all proposals go through the head
        without gradients, suppression at IoU 0.7 by loss, then the B hardest.
        """
        pools = [pool[pool.labels >= 0] for pool in pools]
        with torch.no_grad():
            logits, deltas = self._predict(features, pools, image_shapes)
            classifier, box = self._sample_losses(logits, deltas, pools)
        chosen = []
        losses = (classifier + box).split([len(pool.labels) for pool in pools])
        for pool, loss in zip(pools, losses, strict=True):
            apart = torch.zeros_like(pool.forced)
            apart[nms(pool.boxes.float(), loss, 0.7)] = True
            keep = hardest(loss, apart & ~pool.forced, self.fg_bg_sampler.batch_size_per_image)
            chosen.append(pool[keep | pool.forced])
        return chosen

    def _sample_losses(
        self, logits: Tensor, deltas: Tensor, samples: list[_Samples]
    ) -> tuple[Tensor, Tensor]:
        """Return weighted classification and box losses of every sample, (S,) each."""
        labels = torch.cat([one.labels for one in samples])
        weights = torch.cat([one.weights for one in samples])
        ruled_out = torch.cat([one.ruled_out for one in samples])
        classifier = soft_cross_entropy(logits, labels, torch.cat([one.soft for one in samples]))
        hard = ruled_out.any(1)
        if bool(hard.any()):
            classifier = classifier.index_put((hard,), not_these_classes(logits[hard], ruled_out[hard]))
        wanted = torch.cat(
            self.box_coder.encode([one.matched_boxes for one in samples], [one.boxes for one in samples])
        )
        rows = (labels > 0).nonzero()[:, 0]
        deltas = deltas.reshape(len(labels), deltas.shape[1] // 4, 4)
        per_row = F.smooth_l1_loss(deltas[rows, labels[rows]], wanted[rows], beta=1 / 9, reduction="none")
        box = torch.zeros_like(classifier).index_put((rows,), per_row.sum(1).to(classifier.dtype))
        return classifier * weights, box * weights
