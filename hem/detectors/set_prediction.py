"""RT-DETR's matched loss for weighted and partly labelled images; the one file that imports transformers."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou, generalized_box_iou_loss
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from transformers.loss.loss_rt_detr import RTDetrLoss

from hem.detectors.contract import (
    Contract,
    Labels,
    blocked_pairs,
    boxes_inside,
    channel_weights,
    complete,
    is_plain,
)
from hem.detectors.losses import mined

QUERY_IOU = 0.5
"""A query that overlaps a hard negative this much stands for it: the Target's own conflict threshold."""

Matches = Sequence[tuple[Tensor, Tensor]]
Outputs = Mapping[str, Any]


def set_labels(labels: Labels, height: int, width: int) -> Labels:
    """Return one image's labels as transformers wants them, hem's own parts beside them.

    ``boxes`` becomes (centre x, centre y, width, height) and every region a share of the image, so
    the square that images are resized to changes neither IoU nor intersection over area.
    ``class_labels`` counts from 0; ``labels`` stays as it was.
    """
    share = labels["boxes"].new_tensor((width, height, width, height))
    boxes = box_convert(labels["boxes"] / share, "xyxy", "cxcywh")
    moved: Labels = {**labels, "boxes": boxes, "class_labels": labels["labels"] - 1}
    for name in ("negatives", "ignore"):
        if name in labels:
            moved[name] = labels[name] / share
    return moved


def hard_queries(predicted_xyxy: Tensor, target: Labels, matched: Tensor, nearest: bool) -> Tensor:
    """Return bool (M, Q): query q stands for hard negative m.

    Queries that overlap it by QUERY_IOU or more do, and, with ``nearest``, the one nearest to it by
    generalised IoU, so that every negative teaches. A query matched to a positive of the negative's
    class never does.

    Args:
        predicted_xyxy: (Q, 4), the boxes that the queries predict.
        target: complete() labels; ``negatives`` in the same unit.
        matched: int64 (Q,), index of the matched positive or negative.
        nearest: False for denoising queries, which are noisy copies of positives.
    """
    negatives = target["negatives"]
    if not len(negatives):
        return torch.zeros((0, len(matched)), dtype=torch.bool, device=matched.device)
    free = ~blocked_pairs(target, matched)
    covers = box_iou(negatives, predicted_xyxy) >= QUERY_IOU
    if nearest:
        distance = generalized_box_iou(negatives, predicted_xyxy).masked_fill(~free, -2.0)
        covers |= distance == distance.amax(1, keepdim=True)
    return covers & free


class PartialSetLoss(RTDetrLoss):
    """transformers' RT-DETR criterion with the Target contract in its two losses.

    Matching, auxiliary layers, denoising groups and normalisers stay upstream's; the normaliser
    counts positives whatever they weigh.
    """

    def __init__(self, config: Any, contract: Contract) -> None:  # noqa: ANN401
        super().__init__(config)
        self.contract = contract

    def loss_labels_vfl(
        self, outputs: Outputs, targets: list[Labels], indices: Matches, num_boxes: float, log: bool = True
    ) -> dict[str, Tensor]:
        """Return the varifocal classification loss ``loss_vfl``; see transformers."""
        if is_plain(targets) and not self.contract.ohem:
            found: dict[str, Tensor] = super().loss_labels_vfl(outputs, targets, indices, num_boxes)
            return found
        rows = zip(outputs["logits"], outputs["pred_boxes"], targets, indices, strict=True)
        denoising = "denoising" in outputs
        losses = [self._classification(*row, denoising=denoising) for row in rows]
        return {"loss_vfl": torch.stack(losses).sum() / num_boxes}

    def _classification(
        self, logits: Tensor, boxes: Tensor, labels: Labels, pairs: tuple[Tensor, Tensor], denoising: bool
    ) -> Tensor:
        """Return the summed loss of one image's queries: logits (Q, C), boxes (Q, 4)."""
        target = complete(labels)
        rows, columns = (index.to(logits.device) for index in pairs)
        matched = torch.full((len(logits),), -1, dtype=torch.int64, device=logits.device)
        matched[rows] = columns
        predicted = box_convert(boxes.detach(), "cxcywh", "xyxy")
        hard = hard_queries(predicted, target, matched, nearest=not denoising)
        ignored = boxes_inside(predicted, target["ignore"], self.contract.ignore_ioa)
        weights, own = channel_weights(target, matched, hard, ignored, logits.shape[1] + 1)
        weights, own = weights[:, 1:], own[:, 1:]  # column 0 is torchvision's background
        wanted = box_convert(target["boxes"][columns], "cxcywh", "xyxy")
        quality = torch.zeros_like(logits[:, 0])
        quality[rows] = _paired_iou(predicted[rows], wanted)
        soft = torch.ones_like(quality)
        soft[rows] = self.contract.soft_targets(target)[columns].to(soft.dtype)
        # A soft label scales what is aimed at, not what the query weighs: at 0 it turns the lesson round.
        focus = self.alpha * logits.detach().sigmoid() ** self.gamma * (1 - own) + own * quality[:, None]
        losses = F.binary_cross_entropy_with_logits(
            logits, own * (quality * soft)[:, None], weight=focus * weights, reduction="none"
        )
        if self.contract.ohem and not denoising:
            losses = mined(
                losses, weights, matched, hard, self.contract.ohem_ratio, self.contract.ohem_minimum
            )
        return losses.sum()

    def loss_boxes(
        self, outputs: Outputs, targets: list[Labels], indices: Matches, num_boxes: float
    ) -> dict[str, Tensor]:
        """Return ``loss_bbox`` and ``loss_giou`` of the matched queries; see transformers."""
        if is_plain(targets):
            found: dict[str, Tensor] = super().loss_boxes(outputs, targets, indices, num_boxes)
            return found
        queries = outputs["pred_boxes"][self._get_source_permutation_idx(indices)]
        chosen = list(zip(map(complete, targets), (columns for _, columns in indices), strict=True))
        boxes = torch.cat([target["boxes"][columns] for target, columns in chosen])
        weights = torch.cat([target["weights"][columns] for target, columns in chosen])
        corners = (box_convert(part, "cxcywh", "xyxy") for part in (queries, boxes))
        distance = (queries - boxes).abs().sum(1)
        return {
            "loss_bbox": (distance * weights).sum() / num_boxes,
            "loss_giou": (generalized_box_iou_loss(*corners) * weights).sum() / num_boxes,
        }


