"""RT-DETR and RT-DETRv2 (Zhao et al., 2024; Lv et al., 2024) from transformers, an optional extra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from hem.config import suggest
from hem.detectors.backbones import set_norm
from hem.detectors.contract import Contract
from hem.detectors.protocol import Detector, as_plain, settings_of
from hem.detectors.weights import fetch, load_into
from hem.errors import HemError

_BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
_NARROW = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
# What the published models set besides transformers' defaults: the network's, the backbone's.
_PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "r18vd": ({**_NARROW, "decoder_layers": 3}, {**_BASIC, "depths": [2, 2, 2, 2]}),
    "r34vd": ({**_NARROW, "decoder_layers": 4}, {**_BASIC, "depths": [3, 4, 6, 3]}),
    "r50vd": ({}, {}),
    "r101vd": (
        {"encoder_ffn_dim": 2048, "encoder_hidden_dim": 384, "decoder_in_channels": [384, 384, 384]},
        {"depths": [3, 4, 23, 3]},
    ),
}
_FILES = {".pt", ".pth", ".ckpt", ".bin", ".tar"}


class RTDETR(Detector):
    """RT-DETR behind hem's protocol; needs ``uv sync --extra detr``.

    Args:
        class_names: names of labels 1, 2, ….
        backbone: ``r18vd``, ``r34vd``, ``r50vd`` or ``r101vd``: the published sizes.
        version: 1, or 2 for RT-DETRv2.
        weights: of the whole detector: None, a hub name (``PekingU/rtdetr_r50vd``), a folder that
            transformers' ``save_pretrained`` wrote, or a file with a state_dict.
        replace_head: see Detector.load_weights.
        network: further attributes of transformers' RTDetrConfig (or RTDetrV2Config), for networks
            of other sizes: ``{d_model: 64, decoder_layers: 2}``.
        backbone_network: the same for its RTDetrResNetConfig: ``{depths: [1, 1, 1, 1]}``.
        backbone_norm: ``frozen`` (as published; for pretrained weights) or ``batch``. None: frozen
            with weights, else batch.
        bn_momentum: of every batch-norm layer that learns; None keeps 0.1.
        size: images are resized to size x size, whatever their shape; a multiple of 32.
        queries: boxes the decoder proposes, > 0; the most that can be found in one image.
        denoising: noisy copies of the positives beside the queries in training, >= 0. More
            train sooner and cost time; 0 leaves them out.
        prior: probability of an object at every output before training, in (0, 1); None:
            1 / (classes + 1).
        image_mean, image_std: of RGB in [0, 1]. The published weights want none.
        max_detections: kept for each image.
        ignore_ioa, soft_lambda, soft_temperature, ohem, ohem_ratio, ohem_minimum: see Contract. A
            query is inside an ignore region by the box it predicts.

    Raises:
        HemError: without transformers; on a value out of range, an unknown name, or weights that
            cannot be fetched or do not fit.
    """

    family = "detr"
    alone = True  # the ends of SiLU and sigmoid round otherwise where a processor takes 16 numbers at once
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        backbone: str = "r50vd",
        version: int = 1,
        weights: str | None = None,
        replace_head: bool = False,
        network: Mapping[str, Any] | None = None,
        backbone_network: Mapping[str, Any] | None = None,
        backbone_norm: str | None = None,
        bn_momentum: float | None = None,
        size: int = 640,
        queries: int = 300,
        denoising: int = 100,
        prior: float | None = None,
        image_mean: Sequence[float] = (0.0, 0.0, 0.0),
        image_std: Sequence[float] = (1.0, 1.0, 1.0),
        max_detections: int = 300,
        ignore_ioa: float = 0.5,
        soft_lambda: float = 1.0,
        soft_temperature: float = 1.0,
        ohem: bool = False,
        ohem_ratio: float = 3.0,
        ohem_minimum: int = 32,
    ) -> None:
        settings = settings_of(locals())
        contract = Contract.of(settings)
        _check(backbone, version, backbone_norm, size, queries, denoising, prior, max_detections)
        upstream = _transformers()
        if backbone_norm is None:
            backbone_norm = settings["backbone_norm"] = "batch" if weights is None else "frozen"
        whole, body = _PUBLISHED[backbone]
        known = upstream.known_settings(version)
        own, own_body = as_plain(network or {}), as_plain(backbone_network or {})
        _refuse_unknown("network", own, known[0])
        _refuse_unknown("backbone_network", own_body, known[1])
        config = {
            **whole,
            **own,
            "num_labels": len(class_names),
            "num_queries": queries,
            "num_denoising": denoising,
            "initializer_bias_prior_prob": prior,
            "freeze_backbone_batch_norms": backbone_norm == "frozen",
            "anchor_image_size": None,
        }
        net = upstream.build_network(
            version, config, {"out_indices": [2, 3, 4], **body, **own_body}, contract
        )
        _start(net)
        set_norm(net, None, bn_momentum)
        super().__init__(net, class_names, settings)
        self.size, self.max_detections, self.floor = size, max_detections, 0.0
        self.register_buffer("mean", torch.tensor(list(image_mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(image_std)).view(3, 1, 1), persistent=False)
        if weights is not None:
            self._load(weights, replace_head, upstream)

    def _load(self, weights: str, replace_head: bool, upstream: ModuleType) -> None:
        path, version = Path(weights), self.settings["version"]
        if path.suffix in _FILES or path.is_file():
            self.load_weights(path, replace_head=replace_head)
            return
        what = f"{'folder' if path.is_dir() else 'hub model'} {weights!r} for RT-DETR v{version}"
        state = fetch(what, "detector.weights", lambda: upstream.published(weights, version))
        load_into(
            self.net,
            {"state_dict": state},
            source=weights,
            class_names=self.class_names,
            prefix="",
            replace_head=replace_head,
        )

    def losses(self, images: list[Tensor], labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """See Detector: ``loss_vfl``, ``loss_bbox`` and ``loss_giou``, with ``_aux`` and ``_dn`` sums."""
        upstream = _transformers()
        targets = [
            upstream.set_labels(one, *image.shape[1:]) for one, image in zip(labels, images, strict=True)
        ]
        found: dict[str, Tensor] = self.net(self._pixels(images), labels=targets).loss_dict
        return found

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """See Detector; the best ``max_detections`` pairs of query and class, nothing suppressed."""
        answer = self.net(self._pixels(images))
        scores = answer.logits.float().sigmoid()
        classes = scores.shape[2]
        best, index = scores.flatten(1).topk(min(self.max_detections, scores[0].numel()))
        height, width = images[0].shape[1:]
        boxes = box_convert(answer.pred_boxes.float(), "cxcywh", "xyxy").clamp(0, 1)
        boxes = boxes * boxes.new_tensor((width, height, width, height))
        found = []
        for image, (score, row) in enumerate(zip(best, index, strict=True)):
            keep = score > self.floor
            rows = row[keep]
            found.append(
                {"boxes": boxes[image, rows // classes], "scores": score[keep], "labels": rows % classes + 1}
            )
        return found

    def set_floor(self, score_threshold: float) -> None:
        """See Detector."""
        self.floor = score_threshold

    def set_limit(self, detections: int) -> None:
        """See Detector; there are never more than ``queries`` of each class."""
        self.max_detections = detections

    def _pixels(self, images: Sequence[Tensor]) -> Tensor:
        """Return (B, 3, size, size): every image resized alone, then scaled."""
        side = (self.size, self.size)
        resized = [
            image
            if image.shape[1:] == side
            else F.interpolate(image[None], side, mode="bilinear", antialias=True)[0]
            for image in images
        ]
        return (torch.stack(resized) - self.mean) / self.std


def _start(net: nn.Module) -> None:
    """Start convolutions and norms as PyTorch does.

    transformers draws both from a normal of width 0.01, norm weights too, for networks that get
    pretrained weights anyway; from scratch nothing passes through such a network.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()


