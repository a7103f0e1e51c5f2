"""Training runs on colored squares: learning, the run folder, resuming, --from, failures."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from patchct_edge.datasets import Dataset
from patchct_edge.errors import ImageError, UserError
from patchct_edge.train import checkpoint
from patchct_edge.train.batches import Batches
from patchct_edge.train.checkpoint import load_model, read_state
from patchct_edge.train.device import Normalize
from patchct_edge.train.loop import train_model
from patchct_edge.train.model import Losses, PatchCT, mean_prototype_cosine
from patchct_edge.train.trainer import evaluate_map

THREE = ("red", "green", "blue")


@pytest.fixture
def train(tmp_path, settings, progress_recorder):
    """Train into a folder; return the state of the run and the recorded progress."""

    def run_training(
        dataset, val=None, name="run", stop=None, resume=False, start_from=None, **changes
    ):
        progress = progress_recorder(stop)
        state = train_model(
            dataset,
            val,
            tmp_path / name,
            settings(**changes),
            progress,
            device="cpu",
            resume=resume,
            start_from=start_from,
        )
        return state, progress

    return run_training


def read_rows(folder):
    """Return the rows of the metrics file."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed_rows(folder):
    """Return the rows of the metrics file without the time that each epoch took."""
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_rows(folder)
    ]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def assert_weights_equal(one, other, *names):
    for name in names:
        a, b = load_file(one / f"{name}.safetensors"), load_file(other / f"{name}.safetensors")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


# Learning


@pytest.mark.parametrize("labels", ["learned", "table"])
def test_a_run_learns_colors(train, color_set, table, tmp_path, caplog, labels):
    data, val = color_set(40), color_set(24, "val")
    label_encoder = str(table(*THREE)) if labels == "table" else labels
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
    np.savez(path, names=np.array(THREE), emb=np.ones((3, 12)))
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


# The run folder


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
    assert state.labels == THREE
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
        dataclasses.replace(s, labels=tuple(names[THREE.index(label)] for label in s.labels))
        for s in data.samples
    ]
    train(Dataset(tuple(samples), names), epochs=1)
    assert load_model(tmp_path / "run")[1].labels == names


def test_the_best_epoch_is_kept(train, color_set, tmp_path, monkeypatch):
    maps = iter([0.5, 0.8, 0.3, 0.8])
    monkeypatch.setattr("patchct_edge.train.loop.evaluate_map", lambda *_: next(maps))
    weights_by_epoch = {}
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
    state, _ = train(data, None if val == "none" else Dataset(blank, THREE), epochs=2)
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


# Stopping and resuming

VARIED = {"epochs": 3, "layers": (-2, -1), "balance": 0.4, "crop_scale": 0.5}


@pytest.mark.parametrize("labels", ["learned", "table", "text"])
def test_a_resumed_run_equals_an_uninterrupted_one(train, color_set, table, bert, tmp_path, labels):
    data, val = color_set(20), color_set(8, "val")
    changes = {
        "learned": {},
        "table": {"label_encoder": str(table(*THREE)), "lr_backbone": 0},
        "text": {"label_encoder": str(bert), "train_text_encoder": True, "cls_score": False},
    }[labels] | VARIED
    whole, _ = train(data, val, "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        train(data, val, "parts", stop=("epoch 2", 2), **changes)
    assert read_state(tmp_path / "parts")[1].epochs_done == 1
    resumed, progress = train(data, val, "parts", resume=True, **changes)
    assert resumed == whole
    assert list(progress.stages) == ["epoch 2", "validation", "epoch 3"]
    assert untimed_rows(tmp_path / "parts") == untimed_rows(tmp_path / "whole")
    assert_weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")


def test_the_same_run_twice_gives_identical_weights(train, color_set, tmp_path):
    data = color_set(16)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train(data, None, name, seed=seed)
    assert_weights_equal(tmp_path / "one", tmp_path / "two", "best", "last", "state")
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
    whole, _ = train(data, None, "whole", epochs=3)
    calls = []
    save_file = checkpoint.save_file

    def interrupt(*args, **options):
        calls.append(args)
        if len(calls) == 3 + file + 1:  # in epoch 2
            raise KeyboardInterrupt
        save_file(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(data, None, "parts", epochs=3)
    monkeypatch.undo()
    assert load_model(tmp_path / "parts")[1].epochs_done == 1
    assert train(data, None, "parts", epochs=3, resume=True)[0] == whole
    assert_weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")
    assert not list((tmp_path / "parts").glob("*.tmp"))


def test_a_full_disk_keeps_the_epoch_before(train, color_set, tmp_path, monkeypatch):
    data = color_set(16)
    whole, _ = train(data, None, "whole", epochs=3)
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
            train(data, None, "parts", epochs=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert not list((tmp_path / "parts").glob("*.tmp"))
    assert load_model(tmp_path / "parts")[1].epochs_done == 1
    assert train(data, None, "parts", epochs=3, resume=True)[0] == whole
    assert_weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")


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
    for other in (Dataset(changed, THREE), Dataset(data.samples[1:], THREE)):
        with pytest.raises(UserError, match="the dataset has changed"):
            train(other, resume=True, epochs=2)
    for labels in (THREE[::-1], ("red", "green")):
        with pytest.raises(UserError, match="with other labels"):
            train(Dataset(data.samples, labels), resume=True, epochs=2)


def test_resuming_a_run_that_does_not_exist_is_refused(train, color_set):
    with pytest.raises(UserError, match="no such run"):
        train(color_set(8), resume=True)


# Starting from another run


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
    assert state.labels == THREE
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


def test_a_missing_device_is_reported(color_set, settings, tmp_path):
    for device in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match="the device cannot be used"):
            train_model(color_set(8), None, tmp_path / "run", settings(), device=device)


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
    train(data, name="one", epochs=1, label_encoder=str(table(*THREE)))
    changes = {
        "dim": {"dim": 8, "label_encoder": str(table(*THREE))},
        "width": {"label_encoder": str(table(*THREE, width=5))},
        "learned": {"label_encoder": "learned"},
        "text": {"label_encoder": str(bert), "train_text_encoder": True},
    }[change]
    with pytest.raises(UserError, match="label_encoder as"):
        train(data, name="two", start_from=tmp_path / "one", **changes)
    assert not (tmp_path / "two").exists()


# Failures


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


def test_a_trained_text_encoder_is_read_back(train, color_set, bert, tmp_path):
    train(color_set(16), label_encoder=str(bert), train_text_encoder=True)
    folder = tmp_path / "run"
    assert (folder / "text_encoder" / "config.json").is_file()
    model, _ = load_model(folder, "last")
    row = untimed_rows(folder)[-1]
    with torch.no_grad():
        prototypes = model.compute_prototypes()
        assert torch.equal(prototypes, load_model(folder, "last")[0].compute_prototypes())
    assert mean_prototype_cosine(prototypes) == pytest.approx(row["prototype_cosine"], abs=1e-6)
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


def test_pixels_are_normalized_with_mean_and_std(train, color_set):
    state, _ = train(color_set(8), epochs=1)
    preprocessing = dataclasses.replace(
        state.preprocessing, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 1.0)
    )
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    normalized = Normalize(preprocessing, "cpu")(images)
    assert normalized.shape == (2, 3, 4, 4)
    for c in range(3):
        expected = (images[..., c] / 255 - preprocessing.mean[c]) / preprocessing.std[c]
        torch.testing.assert_close(normalized[:, c], expected)
