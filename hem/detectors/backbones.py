"""Any timm or torchvision classification network as the feature pyramid of a detector."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from hem.detectors.weights import fetch, load_matching, looks_like_path
from hem.errors import HemError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneSpec:
    """A feature pyramid by name.

    Attributes:
        name: a torchvision or timm classification network (``shufflenet_v2_x1_0``, ``resnet18``,
            ``mobilenetv3_small_100`` …); torchvision's where both have it, unless written
            ``timm:resnet18``.
        weights: None (from scratch), the name of published weights (``DEFAULT``,
            ``IMAGENET1K_V1``; for timm its pretrained tag or ``DEFAULT``), or a local file whose
            tensors are matched by name and shape.
        weights_prefix: what precedes the backbone's names in that file; None finds it.
        activation: None, or what replaces ReLU: ``leaky_relu_0.1`` (any slope), ``silu``,
            ``hardswish``. For weights that were trained with another activation.
        norm: None (as built), ``frozen`` (batch-norm statistics and scales fixed; with pretrained
            weights and small batches) or ``group`` (GroupNorm; from scratch with small batches).
        bn_momentum: None, or the momentum of every batch-norm layer. torchvision's
            MobileNetV3 has 0.01, which needs thousands of steps before evaluation agrees with
            training; 0.1 needs dozens.
        strides: levels taken from the network, each a power of two, ascending.
        extra_levels: coarser levels made by the pyramid itself: ``pool`` (one, by subsampling),
            ``p6p7`` (two, by convolutions) or ``none``.
        channels: of every pyramid level, > 0.
        trainable_layers: None (all), or how many of the network's last levels train (0 = none).
    """

    name: str
    weights: str | None = None
    weights_prefix: str | None = None
    activation: str | None = None
    norm: str | None = None
    bn_momentum: float | None = None
    strides: Sequence[int] = (4, 8, 16, 32)
    extra_levels: str = "pool"
    channels: int = 256
    trainable_layers: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "BackboneSpec":
        """Return the pyramid that a detector's settings ask for."""
        return cls(
            settings["backbone"],
            **{
                name: settings[f"backbone_{name}"]
                for name in ("weights", "weights_prefix", "activation", "norm")
            },
            **{
                name: settings[name]
                for name in ("bn_momentum", "strides", "extra_levels", "trainable_layers")
            },
            channels=settings["fpn_channels"],
        )


class Pyramid(nn.Module):
    """A network's body with a feature pyramid: (B, 3, H, W) -> levels ``0``, ``1``, … in order of stride.

    Attributes:
        body: gives one map for each stride of the spec.
        fpn: torchvision's FeaturePyramidNetwork.
        out_channels: channels of every level.
        levels: number of levels, the extra ones included.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.body, widths = build_body(spec)
        channels, extra = spec.channels, None
        if spec.extra_levels == "pool":
            extra = LastLevelMaxPool()
        elif spec.extra_levels == "p6p7":
            extra = LastLevelP6P7(channels, channels)
        elif spec.extra_levels != "none":
            raise HemError(f"detector.extra_levels: {spec.extra_levels!r} is none of pool, p6p7, none")
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=extra)
        self.out_channels = channels
        self.levels = len(widths) + {"pool": 1, "p6p7": 2, "none": 0}[spec.extra_levels]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the pyramid levels of a normalised batch."""
        maps = self.body(images)
        named = OrderedDict((str(index), level) for index, level in enumerate(maps))
        levels: OrderedDict[str, Tensor] = self.fpn(named)
        return levels


class _Chain(nn.Module):
    """The leading children of a torchvision network, in order, giving the maps after chosen ones."""

    def __init__(self, parts: Sequence[tuple[str, nn.Module]], taken: Sequence[int]) -> None:
        super().__init__()
        self.parts = [name for name, _ in parts]
        for name, part in parts:
            self.add_module(name, part)
        self.taken = list(taken)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, name in enumerate(self.parts):
            x = getattr(self, name)(x)
            if index in self.taken:
                maps.append(x)
        return maps


