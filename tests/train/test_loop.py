"""Training runs on colored squares: learning, the best epoch, and failures."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from runs import THREE_LABELS, read_rows, untimed_rows, warnings
from safetensors.torch import load_file

from patchct_edge.datasets import Dataset
from patchct_edge.errors import ImageError, UserError
from patchct_edge.train import checkpoint
from patchct_edge.train.batches import Batches
from patchct_edge.train.checkpoint import load_model, read_state
from patchct_edge.train.device import Normalize
from patchct_edge.train.model import Losses, PatchCT
from patchct_edge.train.trainer import evaluate_map


@pytest.mark.parametrize("labels", ["learned", "table"])
def test_a_run_learns_colors(train, color_set, table, tmp_path, caplog, labels):
    data, val = color_set(40), color_set(24, "val")
    label_encoder = str(table(*THREE_LABELS)) if labels == "table" else labels
    state, _ = train(data, val, epochs=10, label_encoder=label_encoder)
    assert state.best_map > 0.9
    rows = read_rows(tmp_path / "run")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert warnings(caplog) == []
    best, _ = load_model(tmp_path / "run")
    best_map = evaluate_map(
        best, Batches(val, state.preprocessing, best.config), Normalize(state.preprocessing, "cpu")
    )
    assert best_map == pytest.approx(state.best_map)


def test_progress_and_log_show_every_epoch(train, color_set, tmp_path, caplog):
    caplog.set_level(logging.INFO, "patchct_edge")
    _, progress = train(color_set(16), color_set(8, "val"), epochs=2)
    first, second = read_rows(tmp_path / "run")
    assert list(progress.stages) == ["epoch 1", "validation", "epoch 2"]
    assert len(progress.stages["epoch 1"]) == len(progress.stages["epoch 2"]) == 2
    assert progress.stages["epoch 2"][-1] == f"loss {second['loss']:.4f}"
    for row in (first, second):
        line = f"epoch {row['epoch']}  loss {row['loss']:.4f}  val mAP {100 * row['val_map']:.2f}  "
        assert any(record.getMessage().startswith(line) for record in caplog.records)


def test_collapsed_prototypes_are_logged_as_a_warning(train, color_set, tmp_path, caplog):
    path = tmp_path / "same.npz"  # minus the mean, nothing is left
    np.savez(path, names=np.array(THREE_LABELS), emb=np.ones((3, 12)))
    train(color_set(8), epochs=2, label_encoder=str(path))
    cosines = [row["prototype_cosine"] for row in read_rows(tmp_path / "run")]
    assert cosines == pytest.approx([1, 1])
    assert len(warnings(caplog)) == 2
    assert "collapsed" in warnings(caplog)[0]


@pytest.mark.parametrize("scores", [{"cls_score": False}, {"navigator_score": False}])
def test_each_score_alone_can_be_trained(train, color_set, tmp_path, scores):
    train(color_set(16), epochs=4, **scores)
    rows = read_rows(tmp_path / "run")
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_best_epoch_is_kept(train, color_set, tmp_path, monkeypatch):
    maps = iter([0.5, 0.8, 0.3, 0.8])
    monkeypatch.setattr("patchct_edge.train.loop.evaluate_map", lambda *_: next(maps))
    weights_by_epoch: dict[Any, Any] = {}
    write_run = checkpoint.write_run

    def write_and_copy(folder, *args, **options):
        write_run(folder, *args, **options)
        weights_by_epoch[len(weights_by_epoch) + 1] = load_file(folder / "last.safetensors")

    monkeypatch.setattr(checkpoint, "write_run", write_and_copy)
    data = color_set(8)
    state, _ = train(data, data, epochs=4)
    assert (state.best_map, state.best_epoch) == (0.8, 2)
    folder = tmp_path / "run"
    for name, epoch in (("best", 2), ("last", 4)):
        weights = load_file(folder / f"{name}.safetensors")
        assert all(torch.equal(weights[key], weights_by_epoch[epoch][key]) for key in weights)
        model, _ = load_model(folder, name)
        assert torch.equal(model.state_dict()["log_tau"], weights_by_epoch[epoch]["log_tau"])


@pytest.mark.parametrize("val", ["none", "no positives"])
def test_without_a_val_map_the_last_epoch_is_the_best(train, color_set, tmp_path, val):
    data = color_set(8)
    blank = tuple(dataclasses.replace(sample, labels=()) for sample in data.samples)
    state, _ = train(data, None if val == "none" else Dataset(blank, THREE_LABELS), epochs=2)
    assert (state.best_map, state.best_epoch) == (None, 2)
    folder = tmp_path / "run"
    assert load_file(folder / "best.safetensors").keys()
    for key, value in load_file(folder / "best.safetensors").items():
        assert torch.equal(value, load_file(folder / "last.safetensors")[key])
    assert "NaN" not in (folder / "run.json").read_text() + (folder / "metrics.jsonl").read_text()


def test_a_new_run_in_an_old_folder_replaces_its_metrics(train, color_set, tmp_path):
    train(color_set(8), epochs=3)
    train(color_set(8), epochs=1, seed=5)
    assert [row["epoch"] for row in untimed_rows(tmp_path / "run")] == [1]
    assert read_state(tmp_path / "run")[1].epochs_done == 1


@pytest.mark.parametrize(
    ("error", "size", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 8, "--batch-size 4"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "--batch-size 1"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 7, "--batch-size 3"),
    ],
)
def test_out_of_memory_names_a_batch_size_to_try(
    train, color_set, monkeypatch, error, size, advice
):
    def fail(*_):
        raise error

    monkeypatch.setattr(PatchCT, "compute_loss", fail)
    with pytest.raises(UserError, match="out of memory") as caught:
        train(color_set(8), batch_size=size)
    assert advice in str(caught.value)
    assert f"batch_size={size}" in str(caught.value)


def test_another_runtime_error_is_raised_as_it_is(train, color_set, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(PatchCT, "compute_loss", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        train(color_set(8))


def test_a_loss_that_is_not_finite_stops_the_run(train, color_set, monkeypatch, tmp_path):
    compute_loss = PatchCT.compute_loss

    def return_nan(*args):
        losses = compute_loss(*args)
        return Losses(losses.total * math.nan, losses.asymmetric, losses.transport)

    monkeypatch.setattr(PatchCT, "compute_loss", return_nan)
    with pytest.raises(UserError, match="not finite at epoch 1, step 1"):
        train(color_set(8))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("sign", "bound"), [(1, 0.03), (-1, 1)])
def test_tau_is_clamped_to_its_bounds(train, color_set, monkeypatch, tmp_path, sign, bound):
    def pull_tau(model, scores, *_):
        loss = sign * model.log_tau + 0 * scores.logits.sum()
        return Losses(loss, loss, loss)

    monkeypatch.setattr(PatchCT, "compute_loss", pull_tau)
    train(color_set(16), lr_head=2.0)
    log_tau = load_file(tmp_path / "run" / "state.safetensors")["model.log_tau"]
    assert log_tau.exp().item() == pytest.approx(bound)


def test_an_unreadable_photo_stops_the_run(train, color_set):
    data = color_set(8)
    data.paths[3].write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"train-3\.png"):
        train(data)
