"""Conditional transport against loops over patches and labels, in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from patchct_edge import navigators
from patchct_edge.train.transport import ct_cost, navigator_score, similarity

TARGETS = torch.tensor(
    [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0]], dtype=torch.bool
)
WEIGHTS = [(1, 1), (0.3, 0), (0, 2), (0.7, 1.9)]
TAUS = [0.03, 0.1, 1.0]


def draw_embeddings(seed=0, dtype=torch.float64):
    """Draw patches (B, N, d) and prototypes (M, d), normalized."""
    rng = torch.Generator().manual_seed(seed)
    patches = torch.randn(4, 6, 3, generator=rng, dtype=torch.float64)
    prototypes = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    return F.normalize(patches, dim=2).to(dtype), F.normalize(prototypes, dim=1).to(dtype)


def compute_by_loops(patches, prototypes, tau, targets, wf, wb):
    """Compute equations (1) to (6) term by term: return similarity, CT cost, navigator score."""
    e, label, y = patches.double().numpy(), prototypes.double().numpy(), targets.numpy()
    (batch, patch_count, d), labels = e.shape, len(label)
    s, score, costs = np.zeros((batch, labels, patch_count)), np.zeros((batch, labels)), []
    for i in range(batch):
        for m in range(labels):
            for n in range(patch_count):
                s[i, m, n] = sum(label[m, j] * e[i, n, j] for j in range(d))
        p = 1 / patch_count
        q = [float(y[i, m]) / max(1, y[i].sum()) for m in range(labels)]
        forward = backward = 0.0
        for m in range(labels):
            for n in range(patch_count):
                mass = math.exp(s[i, m, n] / tau)
                k = 1 - s[i, m, n]
                if y[i].any():
                    over_labels = sum(q[o] * math.exp(s[i, o, n] / tau) for o in range(labels))
                    forward += p * q[m] * mass / over_labels * k
                over_patches = sum(p * math.exp(s[i, m, o] / tau) for o in range(patch_count))
                b = p * mass / over_patches
                backward += q[m] * b * k
                score[i, m] += b * s[i, m, n]
        if y[i].any():
            costs.append(wf * forward + wb * backward)
    return s, sum(costs) / max(1, len(costs)), score


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_equations_equal_loops(tau, weights):
    for seed in range(3):
        patches, prototypes = draw_embeddings(seed)
        expected_s, expected_cost, expected_score = compute_by_loops(
            patches, prototypes, tau, TARGETS, *weights
        )
        s, t = similarity(patches, prototypes), torch.tensor(tau, dtype=torch.float64)
        np.testing.assert_allclose(s, expected_s, rtol=1e-12)
        np.testing.assert_allclose(ct_cost(s, t, TARGETS, *weights), expected_cost, rtol=1e-12)
        np.testing.assert_allclose(navigator_score(s, t), expected_score, rtol=1e-11)
        float32_cost = ct_cost(s.float(), t.float(), TARGETS, *weights)
        np.testing.assert_allclose(float32_cost, expected_cost, rtol=1e-5)


@pytest.mark.parametrize("tau", TAUS)
def test_the_cost_equals_that_of_the_numpy_navigators(tau):
    s = similarity(*draw_embeddings())
    has_label = TARGETS.any(1)
    labeled_s = s[has_label].numpy()
    counts = TARGETS[has_label].double()
    q = (counts / counts.sum(1, keepdim=True)).numpy()
    forward = (navigators.forward(labeled_s, tau, q) * (1 - labeled_s)).sum(1).mean(1)
    backward = (q[:, :, None] * navigators.backward(labeled_s, tau) * (1 - labeled_s)).sum((1, 2))
    t = torch.tensor(tau)
    for weights in WEIGHTS:
        expected = (weights[0] * forward + weights[1] * backward).mean()
        assert ct_cost(s, t, TARGETS, *weights).item() == pytest.approx(expected, rel=1e-6)
    score = navigators.navigator_score(s.numpy(), tau)
    np.testing.assert_allclose(navigator_score(s, t), score, rtol=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_navigators_sum_to_one(weights):
    # If all similarities are equal, the cost is proportional to the mass of the navigators.
    s = torch.full((4, 5, 6), 0.25, dtype=torch.float64)
    cost = ct_cost(s, torch.tensor(0.1), TARGETS, *weights)
    assert cost.item() == pytest.approx(0.75 * sum(weights))
    torch.testing.assert_close(navigator_score(s, torch.tensor(0.1)), s[:, :, 0])


@pytest.mark.parametrize("targets", [TARGETS, torch.zeros_like(TARGETS)])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("scale", [1.0, 0.0, -1.0])
def test_no_nan_in_value_or_gradient(targets, tau, scale):
    s = torch.sign(similarity(*draw_embeddings(dtype=torch.float32))) * scale  # -1, 0 or 1
    s.requires_grad_()
    t = torch.tensor(tau, requires_grad=True)
    cost, score = ct_cost(s, t, targets, 1, 1), navigator_score(s, t)
    (cost + score.sum()).backward()
    for tensor in (cost, score, s.grad, t.grad):
        assert tensor is not None
        assert tensor.isfinite().all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_gradients_equal_numerical_ones(weights):
    s = similarity(*draw_embeddings()).requires_grad_()
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ct_cost(x, t, TARGETS, *weights), s)
    assert torch.autograd.gradcheck(navigator_score, (s, t))


def test_tau_learns_from_the_score_and_not_from_the_cost():
    s = similarity(*draw_embeddings()).requires_grad_()
    t = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    ct_cost(s, t, TARGETS, 1, 1).backward()
    gradient_of_cost = t.grad
    navigator_score(s, t).sum().backward()
    gradient_of_both = t.grad
    assert gradient_of_cost is None
    assert gradient_of_both is not None
    assert gradient_of_both.item() != 0


def test_permuting_labels_permutes_the_outputs():
    patches, prototypes = draw_embeddings()
    order, t = torch.tensor([3, 0, 4, 1, 2]), torch.tensor(0.1)
    s, moved = similarity(patches, prototypes), similarity(patches, prototypes[order])
    torch.testing.assert_close(moved, s[:, order])
    torch.testing.assert_close(navigator_score(moved, t), navigator_score(s, t)[:, order])
    cost = ct_cost(moved, t, TARGETS[:, order], 1, 1)
    torch.testing.assert_close(cost, ct_cost(s, t, TARGETS, 1, 1))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_an_image_without_labels_contributes_nothing(weights):
    s = similarity(*draw_embeddings()).requires_grad_()
    t = torch.tensor(0.1)
    cost = ct_cost(s, t, TARGETS, *weights)
    cost.backward()
    torch.testing.assert_close(cost, ct_cost(s[1:], t, TARGETS[1:], *weights))
    assert s.grad is not None
    assert not s.grad[0].any()
    assert s.grad[1:].flatten(1).any(1).all()
    assert ct_cost(s[:1], t, TARGETS[:1], *weights).item() == 0


def test_absent_labels_do_not_change_the_cost():
    s = similarity(*draw_embeddings())
    other = torch.where(TARGETS[:, :, None], s, torch.rand_like(s))
    t = torch.tensor(0.1)
    torch.testing.assert_close(ct_cost(other, t, TARGETS, 1, 1), ct_cost(s, t, TARGETS, 1, 1))