def build_body(spec: BackboneSpec) -> tuple[nn.Module, list[int]]:
    """Return the network that gives one map for each stride of ``spec``, and the maps' channels.

    Raises:
        HemError: if the name is unknown, the network has no such strides, or weights do not fit.
    """
    origin, _, bare = spec.name.rpartition(":")
    if origin not in ("", "timm", "torchvision"):
        raise HemError(f"detector.backbone: {spec.name!r}: write timm:NAME, torchvision:NAME or NAME")
    in_torchvision = bare in torchvision.models.list_models(module=torchvision.models)
    if origin != "timm" and in_torchvision:
        body, widths = _torchvision_body(bare, spec)
    elif origin != "torchvision" and timm.is_model(bare):
        body, widths = _timm_body(bare, spec)
    else:
        raise HemError(
            f"detector.backbone: {spec.name!r} is no network of torchvision {torchvision.__version__} or "
            f"timm {timm.__version__}; see torchvision.models.list_models() and timm.list_models()"
        )
    if spec.weights is not None and looks_like_path(spec.weights):
        matched, without, left = load_matching(body, Path(spec.weights), spec.weights_prefix)
        _LOG.info(
            "%s: %d tensors of the backbone matched, %d not matched, %d of the file unused",
            spec.weights, matched, without, left,
        )  # fmt: skip
    if spec.activation is not None:
        replace_activation(body, spec.activation)
    body = set_norm(body, spec.norm, spec.bn_momentum)
    freeze_stages(body, spec.trainable_layers)
    return body, widths


def _timm_body(name: str, spec: BackboneSpec) -> tuple[nn.Module, list[int]]:
    published = spec.weights if spec.weights and not looks_like_path(spec.weights) else None
    full = name if published in (None, "DEFAULT") else f"{name}.{published}"
    probe: Any = timm.create_model(name, features_only=True, pretrained=False)
    strides = list(probe.feature_info.reduction())
    indices = [_level(strides, stride, name) for stride in spec.strides]
    build = partial(timm.create_model, full, features_only=True, out_indices=tuple(indices))
    body: Any
    if published is None:
        body = build(pretrained=False)
    else:
        body = fetch(f"timm weights {full}", "detector.backbone_weights", lambda: build(pretrained=True))
    return body, list(body.feature_info.channels())


