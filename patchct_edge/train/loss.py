"""Asymmetric loss for multi-label classification (arXiv 2009.14119)."""

from __future__ import annotations

import math

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
    """Return the sum over labels, mean over images, of the focal terms of the paper.

    They are its equations (6) and (7).

    Args:
        logits: float (B, M).
        targets: bool (B, M).
        ignored: bool (B, M), cells that contribute nothing (difficult labels).
        gamma_positive, gamma_negative: focus on hard positives and negatives, >= 0.
        clip: probability margin, 0 <= clip < 1; negatives below it count as solved.
    """
    p = torch.sigmoid(logits)
    # 0 to a power below 1 has an infinite slope: hence 1e-8 in place of 0.
    positive = (1 - p).clamp(min=1e-8).pow(gamma_positive) * F.logsigmoid(logits)
    # log(1 - shifted p) is log(1 - p + clip), at most 0; from the logit, because p may round to 1.
    margin = logits.new_tensor(math.log(clip) if clip else -math.inf)
    log_rejected = torch.logaddexp(F.logsigmoid(-logits), margin).clamp(max=0)
    negative = (p - clip).clamp(min=1e-8).pow(gamma_negative) * log_rejected
    cells = torch.where(targets, positive, negative).masked_fill(ignored, 0)
    return -cells.sum(1).mean()
