"""The navigators of PatchCT (arXiv 2307.09066), from an engine's similarities, in NumPy.

M labels, N patches, s_nm the cosine of patch n and label m, tau the temperature, q the distribution
of the labels and p that of the patches. The numbers are those of `patchct_edge.train.transport`,
which lists all equations:

    (3) forward navigator    F(m|n) = q_m exp(s_nm/tau) / sum_m' q_m' exp(s_nm'/tau)
    (4) backward navigator   B(n|m) = p_n exp(s_nm/tau) / sum_n' p_n' exp(s_n'm/tau)
    (6) navigator score      r_m = sum_n B(n|m) s_nm
    (8) label weights        q_m = score_m / sum_m' score_m'     for maps, if labels are unknown

Arrays have the label before the patch, (..., M, N), as an engine returns its `similarity`, and keep
its dtype.
"""

from __future__ import annotations

import numpy as np

from patchct_edge.arrays import Floats


def forward(similarity: Floats, tau: float, q: Floats) -> Floats:
    """Return F of equation (3), (..., M, N), which sums to 1 over the labels of every patch.

    Args:
        similarity: float (..., M, N), -1..1.
        tau: temperature, above 0.
        q: weights of the labels, float (..., M); they need not sum to 1 and some may be 0.

    Raises:
        ValueError: tau is not positive, a weight is negative, or all weights of an image are 0.
    """
    return _navigator(similarity, tau, q[..., :, None], axis=-2)


def backward(similarity: Floats, tau: float, p: Floats | None = None) -> Floats:
    """Return B of equation (4), (..., M, N), which sums to 1 over the patches of every label.

    `p` holds the weights of the patches, float (..., N), uniform by default. The other arguments
    and the errors are those of `forward`.
    """
    if p is None:
        p = np.ones(similarity.shape[-1])
    return _navigator(similarity, tau, p[..., None, :], axis=-1)


def navigator_score(similarity: Floats, tau: float) -> Floats:
    """Return the score of equation (6), (..., M), -1..1, with B of uniform patches.

    It lies between the mean and the maximum of a label's similarities: a large tau gives the mean,
    a small one the maximum.
    """
    score: Floats = (backward(similarity, tau) * similarity).sum(axis=-1)
    return score


def label_weights(scores: Floats) -> Floats:
    """Return q of equation (8), (..., M), which sums to 1, from scores (..., M), 0..1.

    Raises:
        ValueError: a score is negative, or all scores of an image are 0.
    """
    _check_weights(scores, axis=-1)
    weights: Floats = scores / scores.sum(axis=-1, keepdims=True)
    return weights


def _navigator(similarity: Floats, tau: float, weights: Floats, axis: int) -> Floats:
    """Return the softmax of similarity / tau + log weights over `axis`."""
    if not tau > 0:
        raise ValueError(f"tau is {tau}, expected a positive number")
    _check_weights(weights, axis)
    tau = float(tau)  # a NumPy scalar would widen float32
    with np.errstate(divide="ignore"):  # log 0 is -inf: a weight of 0 stays 0
        log_weights = np.log(weights).astype(similarity.dtype)
    # Weights are added before the maximum is subtracted: if the largest similarity has weight 0,
    # all others would underflow.
    scaled = similarity + tau * log_weights
    exponentials = np.exp((scaled - scaled.max(axis=axis, keepdims=True)) / tau)
    navigator: Floats = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return navigator


def _check_weights(weights: Floats, axis: int) -> None:
    if not (weights >= 0).all():
        raise ValueError("the weights of a distribution must not be negative or NaN")
    if not (weights > 0).any(axis=axis).all():
        raise ValueError("the weights of a distribution are all 0")
