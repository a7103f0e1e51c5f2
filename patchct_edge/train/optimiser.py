"""Optimiser, learning-rate schedule and weight averaging."""

from __future__ import annotations

import copy
import math

import torch

from patchct_edge.train.config import TrainConfig
from patchct_edge.train.model import PatchCT


def adamw(model: PatchCT, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate of its own for the encoders; vectors and scalars do not decay.

    Each group carries `peak`, its highest learning rate. A backbone rate of 0 freezes the encoders.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("image.", "labels.model."))
        peak = config.lr_backbone if encoder else config.lr_head
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


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step: a linear rise, then half a cosine down to 0."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


class Average:
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
