"""Asymmetric loss for multi-label classification (arXiv 2009.14119)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    ignored: Tensor,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    clip: float = 0.05,
) -> Tensor:
    """Sum over labels, mean over images, of the focal terms of arXiv 2009.14119, eq. (6) and (7).

    Args:
        logits: float (B, M).
        targets: bool (B, M).
        ignored: bool (B, M), cells that contribute nothing (difficult labels).
        clip: probability margin; negatives below it are given up as solved, 0 <= clip < 1.
    """
    p = torch.sigmoid(logits)
    shifted = (p - clip).clamp(min=0)
    positive = (1 - p).pow(gamma_positive) * F.logsigmoid(logits)
    # Beyond 1 - 1e-6 the logarithm would be infinite in float32.
    negative = shifted.pow(gamma_negative) * torch.log1p(-shifted.clamp(max=1 - 1e-6))
    cells = torch.where(targets, positive, negative).masked_fill(ignored, 0)
    return -cells.sum(1).mean()
