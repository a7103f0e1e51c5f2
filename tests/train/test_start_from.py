"""Runs that start from the weights of another run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from runs import THREE_LABELS, read_rows

from patchct_edge.errors import UserError
from patchct_edge.train.checkpoint import load_model


def test_a_table_may_gain_a_label(train, color_set, table, tmp_path):
    few = color_set(16, labels=("red", "green"))
    train(few, name="few", label_encoder=str(table("red", "green")), lr_head=0.02)
    path = table("blue", "green", "red", file="more.npz")
    more = color_set(16)
    state, _ = train(
        more,
        name="more",
        label_encoder=str(path),
        start_from=tmp_path / "few",
        epochs=1,
        lr_head=0,
        lr_backbone=1e-12,
    )
    assert state.labels == THREE_LABELS
    (old, _), (new, _) = load_model(tmp_path / "few"), load_model(tmp_path / "more")
    assert torch.equal(new.label_mean, old.label_mean)
    with torch.no_grad():
        assert new.compute_prototypes().shape == (3, 16)
        torch.testing.assert_close(new.compute_prototypes()[:2], old.compute_prototypes())
        pixels = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(new(pixels).logits[:, :2], old(pixels).logits)


def test_a_trained_text_encoder_may_gain_and_reorder_labels(train, color_set, bert, tmp_path):
    text = {"label_encoder": str(bert), "train_text_encoder": True}
    train(color_set(16, labels=("red", "green")), name="few", **text)
    for labels in (("green", "red"), ("blue", "green", "red")):
        train(
            color_set(16, labels=labels),
            name="more",
            start_from=tmp_path / "few",
            epochs=1,
            lr_head=0,
            lr_backbone=1e-12,
            **text,
        )
        (old, _), (new, state) = load_model(tmp_path / "few"), load_model(tmp_path / "more")
        assert state.labels == labels
        with torch.no_grad():
            moved = new.compute_prototypes()[[labels.index("red"), labels.index("green")]]
            torch.testing.assert_close(moved, old.compute_prototypes())


def test_starting_from_a_run_uses_its_weights(train, color_set, tmp_path):
    data = color_set(16)
    first, _ = train(data, name="one", epochs=6)
    second, _ = train(data, name="two", epochs=1, start_from=tmp_path / "one", lr_head=1e-4)
    first_rows, second_rows = (read_rows(tmp_path / name) for name in ("one", "two"))
    assert second_rows[0]["loss"] < 0.8 * first_rows[0]["loss"]
    assert (first.epochs_done, second.epochs_done) == (6, 1)


def test_starting_from_a_run_other_settings_are_applied_or_refused(train, color_set, vit, tmp_path):
    data = color_set(8)
    first, _ = train(data, name="one", epochs=1)
    model, _ = load_model(tmp_path / "one")
    with pytest.raises(UserError, match="comes with the run"):
        train(data, name="two", image_encoder=f"{vit}/.", start_from=tmp_path / "one")
    changes = {"fit": "crop", "interpolation": "bicubic", "lr_head": 0}
    second, _ = train(data, name="two", start_from=tmp_path / "one", epochs=1, **changes)
    changed = dataclasses.replace(first.preprocessing, fit="crop", interpolation="bicubic")
    assert second.preprocessing == changed
    assert load_model(tmp_path / "two")[0].tau.item() == pytest.approx(model.tau.item())
    train(data, name="three", start_from=tmp_path / "one", epochs=1, tau=0.5, lr_head=0)
    assert load_model(tmp_path / "three")[0].tau.item() == pytest.approx(0.5)


def test_a_run_can_be_continued_at_a_higher_resolution(train, color_set, tmp_path):
    data = color_set(8)
    first, _ = train(data, name="one", epochs=1)
    larger, _ = train(data, name="two", start_from=tmp_path / "one", epochs=1, image_size=48)
    assert (first.preprocessing.size, larger.preprocessing.size) == (32, 48)
    model, state = load_model(tmp_path / "two")
    assert (model.image.size, model.image.grid, state.preprocessing.size) == (48, 6, 48)
    again, _ = train(data, name="three", start_from=tmp_path / "two", epochs=1)
    assert again.preprocessing.size == 48


def test_learned_labels_cannot_start_from_other_labels(train, color_set, tmp_path):
    train(color_set(8, labels=("red", "green")), name="few", epochs=1)
    with pytest.raises(UserError, match="only for the labels they were trained on") as caught:
        train(color_set(8), name="more", start_from=tmp_path / "few")
    assert "red, green, blue" in str(caught.value)
    with pytest.raises(UserError, match="only for the labels"):
        train(color_set(8, labels=("green", "red")), name="more", start_from=tmp_path / "few")


@pytest.mark.parametrize("change", ["dim", "width", "learned", "text"])
def test_a_run_with_other_settings_cannot_be_started_from(
    train, color_set, table, bert, tmp_path, change
):
    data = color_set(8)
    train(data, name="one", epochs=1, label_encoder=str(table(*THREE_LABELS)))
    changes_by_name: dict[str, dict[str, Any]] = {
        "dim": {"dim": 8, "label_encoder": str(table(*THREE_LABELS))},
        "width": {"label_encoder": str(table(*THREE_LABELS, width=5))},
        "learned": {"label_encoder": "learned"},
        "text": {"label_encoder": str(bert), "train_text_encoder": True},
    }
    changes = changes_by_name[change]
    with pytest.raises(UserError, match="label_encoder as"):
        train(data, name="two", start_from=tmp_path / "one", **changes)
    assert not (tmp_path / "two").exists()
