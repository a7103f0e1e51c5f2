"""Interrupted runs: what they keep, and resuming them."""

from __future__ import annotations

import dataclasses
import resource

import pytest
import torch
from runs import THREE_LABELS, assert_weights_equal, untimed_rows

from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.train import checkpoint
from patchct_edge.train.checkpoint import load_model, read_state

WEIGHT_FILES = ("best", "last", "state")
VARIED_SETTINGS = {"epochs": 3, "layers": (-2, -1), "balance": 0.4, "crop_scale": 0.5}


@pytest.mark.parametrize("labels", ["learned", "table", "text"])
def test_a_resumed_run_equals_an_uninterrupted_one(train, color_set, table, bert, tmp_path, labels):
    data, val = color_set(20), color_set(8, "val")
    changes = {
        "learned": {},
        "table": {"label_encoder": str(table(*THREE_LABELS)), "lr_backbone": 0},
        "text": {"label_encoder": str(bert), "train_text_encoder": True, "cls_score": False},
    }[labels] | VARIED_SETTINGS
    uninterrupted, _ = train(data, val, "uninterrupted", **changes)
    with pytest.raises(KeyboardInterrupt):
        train(data, val, "interrupted", stop=("epoch 2", 2), **changes)
    assert read_state(tmp_path / "interrupted")[1].epochs_done == 1
    resumed, progress = train(data, val, "interrupted", resume=True, **changes)
    assert resumed == uninterrupted
    assert list(progress.stages) == ["epoch 2", "validation", "epoch 3"]
    assert untimed_rows(tmp_path / "interrupted") == untimed_rows(tmp_path / "uninterrupted")
    assert_weights_equal(
        tmp_path / "interrupted", tmp_path / "uninterrupted", "best", "last", "state"
    )


def test_the_same_run_twice_gives_identical_weights(train, color_set, tmp_path):
    data = color_set(16)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train(data, None, name, seed=seed)
    assert_weights_equal(tmp_path / "one", tmp_path / "two", *WEIGHT_FILES)
    assert untimed_rows(tmp_path / "one") == untimed_rows(tmp_path / "two")
    assert untimed_rows(tmp_path / "one") != untimed_rows(tmp_path / "other")


def test_an_interrupted_run_keeps_its_last_finished_epoch(train, color_set, tmp_path):
    data = color_set(16)
    with pytest.raises(KeyboardInterrupt):
        train(data, epochs=3, stop=("epoch 2", 2))
    folder = tmp_path / "run"
    assert [row["epoch"] for row in untimed_rows(folder)] == [1]
    for which in ("best", "last"):
        model, state = load_model(folder, which)
        assert (state.epochs_done, state.best_epoch) == (1, 1)
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 32)).logits.isfinite().all()


@pytest.mark.parametrize("file", [0, 1, 2])
def test_an_interrupted_write_leaves_the_epoch_before(
    train, color_set, tmp_path, monkeypatch, file
):
    data = color_set(16)
    uninterrupted, _ = train(data, None, "uninterrupted", epochs=3)
    calls = []
    save_file = checkpoint.save_file

    def interrupt(*args, **options):
        calls.append(args)
        if len(calls) == 3 + file + 1:  # in epoch 2
            raise KeyboardInterrupt
        save_file(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(data, None, "interrupted", epochs=3)
    monkeypatch.undo()
    assert load_model(tmp_path / "interrupted")[1].epochs_done == 1
    assert train(data, None, "interrupted", epochs=3, resume=True)[0] == uninterrupted
    assert_weights_equal(
        tmp_path / "interrupted", tmp_path / "uninterrupted", "best", "last", "state"
    )
    assert not list((tmp_path / "interrupted").glob("*.tmp"))


def test_a_full_disk_keeps_the_epoch_before(train, color_set, tmp_path, monkeypatch):
    data = color_set(16)
    uninterrupted, _ = train(data, None, "uninterrupted", epochs=3)
    calls = []
    save_file = checkpoint.save_file
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(*args, **options):
        calls.append(args)
        if len(calls) == 5:  # in epoch 2, after one of its files was written
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        save_file(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", fill_the_disk)
    try:
        with pytest.raises(UserError, match=r"(?s)cannot write .*tmp.*too large.*--resume"):
            train(data, None, "interrupted", epochs=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert not list((tmp_path / "interrupted").glob("*.tmp"))
    assert load_model(tmp_path / "interrupted")[1].epochs_done == 1
    assert train(data, None, "interrupted", epochs=3, resume=True)[0] == uninterrupted
    assert_weights_equal(
        tmp_path / "interrupted", tmp_path / "uninterrupted", "best", "last", "state"
    )


@pytest.mark.parametrize("name", ["last", "state"])
def test_files_of_different_epochs_are_refused(train, color_set, tmp_path, name):
    """A process may die between the renames of two files of an epoch."""
    data = color_set(16)
    train(data, None, "longer", epochs=2)
    train(data, None, "run", epochs=1)
    file = f"{name}.safetensors"
    (tmp_path / "longer" / file).replace(tmp_path / "run" / file)
    with pytest.raises(UserError, match=f"{name}.* is not of the last finished epoch"):
        train(data, None, "run", epochs=2, resume=True)


def test_a_finished_run_has_nothing_to_resume(train, color_set, tmp_path):
    data = color_set(8)
    state, _ = train(data)
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    again, progress = train(data, resume=True)
    assert again == state
    assert progress.stages == {}
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    longer, progress = train(data, resume=True, epochs=3)
    assert longer.epochs_done == 3
    assert list(progress.stages) == ["epoch 3"]


def test_resuming_with_other_settings_is_refused_with_their_names(train, color_set):
    data = color_set(8)
    train(data, epochs=1)
    with pytest.raises(UserError, match="other settings") as caught:
        train(data, resume=True, epochs=3, lr_head=1e-4, flip=False, layers=(-2, -1))
    message = str(caught.value)
    assert all(name in message for name in ("lr_head", "flip", "layers"))
    assert "epochs" not in message


def test_resuming_with_other_data_is_refused(train, color_set):
    data = color_set(8)
    train(data, epochs=1)
    first, *others = data.samples
    changed = (dataclasses.replace(first, labels=("blue",)), *others)
    for other in (Dataset(changed, THREE_LABELS), Dataset(data.samples[1:], THREE_LABELS)):
        with pytest.raises(UserError, match="the dataset has changed"):
            train(other, resume=True, epochs=2)
    for labels in (THREE_LABELS[::-1], ("red", "green")):
        with pytest.raises(UserError, match="with other labels"):
            train(Dataset(data.samples, labels), resume=True, epochs=2)


def test_resuming_a_run_that_does_not_exist_is_refused(train, color_set):
    with pytest.raises(UserError, match="no such run"):
        train(color_set(8), resume=True)