def _torchvision_body(name: str, spec: BackboneSpec) -> tuple[nn.Module, list[int]]:
    net = torchvision.models.get_model(name, weights=None)
    if spec.weights is not None and not looks_like_path(spec.weights):
        key = "detector.backbone_weights"
        enum = torchvision.models.get_model_weights(name)
        state = fetch(
            f"torchvision weights {spec.weights!r} of {name}",
            key,
            lambda: enum[spec.weights].get_state_dict(progress=False, check_hash=True),
        )
        net.load_state_dict(state)
    parts = list(_parts(net))
    shapes = _shapes([part for _, part in parts], name)
    reached = [64 // height for _, height in shapes]
    taken = [_level(reached, stride, name) for stride in spec.strides]
    return _Chain(parts[: max(taken) + 1], taken), [shapes[index][0] for index in taken]


def _parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the convolutional children of a torchvision classifier in the order they run."""
    children = dict(net.named_children())
    if "features" in children:
        yield from children["features"].named_children()
        return
    for name, child in children.items():
        if name == "trunk_output":  # RegNet
            yield from child.named_children()
        # ShuffleNet's conv5 only widens the last stage for the classifier.
        elif name not in ("avgpool", "fc", "classifier", "head", "heads", "dropout", "conv5"):
            yield name, child


@torch.no_grad()
def _shapes(parts: Sequence[nn.Module], name: str) -> list[tuple[int, int]]:
    """Return (channels, height) after each part for an input of 64 x 64."""
    x, shapes = torch.zeros(1, 3, 64, 64), []
    modes = [(module, module.training) for part in parts for module in part.modules()]
    try:
        for part in parts:
            part.eval()
            x = part(x)
            if x.ndim != 4 or x.shape[2] != x.shape[3]:
                raise RuntimeError(f"gives {tuple(x.shape)}")
            shapes.append((int(x.shape[1]), int(x.shape[2])))
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
        raise HemError(
            f"detector.backbone: torchvision's {name} is no plain chain of convolutions "
            f"({str(error).splitlines()[0]}); try timm:{name} or another network"
        ) from None
    for module, mode in modes:
        module.training = mode
    return shapes


def _level(strides: Sequence[int], wanted: int, name: str) -> int:
    """Return the last position that has the wanted stride."""
    positions = [index for index, stride in enumerate(strides) if stride == wanted]
    if not positions:
        raise HemError(
            f"detector.strides: {name} has no features of stride {wanted}, only {sorted(set(strides))}"
        )
    return positions[-1]


def level_sizes(sizes: Sequence[int] | None, spec: BackboneSpec, levels: int) -> list[int]:
    """Return one anchor size for each pyramid level; by default 4 x its stride.

    Raises:
        HemError: if sizes were given for another number of levels.
    """
    if sizes is None:
        coarser = [spec.strides[-1] * 2 ** (step + 1) for step in range(levels - len(spec.strides))]
        return [4 * stride for stride in (*spec.strides, *coarser)]
    if len(sizes) != levels:
        raise HemError(
            f"detector.anchor_sizes: {len(sizes)} sizes for {levels} levels (strides {list(spec.strides)}, "
            f"extra_levels={spec.extra_levels})"
        )
    return list(sizes)


def replace_activation(module: nn.Module, name: str) -> None:
    """Replace every ReLU by the named activation, in place (see BackboneSpec.activation)."""
    kinds = {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish}
    make: Any = kinds.get(name)
    if make is None and name.startswith("leaky_relu_"):
        try:
            make = partial(nn.LeakyReLU, float(name.removeprefix("leaky_relu_")))
        except ValueError:
            make = None
    if make is None:
        raise HemError(
            f"detector.backbone_activation: {name!r} is none of leaky_relu_<slope>, silu, hardswish, relu"
        )
    for parent in list(module.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, key, make(inplace=True))


def set_norm(module: nn.Module, norm: str | None, momentum: float | None) -> nn.Module:
    """Return ``module`` with batch-norm layers frozen, replaced or given a momentum (see BackboneSpec)."""
    if norm == "frozen":
        module = freeze_batch_norm_2d(module)
    elif norm == "group":
        _to_group_norm(module)
    elif norm not in (None, "batch"):
        raise HemError(f"detector.backbone_norm: {norm!r} is none of batch, frozen, group")
    if momentum is not None:
        if not 0 < momentum <= 1:
            raise HemError(f"detector.bn_momentum must lie in (0, 1], got {momentum}")
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = momentum
    return module


def _to_group_norm(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | BatchNormAct2d | FrozenBatchNorm2d):
                replacement: nn.Module = group_norm(child.weight.shape[0])
                if isinstance(child, BatchNormAct2d):
                    replacement = nn.Sequential(replacement, child.drop, child.act)
                setattr(parent, key, replacement)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of at most 32 groups, of at least two channels where the width allows."""
    groups = next(g for g in range(min(32, max(1, channels // 2)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def freeze_stages(body: nn.Module, trainable_layers: int | None) -> None:
    """Fix all but the last ``trainable_layers`` levels of a body; None trains all.

    Raises:
        HemError: if the number is negative.
    """
    if trainable_layers is None:
        return
    if trainable_layers < 0:
        raise HemError(f"detector.trainable_layers must be >= 0, got {trainable_layers}")
    parts = list(body.children())
    if isinstance(body, _Chain):
        ends = [index + 1 for index in body.taken]
        boundary = [0, *ends]
        first = boundary[max(0, len(ends) - trainable_layers)]
    else:
        first = max(0, len(parts) - trainable_layers)
    for part in parts[:first]:
        part.requires_grad_(False)