def _paired_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Return (P,) IoU of boxes row by row."""
    low = torch.maximum(first_xyxy[:, :2], second_xyxy[:, :2])
    high = torch.minimum(first_xyxy[:, 2:], second_xyxy[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    areas = sum((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first_xyxy, second_xyxy))
    return shared / (areas - shared)


class _PartialLoss:
    """Puts PartialSetLoss where transformers would take its own criterion."""

    criterion: PartialSetLoss

    def loss_function(
        self,
        logits: Tensor,
        labels: list[Labels],
        device: torch.device,
        pred_boxes: Tensor,
        config: Any,  # noqa: ANN401
        outputs_class: Tensor,
        outputs_coord: Tensor,
        enc_topk_logits: Tensor,
        enc_topk_bboxes: Tensor,
        denoising_meta_values: dict[str, Any] | None = None,
        **unused: object,
    ) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]]]:
        """Return (sum, losses by name, auxiliary outputs) of one forward pass; see transformers.

        The losses of all auxiliary layers are one entry each (``_aux``), those of denoising as well
        (``_dn``).
        """
        # float32: the matcher and the logarithms of the losses lose too much in half precision.
        layers, places = outputs_class.float(), outputs_coord.float()
        denoised: dict[str, Any] = {}
        if denoising_meta_values is not None:
            split = denoising_meta_values["dn_num_split"]
            dn_layers, layers = layers.split(split, dim=2)
            dn_places, places = places.split(split, dim=2)
            denoised["denoising_meta_values"] = denoising_meta_values
            denoised["dn_auxiliary_outputs"] = [
                {"logits": a, "pred_boxes": b, "denoising": True}
                for a, b in zip(dn_layers.unbind(1), dn_places.unbind(1), strict=True)
            ]
        final, *auxiliary = [
            {"logits": a, "pred_boxes": b}
            for a, b in zip(layers.flip(1).unbind(1), places.flip(1).unbind(1), strict=True)
        ]
        auxiliary = [
            *auxiliary[::-1],
            {"logits": enc_topk_logits.float(), "pred_boxes": enc_topk_bboxes.float()},
        ]
        if not all(bool(torch.isfinite(part).all()) for one in (final, *auxiliary) for part in one.values()):
            broken = layers.sum() * float("nan")  # upstream's matcher would fail without naming the batch
            return broken, {"loss_vfl": broken}, auxiliary
        losses = self.criterion({**final, "auxiliary_outputs": auxiliary, **denoised}, labels)
        summed = _by_kind(losses)
        return torch.stack(list(summed.values())).sum(), summed, auxiliary


def _by_kind(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return losses summed over layers: ``loss_vfl_aux_2`` counts as ``loss_vfl_aux``."""
    summed: dict[str, Tensor] = {}
    for name, loss in losses.items():
        kind = name.rstrip("0123456789").rstrip("_")
        summed[kind] = summed[kind] + loss if kind in summed else loss
    return summed


class PartialRTDetr(_PartialLoss, RTDetrForObjectDetection):
    """transformers' RT-DETR with hem's criterion."""


class PartialRTDetrV2(_PartialLoss, RTDetrV2ForObjectDetection):
    """transformers' RT-DETRv2 with hem's criterion."""


NETWORKS: dict[int, tuple[Any, Any]] = {
    1: (RTDetrConfig, PartialRTDetr),
    2: (RTDetrV2Config, PartialRTDetrV2),
}


def build_network(
    version: int, settings: Mapping[str, Any], backbone: Mapping[str, Any], contract: Contract
) -> Any:  # noqa: ANN401
    """Return a network from its configuration alone; nothing is fetched.

    Args:
        version: 1 or 2.
        settings: attributes of transformers' RTDetrConfig or RTDetrV2Config.
        backbone: attributes of its RTDetrResNetConfig.
        contract: how partly labelled images are taught.
    """
    kind, network = NETWORKS[version]
    config = kind(backbone_config=RTDetrResNetConfig(**backbone), **settings)
    net = network(config)
    # Not as a submodule: its buffer would be one key too many in state_dicts of plain transformers.
    object.__setattr__(net, "criterion", PartialSetLoss(config, contract))
    return net


def known_settings(version: int) -> tuple[set[str], set[str]]:
    """Return the attribute names of the network's and of the backbone's configuration."""
    whole, backbone = NETWORKS[version][0](), RTDetrResNetConfig()
    return set(whole.to_dict()) - {"backbone_config"}, set(backbone.to_dict())


def published(name: str, version: int) -> dict[str, Tensor]:
    """Return the state_dict of a published or saved network, by hub name or folder."""
    upstream = NETWORKS[version][1].__mro__[2]
    found = cast(Any, upstream).from_pretrained(name, use_safetensors=True, trust_remote_code=False)
    state: dict[str, Tensor] = found.state_dict()
    return state
