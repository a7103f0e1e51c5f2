"""patchct eval and patchct show: figures and contents, for a person and as JSON."""

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
    chosen = ["--split", split] if split else []
    words = ("eval", bundle.path, squares, "--precision", "fp32", *chosen)
    found = json.loads(run_cli(*words, "--json").stdout)
    data = read_dataset(squares, split=split or "val", labels=bundle.labels)
    with open_engine(bundle, EngineRequest(precision="fp32")) as engine:
        said = predict(engine, bundle.preprocessing, data)
        expected = compute_accuracy(said, bundle.calibration("fp32"))
        assert found.pop("engine") == engine.record.to_json()
    assert found.pop("model") == bundle.manifest.fingerprint
    assert found == json.loads(json.dumps(expected.to_json()))
    assert found["images"] == {None: 40, "train": 96, "all": 136}[split]
    assert found["map"] > 0.9


def test_eval_for_a_person(run_cli, bundle, squares):
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


def test_eval_names_a_photo_that_cannot_be_read(run_cli, bundle, write_squares, tmp_path):
    data = write_squares(tmp_path, val=16)
    (tmp_path / "val-3.png").write_bytes(b"no picture")
    result = run_cli("eval", bundle.path, data, "--json", code=1)
    assert "val-3.png" in result.stderr
    found = json.loads(result.stdout)
    assert found["images"] == 15
    assert len(found["unreadable"]) == 1


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
        (["--split", "tset"], ["no split of that name", "got:", "expected:", "fix:"]),
        (["--images", "."], ["only a COCO JSON", "fix:"]),
    ],
    ids=str,
)
def test_eval_of_what_is_not_there(run_cli, bundle, squares, words, expected):
    result = run_cli("eval", bundle.path, squares, *words, code=2)
    assert [part for part in expected if part not in result.stderr] == []


def test_show_for_a_person(run_cli, bundle):
    said = run_cli("show", bundle.path).stdout
    for words in (
        bundle.manifest.fingerprint,
        "3: red, green, blue",
        "A photo of a red.",
        "32 x 32 RGB, squash, bilinear",
        "4 x 4, tau",
        "model.int8-fp16.onnx",
        "openvino int8: fits",
        "onnxruntime fp32: fits",
    ):
        assert words in said
    for stage in bundle.manifest.stages:
        (row,) = (line.split() for line in said.splitlines() if line.split()[:1] == [stage.name])
        assert row[1] == stage.against
        assert row[-1] == "passed"


def test_show_as_json(run_cli, bundle):
    found = json.loads(run_cli("show", bundle.path, "--json").stdout)
    engines = found.pop("engines")
    assert found == json.loads((bundle.path / "manifest.json").read_text())
    fits = [(e["engine"], e["precision"]) for e in engines if e["reason"] is None]
    assert fits[0] == ("openvino", "int8")
    assert ("onnxruntime", "fp16") in fits
    assert "fake" not in {engine for engine, _ in fits}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_verifies_every_file(run_cli, bundle, tmp_path, form):
    whole = run_cli("show", bundle.path, "--verify", *form)
    assert form or "every file matches its sha256" in whole.stderr
    copy = tmp_path / "x.patchct"
    shutil.copytree(bundle.path, copy)
    with (copy / "model.fp16.onnx").open("ab") as file:
        file.write(b"!")
    run_cli("show", copy, *form)
    result = run_cli("show", copy, "--verify", *form, code=2)
    assert result.stdout == ""
    for words in ("model.fp16.onnx was altered", "got:", "expected:", "fix:"):
        assert words in result.stderr


def test_show_names_a_file_that_is_missing(run_cli, write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", ("fp32", "int8"))
    (path / "model.int8.onnx").unlink()
    result = run_cli("show", path, code=2)
    assert "lacks a file" in result.stderr
    assert "no model.int8.onnx" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_into_a_full_disk(start_cli, tiny_bundle, form):
    with open("/dev/full", "w") as full:
        words = ("show", tiny_bundle, *form)
        process = start_cli(*words, stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("error: cannot write the output: No space left on device\n")
    assert "Traceback" not in said
    assert "Exception" not in said


def test_show_of_a_bundle_without_stages(run_cli, tiny_bundle):
    assert "red, green, blue" in run_cli("show", tiny_bundle, "--verify").stdout
