"""The optimizer, the learning-rate schedule and the averaged weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence

import torch

from patchct_edge.train.config import TrainConfig
from patchct_edge.train.model import PatchCT


def create_optimizer(model: PatchCT, config: TrainConfig) -> torch.optim.AdamW:
    """Create AdamW with a separate learning rate for the encoders; only matrices decay.

    Every parameter group has a key `peak`, its highest learning rate. A backbone rate of 0 freezes
    the encoders.
    """
    factors = compute_layer_factors(
        [name for name, _ in model.image.named_parameters()], config.layer_decay
    )
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_encoder = name.startswith(("image.", "labels.model."))
        peak = config.lr_backbone if in_encoder else config.lr_head
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


def compute_layer_factors(names: Sequence[str], decay: float) -> dict[str, float]:
    """Return the factor of the backbone learning rate for each parameter of an image encoder.

    The factor is 1 after the last layer, `decay` in it, and falls by `decay` with each layer
    towards the input (layer-wise decay, arXiv 2106.08254, section 3): the first layers of a
    pretrained encoder generalize best, and a small dataset would spoil them.

    Args:
        names: the names of all parameters, in the order of the model.
        decay: 0..1.
    """
    matches = [re.search(r"\b(?:layers?|stages)\.(\d+)\.", name) for name in names]
    layers = [None if match is None else int(match[1]) for match in matches]
    top = max((layer + 2 for layer in layers if layer is not None), default=0)
    level = 0  # parameters before the first layer are those of the embedding
    factors = {}
    for name, layer in zip(names, layers, strict=True):
        if layer is not None:
            level = layer + 1
        elif level > 0:
            level = top
        factors[name] = decay ** (top - level)
    return factors


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the peak rate at a step: a linear rise, then half a cosine to 0.

    `warmup` is the fraction of the steps, 0..1, in which it rises.
    """
    rise_steps = max(1.0, warmup * steps)
    if step < rise_steps:
        return (step + 1) / (rise_steps + 1)
    fall_steps = max(1.0, steps - rise_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - rise_steps) / fall_steps))


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, steps: int, warmup: float
) -> None:
    """Set the learning rate of every group: its peak rate times the factor of this step."""
    factor = learning_rate_factor(step, steps, warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class EMA:
    """Exponential moving average of a model's parameters; buffers are copied.

    The decay grows with the number t of updates, min(decay, (1 + t) / (10 + t)), so that a short
    run does not average in its random start.
    """

    def __init__(self, model: PatchCT, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: PatchCT) -> None:
        """Move the average towards the current weights of `model`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(
            list(self.model.parameters()),
            [parameter.detach() for parameter in model.parameters()],
            1 - decay,
        )
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)  # such as the running statistics of a batch norm
        self.updates += 1
