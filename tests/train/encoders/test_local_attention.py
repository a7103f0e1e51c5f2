"""Patch tokens for maps, on tiny random `transformers` models: each patch attends to itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_encoders import MODELS, SIZES, SWIN, pixels, save_with_active_norms

from patchct_edge.train.encoders.image import ImageEncoder


def create_encoder(make, config):
    torch.manual_seed(0)
    return ImageEncoder(make(config)).eval()


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_encoding_with_maps_does_not_change_the_tokens(name):
    encoder = create_encoder(*MODELS[name][:2])
    tokens, maps = encoder.encode_with_maps(pixels())
    torch.testing.assert_close(tokens.cls, encoder(pixels()).cls, rtol=0, atol=0)
    torch.testing.assert_close(tokens.patches, encoder(pixels()).patches, rtol=0, atol=0)
    assert maps.shape == (2, 9, 32)
    assert not torch.allclose(maps, tokens.patches[:, -1], atol=1e-2)
    again = encoder.encode_with_maps(pixels())[0].patches
    torch.testing.assert_close(again, tokens.patches, rtol=0, atol=0)  # full attention is restored


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_map_patches_pass_the_last_layer_one_by_one(name, tmp_path):
    """As if each were the only token: attention then returns its own value."""
    make, config, prefix, norm = MODELS[name]
    model = save_with_active_norms(make(config), tmp_path)
    encoder = ImageEncoder(model).eval()
    _, maps = encoder.encode_with_maps(pixels())
    before = model(pixel_values=pixels(), output_hidden_states=True).hidden_states[-2][:, prefix:]
    inner = getattr(model, "vision_model", model)
    blocks = [m for m in inner.modules() if isinstance(m, torch.nn.ModuleList)]
    last = next(block for block in blocks if len(block) == config.num_hidden_layers)[-1]
    rotation: dict[str, Any] = {}
    if name == "dinov3":  # no effect on a single token: it rotates queries and keys, not values
        zeros = torch.zeros(1, config.hidden_size // config.num_attention_heads)
        rotation = {"position_embeddings": (zeros + 1, zeros)}
    elif name in ("clip", "siglip"):
        rotation = {"attention_mask": None}
    for n in range(9):
        alone = last(before[:, n : n + 1], **rotation)
        alone = alone[0] if isinstance(alone, tuple) else alone
        torch.testing.assert_close(maps[:, n], getattr(inner, norm)(alone)[:, 0])


@pytest.mark.parametrize("layers", [2, 3, 4, 8, 12])
@torch.no_grad()
def test_a_quarter_of_the_layers_is_local(layers):
    config = hf.ViTConfig(
        **{**SIZES, "num_hidden_layers": layers}, intermediate_size=48, image_size=24, patch_size=8
    )
    encoder = create_encoder(hf.ViTModel, config)
    calls = []
    for n, layer in enumerate(encoder.model.layers):
        layer.register_forward_hook(lambda *_, n=n: calls.append(n))
    encoder.encode_with_maps(pixels())
    assert calls == [*range(layers), *range(layers - layers // 4, layers)]


@torch.no_grad()
def test_other_encoders_use_their_last_layer_for_maps():
    encoder = create_encoder(hf.SwinModel, SWIN)
    tokens, maps = encoder.encode_with_maps(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(maps, tokens.patches[:, -1], rtol=0, atol=0)
