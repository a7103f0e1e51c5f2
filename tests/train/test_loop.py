"""Training runs on coloured squares: learning, the run folder, stopping, resuming, faults."""

from __future__ import annotations

import csv
import dataclasses
import json
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
from patchct_edge.train.loop import evaluate_map, train_model
from patchct_edge.train.model import Losses, PatchCT, prototype_cosine

THREE = ("red", "green", "blue")


@pytest.fixture
def run(tmp_path, settings, recorder):
    """Train into a folder; return its state and what was told."""

    def go(data, val=None, name="run", stop=None, resume=False, start_from=None, **changes):
        progress = recorder(stop)
        state = train_model(
            data,
            val,
            tmp_path / name,
            settings(**changes),
            progress,
            device="cpu",
            resume=resume,
            start_from=start_from,
        )
        return state, progress

    return go


def rows(folder):
    """Return the rows of the metrics, without the time they took."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def weights_equal(one, other, *names):
    for name in names:
        a, b = load_file(one / f"{name}.safetensors"), load_file(other / f"{name}.safetensors")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


# Learning


@pytest.mark.parametrize("labels", ["learned", "table"])
def test_it_learns_colours(run, colour_set, table, tmp_path, labels):
    data, val = colour_set(40), colour_set(24, "val")
    label_encoder = str(table(*THREE)) if labels == "table" else labels
    state, progress = run(data, val, epochs=10, label_encoder=label_encoder)
    assert state.best_map > 0.9
    assert progress.rows[-1]["loss"] < 0.5 * progress.rows[0]["loss"]
    assert progress.notes == []
    best, _ = load_model(tmp_path / "run")
    figure = evaluate_map(
        best, Batches(val, state.preprocessing, best.config), Normalize(state.preprocessing, "cpu")
    )
    assert figure == pytest.approx(state.best_map)


def test_collapsed_prototypes_are_noticed(run, colour_set, tmp_path):
    path = tmp_path / "same.npz"  # once the mean is taken off, nothing is left
    np.savez(path, names=np.array(THREE), emb=np.ones((3, 12)))
    _, progress = run(colour_set(8), epochs=2, label_encoder=str(path))
    assert [row["prototype_cosine"] for row in progress.rows] == pytest.approx([1, 1])
    assert len(progress.notes) == 2
    assert "collapsed" in progress.notes[0]


@pytest.mark.parametrize("scores", [{"cls_score": False}, {"navigator_score": False}])
def test_either_score_alone_trains(run, colour_set, scores):
    _, progress = run(colour_set(16), epochs=4, **scores)
    assert progress.rows[-1]["loss"] < progress.rows[0]["loss"]


# The run folder


def test_the_run_folder(run, colour_set, tmp_path, settings):
    data = dataclasses.replace(colour_set(16), prompts={"red": "A ripe tomato."})
    state, progress = run(data, colour_set(8, "val"))
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
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert found == progress.rows
    assert [row["epoch"] for row in found] == [1, 2]
    assert all(math.isfinite(value) for row in found for value in row.values())
    with (folder / "metrics.csv").open(newline="") as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == found


def test_no_file_is_a_pickle(run, colour_set, tmp_path):
    run(colour_set(8), epochs=1)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not content.startswith((b"\x80", b"PK"))
            assert path.suffix in (".json", ".jsonl", ".csv", ".safetensors")


def test_labels_may_be_any_text(run, colour_set, tmp_path):
    names = ("été|x", "Hund 🐕", '"q", 1')
    data = colour_set(8)
    samples = [
        dataclasses.replace(s, labels=tuple(names[THREE.index(label)] for label in s.labels))
        for s in data.samples
    ]
    run(Dataset(tuple(samples), names), epochs=1)
    assert load_model(tmp_path / "run")[1].labels == names


def test_the_best_epoch_is_kept(run, colour_set, tmp_path, monkeypatch):
    figures = iter([0.5, 0.8, 0.3, 0.8])
    monkeypatch.setattr("patchct_edge.train.loop.evaluate_map", lambda *_: next(figures))
    kept = {}
    write = checkpoint.write_run

    def watched(folder, *args, **options):
        write(folder, *args, **options)
        kept[len(kept) + 1] = load_file(folder / "last.safetensors")

    monkeypatch.setattr(checkpoint, "write_run", watched)
    data = colour_set(8)
    state, _ = run(data, data, epochs=4)
    assert (state.best_map, state.best_epoch) == (0.8, 2)
    folder = tmp_path / "run"
    for name, epoch in (("best", 2), ("last", 4)):
        found = load_file(folder / f"{name}.safetensors")
        assert all(torch.equal(found[key], kept[epoch][key]) for key in found)
        model, _ = load_model(folder, name)
        assert torch.equal(model.state_dict()["log_tau"], kept[epoch]["log_tau"])


@pytest.mark.parametrize("val", ["none", "no positives"])
def test_without_a_figure_the_last_epoch_is_the_best(run, colour_set, tmp_path, val):
    data = colour_set(8)
    blank = tuple(dataclasses.replace(sample, labels=()) for sample in data.samples)
    state, _ = run(data, None if val == "none" else Dataset(blank, THREE), epochs=2)
    assert (state.best_map, state.best_epoch) == (None, 2)
    folder = tmp_path / "run"
    assert load_file(folder / "best.safetensors").keys()
    for key, value in load_file(folder / "best.safetensors").items():
        assert torch.equal(value, load_file(folder / "last.safetensors")[key])
    assert "NaN" not in (folder / "run.json").read_text() + (folder / "metrics.jsonl").read_text()


def test_a_new_run_in_an_old_folder_starts_anew(run, colour_set, tmp_path):
    run(colour_set(8), epochs=3)
    run(colour_set(8), epochs=1, seed=5)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1]
    assert read_state(tmp_path / "run")[1].epochs_done == 1


# Stopping and resuming

VARIED = {"epochs": 3, "layers": (-2, -1), "balance": 0.4, "crop_scale": 0.5}


@pytest.mark.parametrize("labels", ["learned", "table", "text"])
def test_a_resumed_run_is_as_if_never_stopped(run, colour_set, table, bert, tmp_path, labels):
    data, val = colour_set(20), colour_set(8, "val")
    changes = {
        "learned": {},
        "table": {"label_encoder": str(table(*THREE)), "lr_backbone": 0},
        "text": {"label_encoder": str(bert), "train_text_encoder": True, "cls_score": False},
    }[labels] | VARIED
    whole, _ = run(data, val, "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run(data, val, "parts", stop=(2, 2), **changes)
    assert read_state(tmp_path / "parts")[1].epochs_done == 1
    resumed, progress = run(data, val, "parts", resume=True, **changes)
    assert resumed == whole
    assert [row["epoch"] for row in progress.rows] == [2, 3]
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")


def test_the_same_run_twice_is_the_same_to_the_bit(run, colour_set, tmp_path):
    data = colour_set(16)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        run(data, None, name, seed=seed)
    weights_equal(tmp_path / "one", tmp_path / "two", "best", "last", "state")
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert rows(tmp_path / "one") != rows(tmp_path / "other")


def test_an_interrupted_run_keeps_its_last_finished_epoch(run, colour_set, tmp_path):
    data = colour_set(16)
    with pytest.raises(KeyboardInterrupt):
        run(data, epochs=3, stop=(2, 2))
    folder = tmp_path / "run"
    assert [row["epoch"] for row in rows(folder)] == [1]
    for which in ("best", "last"):
        model, state = load_model(folder, which)
        assert (state.epochs_done, state.best_epoch) == (1, 1)
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 32, 32)).logits.isfinite().all()


@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_write_that_is_cut_off_leaves_the_epoch_before(
    run, colour_set, tmp_path, monkeypatch, file
):
    data = colour_set(16)
    whole, _ = run(data, None, "whole", epochs=3)
    saved = []
    save = checkpoint.save_file

    def cut_off(*args, **options):
        saved.append(args)
        if len(saved) == 3 + file + 1:  # in epoch 2
            raise KeyboardInterrupt
        save(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(data, None, "parts", epochs=3)
    monkeypatch.undo()
    assert load_model(tmp_path / "parts")[1].epochs_done == 1
    assert run(data, None, "parts", epochs=3, resume=True)[0] == whole
    weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")
    assert not list((tmp_path / "parts").glob("*.tmp"))


def test_a_full_disk_in_mid_epoch_keeps_the_epoch_before(run, colour_set, tmp_path, monkeypatch):
    data = colour_set(16)
    whole, _ = run(data, None, "whole", epochs=3)
    saved = []
    save = checkpoint.save_file
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(*args, **options):
        saved.append(args)
        if len(saved) == 5:  # in epoch 2, after a file of it was written
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        save(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", fill_the_disk)
    try:
        with pytest.raises(UserError, match=r"(?s)cannot write .*tmp.*too large.*--resume"):
            run(data, None, "parts", epochs=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert not list((tmp_path / "parts").glob("*.tmp"))
    assert load_model(tmp_path / "parts")[1].epochs_done == 1
    assert run(data, None, "parts", epochs=3, resume=True)[0] == whole
    weights_equal(tmp_path / "parts", tmp_path / "whole", "best", "last", "state")


@pytest.mark.parametrize("name", ["last", "state"])
def test_files_of_two_epochs_are_not_mixed(run, colour_set, tmp_path, name):
    """A process may die after one file of an epoch has taken its place and before another."""
    data = colour_set(16)
    run(data, None, "longer", epochs=2)
    run(data, None, "run", epochs=1)
    file = f"{name}.safetensors"
    (tmp_path / "longer" / file).replace(tmp_path / "run" / file)
    with pytest.raises(UserError, match=f"{name}.* is not of the last finished epoch"):
        run(data, None, "run", epochs=2, resume=True)


def test_a_finished_run_has_nothing_to_resume(run, colour_set, tmp_path):
    data = colour_set(8)
    state, _ = run(data)
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    again, progress = run(data, resume=True)
    assert again == state
    assert progress.rows == []
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    longer, progress = run(data, resume=True, epochs=3)
    assert longer.epochs_done == 3
    assert [row["epoch"] for row in progress.rows] == [3]


def test_resuming_with_other_settings_is_refused_by_name(run, colour_set):
    data = colour_set(8)
    run(data, epochs=1)
    with pytest.raises(UserError, match="other settings") as caught:
        run(data, resume=True, epochs=3, lr_head=1e-4, flip=False, layers=(-2, -1))
    message = str(caught.value)
    assert all(name in message for name in ("lr_head", "flip", "layers"))
    assert "epochs" not in message


def test_resuming_with_other_data_is_refused(run, colour_set):
    data = colour_set(8)
    run(data, epochs=1)
    first, *others = data.samples
    changed = (dataclasses.replace(first, labels=("blue",)), *others)
    for other in (Dataset(changed, THREE), Dataset(data.samples[1:], THREE)):
        with pytest.raises(UserError, match="the data set has changed"):
            run(other, resume=True, epochs=2)
    for labels in (THREE[::-1], ("red", "green")):
        with pytest.raises(UserError, match="with other labels"):
            run(Dataset(data.samples, labels), resume=True, epochs=2)


def test_resuming_what_never_began_is_refused(run, colour_set):
    with pytest.raises(UserError, match="no such run"):
        run(colour_set(8), resume=True)


# Starting from another run


def test_a_table_may_gain_a_label(run, colour_set, table, tmp_path):
    few = colour_set(16, labels=("red", "green"))
    run(few, name="few", label_encoder=str(table("red", "green")), lr_head=0.02)
    path = table("blue", "green", "red", file="more.npz")
    more = colour_set(16)
    state, _ = run(
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
        assert new.prototypes().shape == (3, 16)
        torch.testing.assert_close(new.prototypes()[:2], old.prototypes())
        pixels = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(new(pixels).logits[:, :2], old(pixels).logits)


def test_texts_that_train_may_gain_and_reorder_labels(run, colour_set, bert, tmp_path):
    text = {"label_encoder": str(bert), "train_text_encoder": True}
    run(colour_set(16, labels=("red", "green")), name="few", **text)
    for labels in (("green", "red"), ("blue", "green", "red")):
        run(
            colour_set(16, labels=labels),
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
            moved = new.prototypes()[[labels.index("red"), labels.index("green")]]
            torch.testing.assert_close(moved, old.prototypes())


def test_starting_from_a_run_takes_up_its_weights(run, colour_set, tmp_path):
    data = colour_set(16)
    first, progress = run(data, name="one", epochs=6)
    second, again = run(data, name="two", epochs=1, start_from=tmp_path / "one", lr_head=1e-4)
    assert again.rows[0]["loss"] < 0.8 * progress.rows[0]["loss"]
    assert (first.epochs_done, second.epochs_done) == (6, 1)


def test_starting_from_a_run_other_settings_are_heeded_or_refused(run, colour_set, vit, tmp_path):
    data = colour_set(8)
    first, _ = run(data, name="one", epochs=1)
    model, _ = load_model(tmp_path / "one")
    with pytest.raises(UserError, match="comes with the run"):
        run(data, name="two", image_encoder=f"{vit}/.", start_from=tmp_path / "one")
    changes = {"fit": "crop", "interpolation": "bicubic", "lr_head": 0}
    second, _ = run(data, name="two", start_from=tmp_path / "one", epochs=1, **changes)
    changed = dataclasses.replace(first.preprocessing, fit="crop", interpolation="bicubic")
    assert second.preprocessing == changed
    assert load_model(tmp_path / "two")[0].tau.item() == pytest.approx(model.tau.item())
    run(data, name="three", start_from=tmp_path / "one", epochs=1, tau=0.5, lr_head=0)
    assert load_model(tmp_path / "three")[0].tau.item() == pytest.approx(0.5)


def test_a_run_goes_on_at_a_higher_resolution(run, colour_set, tmp_path):
    data = colour_set(8)
    first, _ = run(data, name="one", epochs=1)
    larger, _ = run(data, name="two", start_from=tmp_path / "one", epochs=1, image_size=48)
    assert (first.preprocessing.size, larger.preprocessing.size) == (32, 48)
    model, state = load_model(tmp_path / "two")
    assert (model.image.size, model.image.grid, state.preprocessing.size) == (48, 6, 48)
    again, _ = run(data, name="three", start_from=tmp_path / "two", epochs=1)
    assert again.preprocessing.size == 48


def test_a_device_that_is_not_there_is_told(colour_set, settings, recorder, tmp_path):
    for device in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match="the device cannot be used"):
            train_model(
                colour_set(8), None, tmp_path / "run", settings(), recorder(), device=device
            )


def test_learned_labels_cannot_start_from_other_labels(run, colour_set, tmp_path):
    run(colour_set(8, labels=("red", "green")), name="few", epochs=1)
    with pytest.raises(UserError, match="only for the labels they were trained on") as caught:
        run(colour_set(8), name="more", start_from=tmp_path / "few")
    assert "red, green, blue" in str(caught.value)
    with pytest.raises(UserError, match="only for the labels"):
        run(colour_set(8, labels=("green", "red")), name="more", start_from=tmp_path / "few")


@pytest.mark.parametrize("change", ["dim", "width", "learned", "text"])
def test_a_run_of_other_settings_cannot_be_started_from(
    run, colour_set, table, bert, tmp_path, change
):
    data = colour_set(8)
    run(data, name="one", epochs=1, label_encoder=str(table(*THREE)))
    changes = {
        "dim": {"dim": 8, "label_encoder": str(table(*THREE))},
        "width": {"label_encoder": str(table(*THREE, width=5))},
        "learned": {"label_encoder": "learned"},
        "text": {"label_encoder": str(bert), "train_text_encoder": True},
    }[change]
    with pytest.raises(UserError, match="label_encoder as"):
        run(data, name="two", start_from=tmp_path / "one", **changes)
    assert not (tmp_path / "two").exists()


# What goes wrong


@pytest.mark.parametrize(
    ("error", "size", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 8, "--batch-size 4"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "--batch-size 1"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 7, "--batch-size 3"),
    ],
)
def test_out_of_memory_names_a_batch_size_to_try(run, colour_set, monkeypatch, error, size, advice):
    def fails(*_):
        raise error

    monkeypatch.setattr(PatchCT, "loss", fails)
    with pytest.raises(UserError, match="out of memory") as caught:
        run(colour_set(8), batch_size=size)
    assert advice in str(caught.value)
    assert f"batch_size={size}" in str(caught.value)


def test_another_runtime_error_is_a_bug_and_comes_through(run, colour_set, monkeypatch):
    def fails(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(PatchCT, "loss", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        run(colour_set(8))


def test_a_loss_that_is_not_finite_stops_the_run(run, colour_set, monkeypatch, tmp_path):
    loss = PatchCT.loss

    def broken(*args):
        parts = loss(*args)
        return Losses(parts.total * math.nan, parts.asymmetric, parts.transport)

    monkeypatch.setattr(PatchCT, "loss", broken)
    with pytest.raises(UserError, match="not finite at epoch 1, step 1"):
        run(colour_set(8))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("pull", "bound"), [(1, 0.03), (-1, 1)])
def test_tau_is_held_within_its_bounds(run, colour_set, monkeypatch, tmp_path, pull, bound):
    def pulled(model, scores, *_):
        loss = pull * model.log_tau + 0 * scores.logits.sum()
        return Losses(loss, loss, loss)

    monkeypatch.setattr(PatchCT, "loss", pulled)
    run(colour_set(16), lr_head=2.0)
    log_tau = load_file(tmp_path / "run" / "state.safetensors")["model.log_tau"]
    assert log_tau.exp().item() == pytest.approx(bound)


def test_a_picture_that_cannot_be_decoded_stops_the_run(run, colour_set):
    data = colour_set(8)
    data.paths[3].write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"train-3\.png"):
        run(data)


def test_a_text_encoder_that_trains_is_read_back(run, colour_set, bert, tmp_path):
    run(colour_set(16), label_encoder=str(bert), train_text_encoder=True)
    folder = tmp_path / "run"
    assert (folder / "text_encoder" / "config.json").is_file()
    model, _ = load_model(folder, "last")
    row = rows(folder)[-1]
    with torch.no_grad():
        prototypes = model.prototypes()
        assert torch.equal(prototypes, load_model(folder, "last")[0].prototypes())
    assert prototype_cosine(prototypes) == pytest.approx(row["prototype_cosine"], abs=1e-6)
    before = load_file(bert / "model.safetensors")
    after = {k.removeprefix("labels.model."): v for k, v in model.state_dict().items()}
    assert not torch.equal(
        after["embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )


def test_a_model_that_is_read_back_is_ready_to_score(run, colour_set, tmp_path):
    run(colour_set(8), epochs=1)
    model, _ = load_model(tmp_path / "run")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(pixels).logits, model(pixels).logits)  # no dropout


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"damaged" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_damaged_weights_are_refused_by_name(run, colour_set, tmp_path, spoil):
    data = colour_set(8)
    run(data, epochs=1)
    for name in ("best", "last", "state"):
        path = tmp_path / "run" / f"{name}.safetensors"
        spoil(path)
        with pytest.raises(UserError, match=rf"cannot read .*{name}\.safetensors"):
            load_model(tmp_path / "run", name)
    with pytest.raises(UserError, match=r"cannot read .*state\.safetensors"):
        run(data, epochs=2, resume=True)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"labels": 3}'])
def test_a_damaged_run_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        load_model(tmp_path)


def test_weights_of_another_width_are_refused(run, colour_set, tmp_path):
    run(colour_set(8), epochs=1)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dim": 24}))
    with pytest.raises(UserError, match="do not fit") as caught:
        load_model(tmp_path / "run")
    assert "project_label" in str(caught.value)


def test_pixels_are_normalised_as_the_recipe_says(run, colour_set):
    state, _ = run(colour_set(8), epochs=1)
    preprocessing = dataclasses.replace(
        state.preprocessing, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 1.0)
    )
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    found = Normalize(preprocessing, "cpu")(images)
    assert found.shape == (2, 3, 4, 4)
    for c in range(3):
        expected = (images[..., c] / 255 - preprocessing.mean[c]) / preprocessing.std[c]
        torch.testing.assert_close(found[:, c], expected)
