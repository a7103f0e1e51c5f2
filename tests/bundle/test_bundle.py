"""Bundles on disk: read back, verified, refused if damaged, and calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from manifests import STAGE, edit_manifest, make_manifest

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import check_precision
from patchct_edge.bundle.write import write_manifest
from patchct_edge.errors import BundleError


def test_a_bundle_is_read_as_it_was_written(bundle):
    read = Bundle(str(bundle))
    assert read.manifest == make_manifest(files=read.manifest.files)
    assert set(read.manifest.files) == {"model.fp32.onnx", "model.int8.onnx", "engines/trt.plan"}
    assert read.labels == ("cat", "Hund 🐕")
    assert read.precisions() == ["fp32", "int8"]
    assert read.graph_path("int8").read_bytes() == b"small"
    assert read.failed_stages("int8") == [STAGE]
    assert read.failed_stages("fp32") == []
    read.verify()


@pytest.mark.parametrize("precision", ["fp16", "int4", "../x", ""])
def test_a_precision_without_a_graph_is_refused(bundle, precision):
    with pytest.raises(BundleError, match=r"(?s)no .* graph.*fp32 or int8.*patchct export"):
        Bundle(bundle).graph_path(precision)


def test_an_unknown_precision_is_refused_with_a_suggestion():
    assert check_precision("int8") == "int8"
    with pytest.raises(BundleError, match="did you mean 'fp16'"):
        check_precision("pf16")


@pytest.mark.parametrize("name", ["model.int8.onnx", "engines/trt.plan"])
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"other"), Path.unlink])
def test_a_file_that_was_altered_or_is_missing(bundle, name, damage):
    damage(bundle / name)
    read = Bundle(bundle)
    assert read.graph_path("fp32")
    for check in (read.verify, lambda: read.verify(name)):
        with pytest.raises(BundleError, match=rf"(?s){name}.*patchct export"):
            check()
    if name.endswith(".onnx"):
        with pytest.raises(BundleError, match=name):
            read.graph_path("int8")


CALIBRATION = {
    "fp32": {"temperature": 2.0, "thresholds": {"red": 0.1, "green": 0.2, "blue": 0.3}},
    "int8": {"temperature": 1.5, "thresholds": {"blue": 0.6, "green": 0.5, "red": 0.4}},
}


def test_each_precision_has_its_calibration(write_bundle, tmp_path):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION))
    for precision, temperature, thresholds in (
        ("fp32", 2.0, [0.1, 0.2, 0.3]),
        ("int8", 1.5, [0.4, 0.5, 0.6]),
        ("fp16", 1.0, [0.5, 0.5, 0.5]),
    ):
        calibration = bundle.calibration(precision)
        assert calibration.temperature == temperature
        np.testing.assert_array_equal(calibration.thresholds, thresholds)


def test_a_bundle_without_a_calibration_has_the_default(tiny_bundle):
    calibration = Bundle(tiny_bundle).calibration("int8")
    assert (calibration.temperature, calibration.thresholds.tolist()) == (1, [0.5, 0.5, 0.5])


def test_a_calibration_of_other_labels_is_refused(write_bundle, tmp_path):
    labels = ("red", "green", "yellow")
    bundle = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION, labels=labels)
    with pytest.raises(BundleError, match=r"(?s)yellow.*copy the bundle again"):
        Bundle(bundle).calibration("fp32")


def test_an_altered_calibration_is_refused(write_bundle, tmp_path):
    bundle = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    (bundle / "calibration.json").write_text(json.dumps(CALIBRATION).replace("0.1", "0.9"))
    with pytest.raises(BundleError, match=r"calibration\.json was altered"):
        Bundle(bundle).calibration("fp32")


@pytest.mark.parametrize("name", ["model.gone.onnx", "x" * 300])
def test_a_missing_file_is_named(bundle, name):
    read = Bundle(edit_manifest(bundle, files={name: "0" * 64}))
    for check in (read.file_path, read.verify):
        with pytest.raises(BundleError, match=f"lacks a file(?s:.*)no {name}"):
            check(name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"fp32": 7}', '{"fp32": []}', "[" * 100_000], ids=lambda t: t[:12]
)
def test_a_calibration_of_another_form_is_refused(bundle, text):
    (bundle / "calibration.json").write_text(text)
    write_manifest(bundle, make_manifest())
    with pytest.raises(BundleError, match="calibration"):
        Bundle(bundle).calibration("fp32")


RECORD = {**CALIBRATION["int8"], "bias": -0.5, "dataset_fingerprint": "d", "objective": "f1"}


def test_a_calibration_replaces_that_of_its_precision_only(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    before = Bundle(path)
    bundle = before.store_calibrations({"int8": RECORD, "fp16": RECORD})
    for read in (bundle, Bundle(path)):
        read.verify()
        assert read.calibration_record("int8") == read.calibration_record("fp16") == RECORD
        assert read.calibration_record("fp32") == CALIBRATION["fp32"]
        assert read.calibration("int8").bias == -0.5
    assert bundle.manifest.fingerprint == before.manifest.fingerprint
    changed = dict(bundle.manifest.files.items() - before.manifest.files.items())
    assert list(changed) == ["calibration.json"]


def test_a_bundle_gets_its_first_calibration(write_bundle, tmp_path):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct"))
    assert bundle.calibration_record("int8") is None
    bundle = bundle.store_calibrations({"int8": RECORD})
    bundle.verify()
    assert bundle.calibration_record("int8") == RECORD
    assert bundle.calibration_record("fp32") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[1]", "null", "[" * 100_000, None])
def test_a_damaged_calibration_is_replaced(bundle, text):
    """None: an altered calibration, whose other precisions must not get a new hash."""
    (bundle / "calibration.json").write_text("{}" if text is None else text)
    write_manifest(bundle, make_manifest())
    if text is None:
        (bundle / "calibration.json").write_text('{"fp16": {"bias": 9}}')
    read = Bundle(bundle).store_calibrations({"int8": RECORD})
    read.verify()
    assert json.loads((bundle / "calibration.json").read_text()) == {"int8": RECORD}


def test_a_missing_calibration_is_written_again(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    (path / "calibration.json").unlink()
    assert Bundle(path).store_calibrations({"int8": RECORD}).calibration_record("int8") == RECORD


def test_an_interrupted_calibration_is_reported(write_bundle, tmp_path, monkeypatch):
    """The calibration is new and the manifest old: an error, until the next calibration."""
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr("patchct_edge.bundle.manifest.Manifest.to_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            Bundle(path).store_calibrations({"int8": RECORD})
    assert Bundle(path).graph_path("fp32")
    with pytest.raises(BundleError, match=r"calibration\.json was altered"):
        Bundle(path).calibration("int8")
    Bundle(path).store_calibrations({"int8": RECORD}).verify()
