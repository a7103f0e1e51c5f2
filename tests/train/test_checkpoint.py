"""The run folder: its files, reading them back, and damaged ones."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import pytest
import torch
from runs import THREE_LABELS, read_rows, untimed_rows
from safetensors.torch import load_file

from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.train.checkpoint import load_model, read_state
from patchct_edge.train.model import mean_pairwise_cosine


def test_the_run_folder_holds_settings_state_weights_and_metrics(
    train, color_set, tmp_path, settings
):
    data = dataclasses.replace(color_set(16), prompts={"red": "A ripe tomato."})
    state, _ = train(data, color_set(8, "val"))
    folder = tmp_path / "run"
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert set(files) == {
        "config.json",
        "run.json",
        "image_encoder/config.json",
        "best.safetensors",
        "last.safetensors",
        "state.safetensors",
        "metrics.jsonl",
        "metrics.csv",
    }
    assert read_state(folder) == (settings(), state)
    assert state.labels == THREE_LABELS
    assert state.prompts == ("A ripe tomato.", "A photo of a green.", "A photo of a blue.")
    assert (state.epochs_done, state.preprocessing.size) == (2, 32)
    assert state.data_fingerprint == data.fingerprint()
    rows = read_rows(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    with (folder / "metrics.csv").open(newline="") as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == rows


def test_no_file_is_a_pickle(train, color_set, tmp_path):
    train(color_set(8), epochs=1)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not content.startswith((b"\x80", b"PK"))
            assert path.suffix in (".json", ".jsonl", ".csv", ".safetensors")


def test_labels_may_be_any_text(train, color_set, tmp_path):
    names = ("été|x", "Hund 🐕", '"q", 1')
    data = color_set(8)
    samples = [
        dataclasses.replace(s, labels=tuple(names[THREE_LABELS.index(label)] for label in s.labels))
        for s in data.samples
    ]
    train(Dataset(tuple(samples), names), epochs=1)
    assert load_model(tmp_path / "run")[1].labels == names


def test_a_trained_text_encoder_is_read_back(train, color_set, bert, tmp_path):
    train(color_set(16), label_encoder=str(bert), train_text_encoder=True)
    folder = tmp_path / "run"
    assert (folder / "text_encoder" / "config.json").is_file()
    model, _ = load_model(folder, "last")
    row = untimed_rows(folder)[-1]
    with torch.no_grad():
        prototypes = model.compute_prototypes()
        assert torch.equal(prototypes, load_model(folder, "last")[0].compute_prototypes())
    assert mean_pairwise_cosine(prototypes) == pytest.approx(row["prototype_cosine"], abs=1e-6)
    before = load_file(bert / "model.safetensors")
    after = {k.removeprefix("labels.model."): v for k, v in model.state_dict().items()}
    assert not torch.equal(
        after["embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )


def test_a_loaded_model_is_in_eval_mode(train, color_set, tmp_path):
    train(color_set(8), epochs=1)
    model, _ = load_model(tmp_path / "run")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(pixels).logits, model(pixels).logits)  # no dropout


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"damaged" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_damaged_weights_are_refused_with_their_file(train, color_set, tmp_path, damage):
    data = color_set(8)
    train(data, epochs=1)
    for name in ("best", "last", "state"):
        path = tmp_path / "run" / f"{name}.safetensors"
        damage(path)
        with pytest.raises(UserError, match=rf"cannot read .*{name}\.safetensors"):
            load_model(tmp_path / "run", name)
    with pytest.raises(UserError, match=r"cannot read .*state\.safetensors"):
        train(data, epochs=2, resume=True)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"labels": 3}'])
def test_a_damaged_run_file_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        load_model(tmp_path)


def test_weights_of_another_width_are_refused(train, color_set, tmp_path):
    train(color_set(8), epochs=1)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dim": 24}))
    with pytest.raises(UserError, match="do not fit") as caught:
        load_model(tmp_path / "run")
    assert "project_label" in str(caught.value)
