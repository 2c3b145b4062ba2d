"""What a network needs after it is built: weights, norms and frozen layers, as torchvision does it."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from hem.detectors.backbones import replace_activation, set_norm
from hem.detectors.protocol import Detector, as_plain
from hem.detectors.weights import fetch, load_into, load_matching, looks_like_path
from hem.errors import HemError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Official:
    """One of torchvision's complete models.

    Attributes:
        builder: torchvision's name of the model, which names its published weights.
        backbone: torchvision's name of the classifier its backbone comes from.
        default_trainable: stages that train when weights are given and nothing else is said.
        frozen: whether torchvision freezes batch norm when weights are given.
        zero_eps: published weights that were trained with a batch-norm epsilon of 0.
        fixed: settings of the detector that the model does not read, with what it has; None where
            that cannot be said in the setting's own terms.
    """

    builder: str
    backbone: str
    default_trainable: int = 3
    frozen: bool = True
    zero_eps: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)


def refuse_ignored(kind: type[Detector], settings: Mapping[str, Any], official: Official) -> None:
    """Refuse values that the official model would not take: neither what it has nor the default.

    Args:
        kind: the detector's class, whose constructor has the defaults.
        settings: all arguments of that constructor.
        official: the model; its ``fixed`` is looked at.

    Raises:
        HemError: naming the key, what the model has, and the way out.
    """
    defaults = inspect.signature(kind).parameters
    for key, own in official.fixed.items():
        value = as_plain(settings[key])
        if value in (as_plain(own), as_plain(defaults[key].default)):
            continue
        has = "its own" if own is None else as_plain(own)
        raise HemError(
            f"detector.{key}={value}: backbone {settings['backbone']} is a complete network, which has {has} "
            f"and reads no detector.{key}; leave it out, or take a pyramid that hem builds, "
            f"detector.backbone=torchvision:{official.backbone} with detector.weights=null"
        )


def finish(
    detector: Detector,
    official: Official | None,
    body: nn.Module | None = None,
    stages: Sequence[Sequence[nn.Module]] = (),
) -> None:
    """Load the weights that ``detector.settings`` name and freeze what they say.

    Args:
        detector: freshly built, without weights.
        official: None for a network that hem assembled (its backbone is finished already).
        body: the official model's backbone body.
        stages: the body's layers from first to last, in the groups that torchvision counts.

    Raises:
        HemError: if weights are unknown, cannot be fetched or do not fit.
    """
    settings = detector.settings
    if official is not None and body is not None:
        _backbone(detector, official, body)
    weights, replace_head = settings["weights"], settings["replace_head"]
    if weights is not None and looks_like_path(weights):
        detector.load_weights(weights, replace_head=replace_head)
    elif weights is not None:
        if official is None:
            raise HemError(
                f"detector.weights: nothing is published under {weights!r} for {settings['backbone']}; give "
                "the path of a file, null, or backbone_weights for the backbone alone"
            )
        state = fetch(
            f"torchvision weights {weights!r} of {official.builder}",
            "detector.weights",
            lambda: get_model_weights(official.builder)[weights].get_state_dict(
                progress=False, check_hash=True
            ),
        )
        load_into(
            detector.net,
            {"state_dict": state},
            source=weights,
            class_names=detector.class_names,
            replace_head=replace_head,
        )
    if official is not None and body is not None:
        _freeze(detector, official, body, stages)
    elif settings.get("frozen_eps") is not None:
        _refuse_eps(settings)


def _refuse_eps(settings: Mapping[str, Any]) -> None:
    raise HemError(
        f"detector.frozen_eps={settings['frozen_eps']}: backbone {settings['backbone']} has no batch norm "
        "that reads it, only torchvision's complete networks do, frozen (given weights, or "
        "backbone_norm=frozen); leave it out"
    )


def _backbone(detector: Detector, official: Official, body: nn.Module) -> None:
    settings = detector.settings
    source = settings["backbone_weights"]
    if source is not None and looks_like_path(source):
        matched, without, left = load_matching(body, Path(source), settings.get("backbone_weights_prefix"))
        _LOG.info(
            "%s: %d tensors of the backbone matched, %d not matched, %d of the file unused",
            source, matched, without, left,
        )  # fmt: skip
    elif source is not None:
        state = fetch(
            f"torchvision weights {source!r} of {official.backbone}",
            "detector.backbone_weights",
            lambda: get_model_weights(official.backbone)[source].get_state_dict(
                progress=False, check_hash=True
            ),
        )
        _load_published(body, state, source, official)
    if settings.get("backbone_activation") is not None:
        replace_activation(body, settings["backbone_activation"])


def _load_published(body: nn.Module, state: Mapping[str, Tensor], source: str, official: Official) -> None:
    own = body.state_dict()
    if not any(name in own for name in state):
        state = {name.removeprefix("features."): value for name, value in state.items()}
    # VGG16's feature-only weights fill its classifier with NaN.
    state = {name: value for name, value in state.items() if bool(torch.isfinite(value).all())}
    try:
        missing, _ = body.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise HemError(
            f"detector.backbone_weights: {source!r} of {official.backbone} does not fit "
            f"({str(error).splitlines()[-1].strip()}); for SSDLite set detector.reduced_tail=false"
        ) from None
    if 2 * len(missing) > len(own):
        raise HemError(f"detector.backbone_weights: {source!r} does not fit {official.backbone}")


def _freeze(
    detector: Detector, official: Official, body: nn.Module, stages: Sequence[Sequence[nn.Module]]
) -> None:
    """Freeze as torchvision does where weights were given; what was decided goes into the settings.

    So a checkpoint rebuilt without naming those weights is the same network.
    """
    settings = detector.settings
    norm, momentum = settings.get("backbone_norm"), settings.get("bn_momentum")
    trained = settings["weights"] is not None or settings["backbone_weights"] is not None
    if trained and norm is None and official.frozen:
        norm = settings["backbone_norm"] = "frozen"
    if trained and settings["trainable_layers"] is None:
        settings["trainable_layers"] = official.default_trainable
    if settings["weights"] in official.zero_eps and settings["frozen_eps"] is None:
        settings["frozen_eps"] = 0.0
    set_norm(body, norm, momentum)
    if settings.get("frozen_eps") is not None:
        frozen = [layer for layer in body.modules() if isinstance(layer, FrozenBatchNorm2d)]
        if not frozen:
            _refuse_eps(settings)
        for layer in frozen:
            layer.eps = settings["frozen_eps"]
    count = settings["trainable_layers"]
    if count is None:
        return
    if not 0 <= count <= len(stages):
        raise HemError(f"detector.trainable_layers must lie in 0..{len(stages)} here, got {count}")
    for stage in stages[: len(stages) - count]:
        for layer in stage:
            layer.requires_grad_(False)


def resnet_stages(body: nn.Module) -> list[list[nn.Module]]:
    """Return a ResNet body's five stages: stem, layer1 … layer4."""
    parts = dict(body.named_children())
    stem = [part for name, part in parts.items() if not name.startswith("layer")]
    return [stem, *([parts[f"layer{index}"]] for index in range(1, 5))]


def chain_stages(body: nn.Module, starts: Sequence[int]) -> list[list[nn.Module]]:
    """Return the children of ``body`` in groups that begin at ``starts`` (ascending, first 0)."""
    parts = list(body.children())
    return [parts[start:end] for start, end in zip(starts, [*starts[1:], len(parts)], strict=True)]


def mobilenet_stages(body: nn.Module) -> list[list[nn.Module]]:
    """Return a MobileNetV3 body's stages: they begin where the stride grows, and at the last block."""
    parts = list(body.children())
    strided = [index for index, part in enumerate(parts) if getattr(part, "_is_cn", False)]
    return chain_stages(body, [0, *strided, len(parts) - 1])
