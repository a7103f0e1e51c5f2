"""The asymmetric loss against loops in double precision from the paper's formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from patchct_edge.train.loss import asymmetric_loss

PARAMETERS = [(0, 4, 0.05), (0, 0, 0), (1, 4, 0.05), (2, 1, 0.2), (0.5, 0.5, 0), (0, 0.5, 0.05)]


def draw_cells(seed=0, spread=4.0):
    rng = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(6, 5, generator=rng, dtype=torch.float64)
    targets, ignored = torch.rand(2, 6, 5, generator=rng) < torch.tensor([0.4, 0.2])[:, None, None]
    return logits, targets, ignored


def compute_loss_by_loops(logits, targets, ignored, gamma_positive, gamma_negative, clip):
    total = 0.0
    for z_row, y_row, skip_row in zip(logits, targets, ignored, strict=True):
        for z, y, skip in zip(z_row.tolist(), y_row.tolist(), skip_row.tolist(), strict=True):
            p = 1 / (1 + math.exp(-z))
            shifted = max(p - clip, 0)
            if skip:
                continue
            if y:
                total -= (1 - p) ** gamma_positive * math.log(p)
            else:
                total -= shifted**gamma_negative * math.log(1 - shifted)
    return total / len(logits)


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_equals_loops(parameters, seed):
    logits, targets, ignored = draw_cells(seed)
    expected = compute_loss_by_loops(logits, targets, ignored, *parameters)
    assert asymmetric_loss(logits, targets, ignored, *parameters).item() == pytest.approx(expected)
    float32_loss = asymmetric_loss(logits.float(), targets, ignored, *parameters).item()
    assert float32_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spread", [1, 30, 1e4])
def test_without_focus_and_margin_it_is_cross_entropy(spread):
    logits, targets, _ = draw_cells(spread=spread)
    logits = logits.float().requires_grad_()
    loss = asymmetric_loss(logits, targets, torch.zeros_like(targets), 0, 0, 0)
    expected = (
        F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").sum(1).mean()
    )
    torch.testing.assert_close(loss, expected)
    (grad,), (expected_grad,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_gradients_equal_numerical_ones(parameters):
    logits, targets, ignored = draw_cells(spread=2)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: asymmetric_loss(z, targets, ignored, *parameters), logits
    )


@pytest.mark.parametrize("extreme", [0, 1e4, -1e4])
def test_ignored_cells_add_neither_loss_nor_gradient(extreme):
    logits, targets, ignored = draw_cells()
    logits = torch.where(ignored, logits + extreme, logits).requires_grad_()
    loss = asymmetric_loss(logits, targets, ignored)
    loss.backward()
    z, y, skip = draw_cells()
    expected = compute_loss_by_loops(z, y, skip, 0, 4, 0.05)
    assert loss.item() == pytest.approx(expected)
    assert logits.grad is not None
    assert not logits.grad[ignored].any()
    assert logits.grad[targets & ~ignored].all()


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_are_finite_in_value_and_gradient(parameters, dtype):
    z = torch.tensor([1e4, -1e4, 100.0, -100.0, 18.0, -18.0, 0.0], dtype=dtype)
    logits = z.repeat(2, 1).requires_grad_()
    targets = torch.tensor([[True], [False]]).expand(2, 7)
    loss = asymmetric_loss(logits, targets, torch.zeros_like(targets), *parameters)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] < 0  # a missed positive is pulled up
    assert logits.grad[1, 0] >= 0  # no negative is pushed up


def test_negatives_below_the_margin_count_as_solved():
    logits = torch.full((1, 3), -3.0, requires_grad=True)  # p = 0.047
    none = torch.zeros(1, 3, dtype=torch.bool)
    loss = asymmetric_loss(logits, none, none)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
