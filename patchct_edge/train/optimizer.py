"""Optimiser, learning-rate schedule and weight averaging."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence

import torch

from patchct_edge.train.config import TrainConfig
from patchct_edge.train.model import PatchCT


def adamw(model: PatchCT, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate of its own for the encoders; vectors and scalars do not decay.

    Each group carries `peak`, its highest learning rate. A backbone rate of 0 freezes the encoders.
    """
    factors = layer_factors(
        [name for name, _ in model.image.named_parameters()], config.layer_decay
    )
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("image.", "labels.model."))
        peak = config.lr_backbone if encoder else config.lr_head
        peak *= factors.get(name.removeprefix("image."), 1.0)
        if peak == 0:
            parameter.requires_grad_(False)
            continue
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": params, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), params in groups.items()
        ]
    )


def layer_factors(names: Sequence[str], decay: float) -> dict[str, float]:
    """Share of the backbone rate for each parameter of an image encoder, in the model's order.

    1 after the last layer, `decay` in it, and less by `decay` with each layer towards the input
    (layer-wise decay, arXiv 2106.08254, section 3): what a pretrained encoder sees first
    generalises best, and a small data set would spoil it.
    """
    found = [re.search(r"\b(?:layers?|stages)\.(\d+)\.", name) for name in names]
    layers = [None if match is None else int(match[1]) for match in found]
    top = max((layer + 2 for layer in layers if layer is not None), default=0)
    level = 0  # what comes before the first layer embeds
    factors = {}
    for name, layer in zip(names, layers, strict=True):
        if layer is not None:
            level = layer + 1
        elif level > 0:
            level = top
        factors[name] = decay ** (top - level)
    return factors


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step: a linear rise, then half a cosine down to 0."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def set_learning_rates(
    optimiser: torch.optim.Optimizer, step: int, steps: int, warmup: float
) -> None:
    """Give every group its peak rate times the factor of this step."""
    factor = learning_rate_factor(step, steps, warmup)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


class EMA:
    """Exponential moving average of a model's parameters; its buffers follow as they are.

    The decay grows with the number of updates, min(decay, (1 + t) / (10 + t)), so that a short run
    does not average in its random start.
    """

    def __init__(self, model: PatchCT, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: PatchCT) -> None:
        """Move the average towards the model's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(
            list(self.model.parameters()),
            [parameter.detach() for parameter in model.parameters()],
            1 - decay,
        )
        for mine, current in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(current)  # such as the running statistics of a batch norm
        self.updates += 1