def _transformers() -> ModuleType:
    """Return hem.detectors.set_prediction, which needs transformers.

    Raises:
        HemError: if it is not installed.
    """
    try:
        import transformers  # noqa: F401

        from hem.detectors import set_prediction
    except ImportError as error:
        raise HemError(
            f"detector: RT-DETR needs the package transformers ({error}); install it with "
            "`uv sync --extra detr` (or pip install 'transformers>=4.49'), or choose another detector"
        ) from None
    return set_prediction


def _check(
    backbone: str,
    version: int,
    norm: str | None,
    size: int,
    queries: int,
    denoising: int,
    prior: float | None,
    max_detections: int,
) -> None:
    if backbone not in _PUBLISHED:
        raise HemError(f"detector.backbone: unknown {backbone!r}{suggest(backbone, _PUBLISHED)}")
    if version not in (1, 2) or norm not in (None, "frozen", "batch"):
        raise HemError(
            f"detector: version must be 1 or 2 and backbone_norm frozen, batch or null, got {version}, {norm}"
        )
    if size < 64 or size % 32:
        raise HemError(f"detector.size must be a multiple of 32 from 64 on, got {size}")
    if queries < 1 or denoising < 0 or max_detections < 1:
        raise HemError(
            "detector: queries and max_detections must be >= 1 and denoising >= 0, got "
            f"{queries}, {max_detections}, {denoising}"
        )
    if prior is not None and not 0 < prior < 1:
        raise HemError(f"detector.prior must lie in (0, 1), got {prior}")


def _refuse_unknown(name: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            raise HemError(f"configuration: unknown key 'detector.{name}.{key}'{suggest(key, known)}")
