"""Conditional transport between an image's patches and its labels, in PyTorch.

Equations of PatchCT (arXiv 2307.09066); general conditional transport: arXiv 2012.14100.
Shapes: B images, M labels, N patches, d dimensions; embeddings are L2-normalised.

    (1) similarity           s_mn = <l_m, e_n>
    (2) transport cost       k_mn = 1 - s_mn
    (3) forward navigator    F(m|n) = q_m exp(s_mn/tau) / sum_m' q_m' exp(s_m'n/tau)
    (4) backward navigator   B(n|m) = p_n exp(s_mn/tau) / sum_n' p_n' exp(s_mn'/tau)
    (5) CT cost              wf sum_n p_n sum_m F(m|n) k_mn + wb sum_m q_m sum_n B(n|m) k_mn
    (6) logit                z_m = a <c, l_m> + g sum_n B(n|m) s_mn + b

p is uniform over patches (p_n = 1/N, which cancels in (4)); in training q is uniform over the
labels that the image has.
"""

from __future__ import annotations

import torch
from torch import Tensor


def similarity(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Eq. (1): patches (B, N, d) and prototypes (M, d), both normalised, to s (B, M, N)."""
    return prototypes @ patches.transpose(1, 2)  # (B, M, N)


def navigator_score(s: Tensor, tau: Tensor) -> Tensor:
    """Second term of eq. (6) without g: sum_n B(n|m) s_mn, of s (B, M, N), to (B, M)."""
    return (torch.softmax(s / tau, dim=2) * s).sum(2)


def ct_cost(
    s: Tensor, tau: Tensor, targets: Tensor, forward_weight: float, backward_weight: float
) -> Tensor:
    """Eq. (5), the mean over the images that have a label; 0 when no image has one.

    Args:
        s: similarity (B, M, N), float.
        tau: temperature, > 0; its gradient is cut, since this cost alone would drive it to 0.
        targets: bool (B, M), the labels each image has.
        forward_weight, backward_weight: wf and wb, >= 0.
    """
    tau = tau.detach()
    labelled = targets.any(1)  # (B,)
    # A fully masked softmax has NaN gradients: an image without labels gets a dummy q, weight 0.
    held = targets | ~labelled[:, None]  # (B, M)
    q = held.to(s.dtype) / held.sum(1, keepdim=True)  # (B, M)
    cost = 1 - s  # (B, M, N), eq. (2)
    masked = (s / tau).masked_fill(~held[:, :, None], float("-inf"))
    forward = (torch.softmax(masked, dim=1) * cost).sum(1).mean(1)  # (B,), eq. (3)
    backward = ((torch.softmax(s / tau, dim=2) * cost).sum(2) * q).sum(1)  # (B,), eq. (4)
    per_image = forward_weight * forward + backward_weight * backward
    return (per_image * labelled).sum() / labelled.sum().clamp(min=1)
