"""The image encoder on tiny random `transformers` models: shapes, norms, files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_encoders import DEEP, MODELS, PICTURE, SWIN, TEXT, pixels, save_with_active_norms

from patchct_edge.errors import UserError
from patchct_edge.train.encoders.image import ImageEncoder, read_normalization
from patchct_edge.train.encoders.labels import load_text_label_encoder

WIDE_PICTURE: dict[str, Any] = {"image_size": 32}  # these configurations do not declare it


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_the_models_own_after_its_final_norm(name, tmp_path):
    make, config, prefix, norm_name = MODELS[name]
    model = save_with_active_norms(make(config), tmp_path)
    with torch.no_grad():
        own = model(pixel_values=pixels(), output_hidden_states=True)
        norm = getattr(getattr(model, "vision_model", model), norm_name)
        last = norm(own.last_hidden_state) if name == "clip" else own.last_hidden_state
        states = {-1: last, -2: norm(own.hidden_states[-2]), 1: norm(own.hidden_states[1])}
        for layers in ((-1,), (-2, -1), (1, -2, -1)):
            encoder = ImageEncoder.load(str(tmp_path), layers, True).eval()
            cls, patches = encoder(pixels())
            assert (encoder.size, encoder.grid, encoder.width) == (24, 3, 32)
            assert cls.shape == (2, len(layers), 32)
            assert patches.shape == (2, len(layers), 9, 32)
            for k, layer in enumerate(layers):
                expected = states[layer]
                torch.testing.assert_close(patches[:, k], expected[:, prefix:])
                first = expected[:, 0] if prefix else expected.mean(1)
                torch.testing.assert_close(cls[:, k], first)


@pytest.mark.parametrize("name", MODELS)
def test_every_used_token_has_a_gradient(name, tmp_path):
    make, config, *_ = MODELS[name]
    save_with_active_norms(make(config), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-2, -1), True)
    cls, patches = encoder(pixels())
    (cls.square().sum() + patches.square().sum()).backward()
    grads = [p.grad for n, p in encoder.named_parameters() if "layer" in n and p.grad is not None]
    assert len(grads) > 30
    assert all(grad.isfinite().all() for grad in grads)


def test_without_pretrained_the_weights_are_random(tmp_path):
    make, config, *_ = MODELS["vit"]
    model = save_with_active_norms(make(config), tmp_path)
    with_weights = ImageEncoder.load(str(tmp_path), (-1,), True).model.state_dict()
    without = ImageEncoder.load(str(tmp_path), (-1,), False).model.state_dict()
    assert with_weights.keys() == without.keys()
    for name, value in with_weights.items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0)
    matrices = [name for name, value in without.items() if value.ndim > 1 and value.any()]
    assert len(matrices) > 10
    assert not any(torch.equal(with_weights[name], without[name]) for name in matrices)


@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_stored_in_half_precision_are_loaded_in_float32(pretrained, tmp_path):
    make, config, *_ = MODELS["vit"]
    save_with_active_norms(make(config).half(), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-1,), pretrained)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder(pixels()).patches.dtype == torch.float32


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_the_image_half_of_a_contrastive_pair_is_loaded(kind, tmp_path):
    config = getattr(hf, f"{kind}Config")(vision_config={**DEEP, **PICTURE}, text_config=TEXT)
    pair = save_with_active_norms(getattr(hf, f"{kind}Model")(config), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-1,), True)
    own = pair.vision_model.state_dict()
    assert encoder.model.state_dict().keys() == own.keys()
    for name, value in encoder.model.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged" * 9)


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("damage", [remove_weights, damage_weights, damage_config])
def test_a_damaged_folder_is_named(damage, vit, bert, tmp_path):
    for kind, folder, load in (
        ("image", vit, lambda source: ImageEncoder.load(source, (-1,), True)),
        ("text", bert, lambda source: load_text_label_encoder(source, ["a cat"])),
    ):
        copy = shutil.copytree(folder, tmp_path / kind)
        damage(copy)
        with pytest.raises(UserError, match=f"cannot load the {kind} encoder") as caught:
            load(str(copy))
        assert str(copy) in str(caught.value)


@pytest.mark.parametrize("source", ["./vit", "../vit", "~/vit", "/nowhere/vit", "runs/1/vit"])
def test_a_path_is_not_looked_up_on_the_hub(monkeypatch, source):
    monkeypatch.setattr("patchct_edge.train.encoders.image.AutoConfig", None)
    with pytest.raises(UserError, match=f"no folder {source} here"):
        ImageEncoder.load(source, (-1,), True)


def test_a_missing_folder_is_named(tmp_path):
    gone = str(tmp_path / "gone")
    for load in (
        lambda: ImageEncoder.load(gone, (-1,), True),
        lambda: ImageEncoder.load(gone, (-1,), False),
        lambda: load_text_label_encoder(gone, ["a cat"]),
    ):
        with pytest.raises(UserError, match="Hugging Face id, or a folder") as caught:
            load()
        assert gone in str(caught.value)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (
            hf.ResNetModel(hf.ResNetConfig(hidden_sizes=[8], depths=[1])),
            (-1,),
            "input size .* unknown",
        ),
        (
            hf.ResNetModel(hf.ResNetConfig(hidden_sizes=[8], depths=[1], **WIDE_PICTURE)),
            (-2, -1),
            "no layers but the last",
        ),
        (hf.ViTModel(hf.ViTConfig(**DEEP, image_size=[24, 32], patch_size=8)), (-1,), "square"),
        (hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE)), (-5, -1), "no such layer"),
        (hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE)), (5,), "no such layer"),
        (
            hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE, num_channels=1)),
            (-1,),
            "does not take RGB images",
        ),
        (hf.SwinModel(SWIN), (0, -1), "differ in shape"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(model, layers, message):
    with pytest.raises(UserError, match=message):
        ImageEncoder(model, layers)


def test_mean_and_std_are_read_from_the_encoder(vit, tmp_path):
    assert read_normalization(str(vit)) == {}
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": 24}'
    )
    assert read_normalization(str(tmp_path)) == {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


# Feature maps


@pytest.mark.parametrize(
    ("model", "grid", "width"),
    [
        (
            hf.SegformerModel(
                hf.SegformerConfig(
                    num_encoder_blocks=2,
                    depths=[1, 1],
                    sr_ratios=[2, 1],
                    hidden_sizes=[8, 16],
                    patch_sizes=[7, 3],
                    strides=[4, 2],
                    num_attention_heads=[1, 2],
                    mlp_ratios=[2, 2],
                    **WIDE_PICTURE,
                )
            ),
            4,
            16,
        ),
        (
            hf.ResNetModel(
                hf.ResNetConfig(
                    embedding_size=8,
                    hidden_sizes=[8],
                    depths=[1],
                    layer_type="basic",
                    **WIDE_PICTURE,
                )
            ),
            8,
            8,
        ),
    ],
)
def test_the_cells_of_a_feature_map_are_the_patches(model, grid, width):
    encoder = ImageEncoder(model.eval())
    pixels = torch.randn(2, 3, 32, 32)
    tokens = encoder(pixels)
    cells = model(pixel_values=pixels).last_hidden_state  # (B, h, rows, columns)
    assert (encoder.grid, encoder.width) == (grid, width)
    assert torch.equal(tokens.patches[:, 0, 1], cells[:, :, 0, 1])  # rows first
    assert torch.allclose(tokens.cls[:, 0], cells.mean((2, 3)), atol=1e-6)
