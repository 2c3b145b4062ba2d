"""EMA teacher: a slow average of the detector's weights, steadier than the current ones for mining."""

import copy
from typing import Any

import torch
from torch import nn


class EmaTeacher:
    """Exponential moving average of a network's parameters; buffers are copied.

    Args:
        network: the network to follow.
        decay: in (0, 1). Raising it averages over more steps (about 1 / (1 - decay)) and lags more.
            The first steps use min(decay, (1 + n) / (10 + n)), so a short run is not dominated by
            the initial weights.

    The idea of mining with averaged weights is the mean teacher of Tarvainen and Valpola (2017).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average one optimiser step towards ``network``, on whose device it lives from then on."""
        device = next(network.parameters()).device
        if next(self.network.parameters()).device != device:  # it was copied before the network was moved
            self.network.to(device)
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point and "running_" not in name:
                value.lerp_(current[name].to(value), 1 - decay)
            else:
                value.copy_(current[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the average and how many updates made it."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was saved."""
        self.updates = int(state["updates"])
        self.network.load_state_dict(state["network"])
