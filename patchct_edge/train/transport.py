"""Conditional transport between the patches and the labels of an image, in PyTorch.

Equations of PatchCT (arXiv 2307.09066); general conditional transport: arXiv 2012.14100.
`patchct_edge.navigators` computes (3), (4), (6) and (8) in NumPy, under the same numbers.

    (1) similarity           s_nm = <e_n, l_m>
    (2) transport cost       k_nm = 1 - s_nm
    (3) forward navigator    F(m|n) = q_m exp(s_nm/tau) / sum_m' q_m' exp(s_nm'/tau)
    (4) backward navigator   B(n|m) = p_n exp(s_nm/tau) / sum_n' p_n' exp(s_n'm/tau)
    (5) CT cost              wf sum_n p_n sum_m F(m|n) k_nm + wb sum_m q_m sum_n B(n|m) k_nm
    (6) navigator score      r_m = sum_n B(n|m) s_nm
    (7) logit                z_m = a <c, l_m> + g r_m + b
    (8) label weights        q_m = score_m / sum_m' score_m'     for maps, if labels are unknown

e_n are patch embeddings, l_m label prototypes, c the image embedding, all L2-normalized. p is
uniform over patches (p_n = 1/N, which cancels in (4)); in training, q is uniform over the labels
that the image has.

Shapes: B images, M labels, N patches, d dimensions. Arrays of s have the label before the patch,
(B, M, N), as the engine returns them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def similarity(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Return s of eq. (1), (B, M, N), of patches (B, N, d) and prototypes (M, d), normalized."""
    return prototypes @ patches.transpose(1, 2)  # (B, M, N)


def navigator_score(s: Tensor, tau: Tensor) -> Tensor:
    """Return r of eq. (6), (B, M), of s (B, M, N)."""
    return (torch.softmax(s / tau, dim=2) * s).sum(2)


def ct_cost(
    s: Tensor, tau: Tensor, targets: Tensor, forward_weight: float, backward_weight: float
) -> Tensor:
    """Return the mean of eq. (5) over the images that have a label, a scalar; 0 without any.

    Args:
        s: similarity, float (B, M, N).
        tau: temperature, > 0; it gets no gradient, because this cost alone would drive it to 0.
        targets: bool (B, M), the labels of each image.
        forward_weight, backward_weight: wf and wb, >= 0.
    """
    tau = tau.detach()
    has_label = targets.any(1)  # (B,)
    # A fully masked softmax has NaN gradients: images without labels get a dummy q and weight 0.
    transported = targets | ~has_label[:, None]  # (B, M)
    q = transported.to(s.dtype) / transported.sum(1, keepdim=True)  # (B, M)
    cost = 1 - s  # (B, M, N), eq. (2)
    masked = (s / tau).masked_fill(~transported[:, :, None], float("-inf"))
    forward = (torch.softmax(masked, dim=1) * cost).sum(1).mean(1)  # (B,), eq. (3)
    backward = ((torch.softmax(s / tau, dim=2) * cost).sum(2) * q).sum(1)  # (B,), eq. (4)
    per_image = forward_weight * forward + backward_weight * backward
    return (per_image * has_label).sum() / has_label.sum().clamp(min=1)
