"""The model: the logit computed by hand, its switches, the label prototypes, the loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from patchct_edge.train.loss import asymmetric_loss
from patchct_edge.train.model import TAU_BOUNDS, Losses, mean_pairwise_cosine
from patchct_edge.train.transport import ct_cost

EMBEDDINGS = torch.randn(4, 12, generator=torch.Generator().manual_seed(2))
TARGETS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
IGNORED = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)


def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def compute_logits_by_hand(model, tokens):
    """Compute equation (7) for every image and label, with loops over patches."""

    def unit(vector):
        return vector / vector.square().sum().sqrt()

    def project(token):
        return model.project_image.weight @ token + model.project_image.bias

    tau = model.log_tau.exp()
    prototypes = [
        unit(model.project_label.weight @ (row - model.label_mean))
        for row in model.labels.embeddings
    ]
    logits = torch.zeros(len(tokens.cls), len(prototypes))
    for i in range(len(tokens.cls)):
        u = project(tokens.cls[i, -1])
        c = unit(u + model.adapt(u))
        patches = [unit(project(token)) for token in tokens.patches[i, -1]]
        for m, label in enumerate(prototypes):
            s = [float(patch @ label) for patch in patches]
            mass = [math.exp(x / tau) for x in s]
            score = sum(w * x for w, x in zip(mass, s, strict=True)) / sum(mass)
            logits[i, m] = model.b
            logits[i, m] += model.config.cls_score * model.a * (c @ label)
            logits[i, m] += model.config.navigator_score * model.g * score
    return logits


@pytest.mark.parametrize(
    "changes",
    [{}, {"cls_score": False}, {"navigator_score": False}, {"layers": (-2, -1)}, {"layers": (-2,)}],
)
@torch.no_grad()
def test_the_logit_follows_the_equation(patchct, changes):
    model = patchct(EMBEDDINGS, **changes)
    scores = model(pixels())
    layers = len(model.config.layers)
    assert scores.logits.shape == (3, 4)
    assert scores.similarity.shape == (3, layers, 4, 16)
    assert scores.similarity.abs().max() <= 1 + 1e-6
    expected = compute_logits_by_hand(model, model.image(pixels()))
    torch.testing.assert_close(scores.logits, expected, rtol=1e-4, atol=1e-4)


def test_a_score_that_is_switched_off_gets_no_gradient(patchct):
    for setting, name in (("cls_score", "a"), ("navigator_score", "g")):
        model = patchct(EMBEDDINGS, **{setting: False})
        model(pixels()).logits.sum().backward()
        grads = {n: getattr(model, n).grad for n in "agb"}
        assert grads.pop(name) is None
        assert all(grad is not None for grad in grads.values())


@torch.no_grad()
def test_half_precision_tokens_are_scored_in_float32(patchct):
    model = patchct(EMBEDDINGS)
    tokens = model.image(pixels())
    half = type(tokens)(*(tensor.bfloat16() for tensor in tokens))
    scores = model.score(half, model.compute_prototypes())
    assert scores.logits.dtype == scores.similarity.dtype == torch.float32
    rounded = type(tokens)(*(tensor.float() for tensor in half))
    assert torch.equal(scores.logits, model.score(rounded, model.compute_prototypes()).logits)


@torch.no_grad()
def test_permuting_labels_permutes_the_outputs(patchct):
    order = [2, 0, 3, 1]
    mean = EMBEDDINGS.mean(0)
    scores = patchct(EMBEDDINGS, mean)(pixels())
    moved = patchct(EMBEDDINGS[order], mean)(pixels())
    torch.testing.assert_close(moved.logits, scores.logits[:, order])
    torch.testing.assert_close(moved.similarity, scores.similarity[:, :, order])


@torch.no_grad()
def test_adding_a_label_moves_no_other(patchct):
    mean = EMBEDDINGS.mean(0)
    more = torch.cat([EMBEDDINGS[:2], 5 * torch.ones(1, 12), EMBEDDINGS[2:]])
    few, many = patchct(EMBEDDINGS, mean), patchct(more, mean)
    old_labels = [0, 1, 3, 4]
    assert torch.equal(many.compute_prototypes()[old_labels], few.compute_prototypes())
    torch.testing.assert_close(many(pixels()).logits[:, old_labels], few(pixels()).logits)


@torch.no_grad()
def test_images_do_not_depend_on_others_in_the_batch(patchct):
    model = patchct(EMBEDDINGS)
    together = model(pixels()).logits
    for n in range(3):
        alone = model(pixels()[n : n + 1]).logits
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prototypes_are_unit_vectors_about_the_mean(patchct):
    model = patchct(EMBEDDINGS)
    torch.testing.assert_close(model.compute_prototypes().norm(dim=1), torch.ones(4))
    shifted = patchct(EMBEDDINGS + 3)  # the mean shifts as much
    torch.testing.assert_close(
        shifted.compute_prototypes(), model.compute_prototypes(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.9])
def test_the_bias_starts_at_the_prior(patchct, prior):
    base = patchct(EMBEDDINGS)
    model = type(base)(base.image, base.labels, base.label_mean, base.config, prior)
    assert torch.sigmoid(model.b).item() == pytest.approx(prior)


@pytest.mark.parametrize("layers", [(-1,), (-2, -1)])
def test_the_loss_is_the_sum_of_its_parts(patchct, layers):
    model = patchct(EMBEDDINGS, layers=layers, ct_weight=0.7, ct_forward=0.3, ct_backward=1.9)
    scores = model(pixels())
    losses = model.compute_loss(scores, TARGETS, IGNORED)
    certain = TARGETS & ~IGNORED  # difficult labels are not in the label distribution
    costs = [
        ct_cost(scores.similarity[:, k], model.tau, certain, 0.3, 1.9) for k in range(len(layers))
    ]
    torch.testing.assert_close(losses.transport, sum(costs) / len(costs))
    torch.testing.assert_close(
        losses.asymmetric, asymmetric_loss(scores.logits, TARGETS, IGNORED, 0, 2, 0.05)
    )
    torch.testing.assert_close(losses.total, losses.asymmetric + 0.7 * losses.transport)


@pytest.mark.parametrize(
    "targets", [TARGETS, torch.zeros_like(TARGETS), ~torch.zeros_like(TARGETS)]
)
@pytest.mark.parametrize("ignored", [IGNORED, ~torch.zeros_like(IGNORED)])
def test_losses_and_gradients_are_finite(patchct, targets, ignored):
    model = patchct(EMBEDDINGS)
    losses = model.compute_loss(model(pixels()), targets, ignored)
    assert isinstance(losses, Losses)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("start", "tau"), [(0.001, 0.03), (0.03, 0.03), (0.2, 0.2), (1, 1), (7, 1)]
)
def test_tau_stays_within_its_bounds_and_learns_there(patchct, start, tau):
    model = patchct(EMBEDDINGS)
    with torch.no_grad():
        model.log_tau.fill_(math.log(start))
    assert model.tau.item() == pytest.approx(tau)
    model.clamp_tau()
    assert model.log_tau.exp().item() == pytest.approx(tau)
    assert TAU_BOUNDS[0] * 0.9999 <= model.tau.item() <= TAU_BOUNDS[1]
    model(pixels()).logits.sum().backward()
    assert model.log_tau.grad.item() != 0


def test_the_mean_cosine_equals_loops():
    prototypes = F.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = [float(prototypes[i] @ prototypes[j]) for i in range(5) for j in range(5) if i != j]
    assert mean_pairwise_cosine(prototypes) == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)
    assert mean_pairwise_cosine(prototypes[:1].repeat(4, 1)) == pytest.approx(1, abs=1e-6)
    assert mean_pairwise_cosine(torch.eye(3)) == pytest.approx(0, abs=1e-6)
    assert mean_pairwise_cosine(prototypes[:1]) == 0
