"""Patches that attend to themselves alone: what reaches what, on models of `transformers`."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from test_image_encoder import MODELS, SIZES, SWIN, pixels, saved

from patchct_edge.train.encoders.image import ImageEncoder


def encoder_of(make, config):
    torch.manual_seed(0)
    return ImageEncoder(make(config)).eval()


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_tokens_are_those_without_maps(name):
    encoder = encoder_of(*MODELS[name][:2])
    tokens, maps = encoder.encode_with_maps(pixels())
    torch.testing.assert_close(tokens.cls, encoder(pixels()).cls, rtol=0, atol=0)
    torch.testing.assert_close(tokens.patches, encoder(pixels()).patches, rtol=0, atol=0)
    assert maps.shape == (2, 9, 32)
    assert not torch.allclose(maps, tokens.patches[:, -1], atol=1e-2)
    again = encoder.encode_with_maps(pixels())[0].patches
    torch.testing.assert_close(again, tokens.patches, rtol=0, atol=0)  # full attention is back


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_map_s_patches_pass_the_last_layer_each_alone(name, tmp_path):
    """As if each were the only token there: its own value is then all that attention gives."""
    make, config, prefix, norm = MODELS[name]
    model = saved(make(config), tmp_path)
    encoder = ImageEncoder(model).eval()
    _, maps = encoder.encode_with_maps(pixels())
    before = model(pixel_values=pixels(), output_hidden_states=True).hidden_states[-2][:, prefix:]
    inner = getattr(model, "vision_model", model)
    blocks = [m for m in inner.modules() if isinstance(m, torch.nn.ModuleList)]
    last = next(block for block in blocks if len(block) == config.num_hidden_layers)[-1]
    rotation = {}
    if name == "dinov3":  # of no effect on a token alone: queries and keys are turned, not values
        turn = torch.zeros(1, config.hidden_size // config.num_attention_heads)
        rotation = {"position_embeddings": (turn + 1, turn)}
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
    encoder = encoder_of(hf.ViTModel, config)
    called = []
    for n, layer in enumerate(encoder.model.layers):
        layer.register_forward_hook(lambda *_, n=n: called.append(n))
    encoder.encode_with_maps(pixels())
    assert called == [*range(layers), *range(layers - layers // 4, layers)]


@torch.no_grad()
def test_other_encoders_have_the_maps_of_their_last_layer():
    encoder = encoder_of(hf.SwinModel, SWIN)
    tokens, maps = encoder.encode_with_maps(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(maps, tokens.patches[:, -1], rtol=0, atol=0)
