"""The parameter groups, the learning rate and the averaged weights."""

from __future__ import annotations

import pytest
import torch

from patchct_edge.train.optimizer import (
    EMA,
    compute_layer_factors,
    create_optimizer,
    learning_rate_factor,
)

EMBEDDINGS = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


def test_encoders_have_their_own_rate_and_vectors_do_not_decay(patchct):
    model = patchct(EMBEDDINGS, lr_backbone=1e-4, lr_head=1e-2, weight_decay=0.1)
    groups = {
        id(parameter): (group["peak"], group["weight_decay"])
        for group in create_optimizer(model, model.config).param_groups
        for parameter in group["params"]
    }
    assert len(groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        peak = 1e-4 if name.startswith("image.") else 1e-2
        assert groups[id(parameter)] == (peak, 0.1 if parameter.ndim > 1 else 0), name


def test_deeper_layers_learn_faster(patchct):
    model = patchct(EMBEDDINGS, lr_backbone=1e-4, layer_decay=0.5)
    peaks = {
        id(parameter): group["peak"]
        for group in create_optimizer(model, model.config).param_groups
        for parameter in group["params"]
    }
    parts = {"embeddings.": 1 / 8, "layers.0.": 1 / 4, "layers.1.": 1 / 2, "layernorm.": 1}
    for name, parameter in model.image.model.named_parameters():
        (factor,) = (factor for part, factor in parts.items() if name.startswith(part))
        assert peaks[id(parameter)] == pytest.approx(factor * 1e-4), name


def test_layers_are_recognized_by_their_names():
    names = ["embed.w", "pre_norm.w", "encoder.layer.0.w", "encoder.layer.1.w", "post.w"]
    assert list(compute_layer_factors(names, 0.5).values()) == [1 / 8, 1 / 8, 1 / 4, 1 / 2, 1]
    stages = ["stages.0.blocks.1.w", "stages.1.blocks.0.layers.9.w"]
    assert list(compute_layer_factors(stages, 0.5).values()) == [1 / 4, 1 / 2]
    assert compute_layer_factors(["one.w", "two.w"], 0.5) == {"one.w": 1, "two.w": 1}


def test_a_backbone_rate_of_zero_freezes_the_encoder(patchct):
    model = patchct(EMBEDDINGS, lr_backbone=0)
    optimizer = create_optimizer(model, model.config)
    assert not any(parameter.requires_grad for parameter in model.image.parameters())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for n, p in model.named_parameters() if not n.startswith("image.")}


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (100, 0), (1, 0.1), (7, 1), (2, 0.5)])
def test_the_rate_rises_and_falls(steps, warmup):
    rates = [learning_rate_factor(step, steps, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= max(1, warmup * steps)
    assert learning_rate_factor(100, 100, 0.1) == 0


def test_the_average_follows_the_weights(patchct):
    model = patchct(EMBEDDINGS)
    averaged = EMA(model, 0.5)
    expected = model.b.item()
    for update, value in enumerate([1.0, -2.0, 5.0]):
        with torch.no_grad():
            model.b.fill_(value)
        averaged.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert averaged.model.b.item() == pytest.approx(expected)
    assert model.b.item() == 5
    assert not any(parameter.requires_grad for parameter in averaged.model.parameters())


def test_the_average_copies_the_statistics_of_a_batch_norm(patchct):
    model = patchct(EMBEDDINGS)
    model.norm = torch.nn.BatchNorm1d(4)
    averaged = EMA(model, 0.9)
    model.norm.train()(torch.randn(8, 4) + 3)
    averaged.update(model)
    averaged_norm = averaged.model.norm
    assert isinstance(averaged_norm, torch.nn.BatchNorm1d)
    assert averaged_norm.running_mean is not None
    assert torch.equal(averaged_norm.running_mean, model.norm.running_mean)
    assert averaged_norm.num_batches_tracked == 1
