"""Optimiser and learning-rate schedule from their settings."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from hem.config import OptimConfig


def make_optimizer(network: nn.Module, settings: OptimConfig) -> Optimizer:
    """Return an optimiser over the parameters that can learn.

    Norms and biases get no weight decay; parameters under a ``backbone`` get their own rate. The
    groups hold frozen parameters too, so that a freeze schedule may free them later.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        in_backbone = ".backbone." in f".{name}."
        groups.setdefault((in_backbone, parameter.ndim > 1), []).append(parameter)
    chosen = [
        {
            "params": parameters,
            "lr": settings.lr * (settings.backbone_lr_scale if in_backbone else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(chosen, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(chosen, lr=settings.lr)


def lr_scale(settings: OptimConfig, steps: int) -> Callable[[int], float]:
    """Return the factor on the learning rate at each optimiser step 0..steps-1."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return 1.0
        done = (step - warmup) / max(steps - warmup, 1)
        if settings.schedule == "step":
            return float(0.1 ** sum(done >= milestone for milestone in settings.step_milestones))
        low = settings.final_lr_scale
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return scale
