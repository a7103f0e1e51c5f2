"""patchct eval and patchct show: figures and contents, as text and as JSON."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.datasets import read_dataset
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.predictions import predict
from patchct_edge.runtime.engines.select import EngineRequest, open_engine


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    return Bundle(exported_bundle)


@pytest.mark.parametrize("split", [None, "train", "all"])
def test_eval_prints_the_figures_of_the_report(run_cli, bundle, squares, split):
    options = ["--split", split] if split else []
    words = ("eval", bundle.path, squares, "--precision", "fp32", *options)
    figures = json.loads(run_cli(*words, "--json").stdout)
    dataset = read_dataset(squares, split=split or "val", labels=bundle.labels)
    with open_engine(bundle, EngineRequest(precision="fp32")) as engine:
        predictions = predict(engine, bundle.preprocessing, dataset)
        expected = compute_accuracy(predictions, bundle.calibration("fp32"))
        assert figures.pop("engine") == engine.record.to_json()
    assert figures.pop("model") == bundle.manifest.fingerprint
    assert figures == json.loads(json.dumps(expected.to_json()))
    assert figures["images"] == {None: 40, "train": 96, "all": 136}[split]
    assert figures["map"] > 0.9


def test_eval_as_text(run_cli, bundle, squares):
    result = run_cli("eval", bundle.path, squares, "--precision", "int8", "--engine", "openvino")
    figures = json.loads(
        run_cli("eval", bundle.path, squares, "--precision", "int8", "--json").stdout
    )
    lines = [line.split() for line in result.stdout.splitlines()]
    for label in figures["labels"]:
        (row,) = (line for line in lines if line[:1] == [label["label"]])
        assert row[1:3] == [str(label["positives"]), str(label["predicted"])]
        assert row[3] == f"{100 * label['ap']:.2f}"
        assert row[-1] == "0.50"
    assert f"mAP {100 * figures['map']:.2f} (95% interval" in result.stdout
    assert "40 images" in result.stdout
    for figure in ("CP", "CR", "CF1", "OP", "OR", "OF1", "top 3", "thresholds"):
        assert figure in result.stdout
    assert result.stderr.startswith("openvino int8 (int8+")


def test_eval_reports_an_unreadable_photo(run_cli, bundle, write_squares, tmp_path):
    data = write_squares(tmp_path, val=16)
    (tmp_path / "val-3.png").write_bytes(b"not an image")
    result = run_cli("eval", bundle.path, data, "--json", code=1)
    assert "val-3.png" in result.stderr
    figures = json.loads(result.stdout)
    assert figures["images"] == 15
    assert len(figures["unreadable"]) == 1


def test_eval_counts_labels_that_the_model_does_not_know(run_cli, bundle, write_squares, tmp_path):
    data = write_squares(tmp_path, val=16)
    data.write_text(data.read_text().replace("red", "crimson"))
    result = run_cli("eval", bundle.path, data, "--json")
    assert "crimson (8)" in result.stderr
    red, *_ = json.loads(result.stdout)["labels"]
    assert (red["label"], red["positives"], red["ap"]) == ("red", 0, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "tset"], ["no such split", "got:", "expected:", "fix:"]),
        (["--images", "."], ["only a COCO JSON", "fix:"]),
    ],
    ids=str,
)
def test_eval_user_errors(run_cli, bundle, squares, words, expected):
    result = run_cli("eval", bundle.path, squares, *words, code=2)
    assert [part for part in expected if part not in result.stderr] == []


def test_show_as_text(run_cli, bundle):
    stdout = run_cli("show", bundle.path).stdout
    for words in (
        bundle.manifest.fingerprint,
        "3: red, green, blue",
        "A photo of a red.",
        "32 x 32 RGB, squash, bilinear",
        "4 x 4, temperature (tau)",
        "model.int8-fp16.onnx",
        "openvino int8: fits",
        "onnxruntime fp32: fits",
    ):
        assert words in stdout
    for stage in bundle.manifest.stages:
        (row,) = (line.split() for line in stdout.splitlines() if line.split()[:1] == [stage.name])
        assert row[1] == stage.against
        assert row[-1] == "passed"


def test_show_as_json(run_cli, bundle):
    content = json.loads(run_cli("show", bundle.path, "--json").stdout)
    engines = content.pop("engines")
    assert content == json.loads((bundle.path / "manifest.json").read_text())
    fitting = [(e["engine"], e["precision"]) for e in engines if e["reason"] is None]
    assert fitting[0] == ("openvino", "int8")
    assert ("onnxruntime", "fp16") in fitting
    assert "fake" not in {engine for engine, _ in fitting}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_verifies_every_file(run_cli, bundle, tmp_path, options):
    result = run_cli("show", bundle.path, "--verify", *options)
    assert options or "every file matches its sha256" in result.stderr
    copy = tmp_path / "x.patchct"
    shutil.copytree(bundle.path, copy)
    with (copy / "model.fp16.onnx").open("ab") as file:
        file.write(b"!")
    run_cli("show", copy, *options)
    result = run_cli("show", copy, "--verify", *options, code=2)
    assert result.stdout == ""
    for words in ("model.fp16.onnx was altered", "got:", "expected:", "fix:"):
        assert words in result.stderr


def test_show_names_a_missing_file(run_cli, write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", ("fp32", "int8"))
    (path / "model.int8.onnx").unlink()
    result = run_cli("show", path, code=2)
    assert "lacks a file" in result.stderr
    assert "no model.int8.onnx" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_reports_a_full_disk(start_cli, tiny_bundle, options):
    with open("/dev/full", "w") as full:
        words = ("show", tiny_bundle, *options)
        process = start_cli(*words, stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("error: cannot write the output: No space left on device\n")
    assert "Traceback" not in stderr
    assert "Exception" not in stderr


def test_show_of_a_bundle_without_stages(run_cli, tiny_bundle):
    assert "red, green, blue" in run_cli("show", tiny_bundle, "--verify").stdout
