"""An encoder at another image size: its weights, its positions, sizes that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_encoders import DEEP, MODELS, PICTURE, save_with_active_norms

from patchct_edge.errors import UserError
from patchct_edge.train.encoders.image import ImageEncoder
from patchct_edge.train.encoders.resolution import resize_position_embeddings


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [16, 40])
def test_only_the_patch_positions_change(name, size, tmp_path):
    make, config, prefix, _ = MODELS[name]
    model = save_with_active_norms(make(config), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-1,), True, size).eval()
    assert (encoder.size, encoder.grid) == (size, size // 8)
    tokens = encoder(torch.zeros(2, 3, size, size))
    assert tokens.patches.shape == (2, 1, (size // 8) ** 2, 32)
    before = model.state_dict()
    for key, weight in encoder.model.state_dict().items():
        if "position_embedding" in key:
            rows, old = weight.reshape(-1, 32), before[key].reshape(-1, 32)
            assert len(rows) >= encoder.grid**2
            torch.testing.assert_close(rows[: len(rows) - encoder.grid**2], old[: len(old) - 9])
        else:
            torch.testing.assert_close(weight, before[key])
    assert model.config.image_size == 24
    assert prefix == encoder._prefix


def test_positions_are_interpolated_in_place():
    """A plane stays that plane, except near the border, within a sixth of its step of 0.2."""
    config = hf.ViTConfig(**DEEP, image_size=128, patch_size=8)
    model: Any = hf.ViTModel(config)
    centers = (torch.arange(16) + 0.5) / 16
    plane = 5 * centers[:, None] - 3 * centers[None]
    with torch.no_grad():
        model.embeddings.position_embeddings[0, 1:] = plane.flatten()[:, None]
        resized: Any = resize_position_embeddings(model, 192)
        table = resized.embeddings.position_embeddings[0, 1:, 0].reshape(24, 24)
    centers = (torch.arange(24) + 0.5) / 24
    expected = 5 * centers[:, None] - 3 * centers[None]
    inner = slice(3, 21)
    torch.testing.assert_close(table[inner, inner], expected[inner, inner], atol=0.03, rtol=0)


def test_the_same_size_returns_the_same_model():
    model = hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE))
    assert resize_position_embeddings(model, 0) is model
    assert resize_position_embeddings(model, 24) is model


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (hf.ViTConfig(**DEEP, **PICTURE), 30, "multiple of 8"),
        (
            hf.BeitConfig(**DEEP, **PICTURE, use_relative_position_bias=True),
            32,
            "one fixed image size",
        ),
    ],
)
def test_a_size_that_does_not_fit_is_refused(config, size, message):
    with pytest.raises(UserError, match=message):
        resize_position_embeddings(hf.AutoModel.from_config(config), size)
