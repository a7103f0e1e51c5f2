"""patchct train: settings, datasets, resuming, and interrupts."""

from __future__ import annotations

import json
import os
import signal

import pytest

from patchct_edge.train.checkpoint import load_model, read_state
from patchct_edge.train.config import list_settings


@pytest.fixture(scope="module")
def data(write_squares, tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"), train=24, val=16)


@pytest.fixture(scope="module")
def run(train_cli, data, tmp_path_factory):
    """A run of one epoch; its learned labels take no table."""
    run = tmp_path_factory.mktemp("runs") / "run"
    train_cli(data, run, "--epochs", 1)
    return run


def read_metrics(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_epochs_and_the_next_command_are_logged(train_cli, data, tmp_path):
    result = train_cli(data, tmp_path / "run", "--epochs", 2)
    assert result.stdout == ""
    rows = read_metrics(tmp_path / "run")
    for row, line in zip(rows, result.stderr.splitlines(), strict=False):
        figures = f"loss {row['loss']:.4f}  val mAP {100 * row['val_map']:.2f}"
        assert line.startswith(f"epoch {row['epoch']}  {figures}")
    assert f"patchct export {tmp_path / 'run'} --out" in result.stderr
    assert "warning" not in result.stderr


def test_the_run_stores_the_settings(run, encoder_folder):
    config, state = read_state(run)
    assert (config.image_encoder, config.dim, config.epochs) == (str(encoder_folder), 16, 1)
    assert state.labels == ("blue", "green", "red")


def test_settings_lists_every_setting_with_its_default(run_cli):
    lines = run_cli("train", "--settings").stdout.splitlines()
    lines_by_setting = {words[0]: " ".join(words) for words in map(str.split, lines) if words}
    for row in list_settings():
        assert lines_by_setting[row.name] == " ".join(row)


def test_all_faults_of_the_settings_are_listed_at_once(train_cli, data, tmp_path):
    faulty_options = (
        "--set",
        "epoch=3",
        "--set",
        "lr_haed=1",
        "--set",
        "tau=7",
        "--set",
        "flip=maybe",
    )
    result = train_cli(data, tmp_path / "run", *faulty_options, "--epochs", 0, code=2)
    for words in (
        "5 errors",
        "unknown setting 'epoch': did you mean 'epochs'?",
        "did you mean 'lr_head'?",
        "tau: got '7', expected a number from 0.03 to 1",
        "flip: got 'maybe', expected true or false",
        "epochs: got 0",
    ):
        assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_all_faults_of_the_dataset_are_listed_at_once(train_cli, data, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,labels,split\ngone.png,red,train\nlost.png,|,train\n,blue,val\n")
    result = train_cli(path, tmp_path / "run", code=2)
    for words in (f"{path}:2:", "gone.png", f"{path}:3:", "an empty label", f"{path}:4:"):
        assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(train_cli, data, run):
    before = (run / "run.json").read_bytes()
    result = train_cli(data, run, code=2)
    for words in ("already holds a run", "fix:", "--resume", f"rm -r {run}"):
        assert words in result.stderr
    assert (run / "run.json").read_bytes() == before


def test_out_that_is_a_file_is_refused(train_cli, data):
    assert "--out is a file" in train_cli(data, data, code=2).stderr
    assert data.read_text().startswith("image,labels")


def test_resume_continues_after_the_last_epoch(run_cli, train_cli, data, tmp_path):
    stopped = tmp_path / "stopped"
    train_cli(data, stopped, "--epochs", 1)
    result = run_cli("train", data, "--out", stopped, "--resume", "--epochs", 3, "--device", "cpu")
    assert [line.split()[1] for line in result.stderr.splitlines()[:2]] == ["2", "3"]
    assert [row["epoch"] for row in read_metrics(stopped)] == [1, 2, 3]
    assert read_state(stopped)[1].epochs_done == 3
    changed = run_cli("train", data, "--out", stopped, "--resume", "--set", "dim=8", code=2)
    assert "with other settings" in changed.stderr
    assert "got:      dim" in changed.stderr


def test_from_takes_the_settings_and_weights_of_a_run(run_cli, data, run, tmp_path):
    result = run_cli("train", data, "--out", tmp_path / "new", "--from", run, "--device", "cpu")
    config, state = read_state(tmp_path / "new")
    assert config == read_state(run)[0]
    assert state.epochs_done == 1
    assert "epoch 1" in result.stderr


def test_config_takes_the_settings_without_the_weights(run_cli, data, run, tmp_path):
    words = ("--config", run / "config.json", "--set", "dim=8", "--device", "cpu")
    run_cli("train", data, "--out", tmp_path / "new", *words)
    config = read_state(tmp_path / "new")[0]
    assert (config.dim, config.lr_backbone) == (8, read_state(run)[0].lr_backbone)


def test_without_a_val_split_a_tenth_is_held_out(train_cli, write_squares, tmp_path):
    data = write_squares(tmp_path / "data", train=40)
    result = train_cli(data, tmp_path / "run", "--epochs", 1)
    assert "warning: the dataset has no val split: 4 images" in result.stderr
    assert read_metrics(tmp_path / "run")[0]["val_map"] is not None


def test_val_names_another_dataset(train_cli, data, write_squares, tmp_path):
    val = write_squares(tmp_path / "val", val=8)
    train = write_squares(tmp_path / "train", train=16)
    result = train_cli(train, tmp_path / "run", "--val", val, "--epochs", 1)
    assert "warning" not in result.stderr
    assert read_metrics(tmp_path / "run")[0]["val_map"] is not None


def test_a_coco_file_for_each_split(train_cli, write_squares, convert_to_coco, tmp_path):
    files = []
    for split, count in (("train", 16), ("val", 8)):
        source = write_squares(tmp_path / f"{split}2017", **{split: count})
        files.append(convert_to_coco(source, tmp_path / f"annotations/instances_{split}2017.json"))
    result = train_cli(files[0], tmp_path / "run", "--val", files[1], "--epochs", 1)
    assert "warning" not in result.stderr
    assert read_state(tmp_path / "run")[1].labels == ("red", "green", "blue")
    elsewhere = files[0].rename(tmp_path / "annotations/elsewhere.json")
    words = ("--val", files[1], "--epochs", 1)
    result = train_cli(elsewhere, tmp_path / "again", *words, code=2)
    assert "with --images FOLDER" in result.stderr
    train_cli(elsewhere, tmp_path / "again", *words, "--images", tmp_path / "train2017")


def test_a_labels_file_sets_order_and_prompts(train_cli, data, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("red\tA ripe tomato.\nblue\n")
    result = train_cli(data, tmp_path / "run", "--labels", labels, "--epochs", 1)
    assert "1 label outside the label set is not used: green" in result.stderr
    state = read_state(tmp_path / "run")[1]
    assert state.labels == ("red", "blue")
    assert state.prompts == ("A ripe tomato.", "A photo of a blue.")


def test_an_embedding_table_sets_the_labels(train_cli, data, label_table, tmp_path):
    train_cli(data, tmp_path / "run", "--label-encoder", label_table, "--epochs", 1)
    assert read_state(tmp_path / "run")[1].labels == ("red", "green", "blue")


def test_an_interrupt_keeps_the_finished_epochs(start_cli, data, encoder_folder, tmp_path):
    run = tmp_path / "run"
    process = start_cli(
        "train",
        data,
        "--out",
        run,
        "--image-encoder",
        encoder_folder,
        "--epochs",
        100_000,
        "--set",
        "precision=fp32",
        "--batch-size",
        4,
        "--device",
        "cpu",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr.readline().startswith("epoch 1 ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("interrupted; everything finished so far is kept\n")
    assert out == ""
    assert "Traceback" not in err
    for which in ("best", "last"):
        _, state = load_model(run, which)
        assert state.epochs_done >= 1
