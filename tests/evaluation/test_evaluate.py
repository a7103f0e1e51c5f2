"""evaluate_bundle: its accuracy, the calibration that it uses, and the pointing game."""

from __future__ import annotations

import json

import pytest

from patchct_edge import calibrate_bundle, evaluate_bundle
from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.datasets import ObjectBox
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.predictions import open_and_predict
from patchct_edge.runtime.engines.select import EngineRequest

pytest.importorskip("openvino")
INT8 = EngineRequest("openvino", "int8")


def test_the_figures_are_those_of_the_accuracy(bundle, color_dataset):
    evaluation = evaluate_bundle(bundle, color_dataset, request=INT8)
    predictions = open_and_predict(bundle, color_dataset, INT8)
    assert evaluation.accuracy == compute_accuracy(predictions, Calibration.default(3))
    assert evaluation.record == predictions.record
    assert evaluation.fingerprint == bundle.manifest.fingerprint
    fields = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert fields["map"] == evaluation.accuracy.map
    assert fields["engine"]["precision"] == "int8"
    assert "pointing" not in fields


def test_the_calibration_is_used_unless_it_is_to_be_ignored(bundle, color_dataset):
    before = evaluate_bundle(bundle, color_dataset, request=INT8)
    assert not before.same_images
    calibrate_bundle(bundle, color_dataset, request=INT8)
    calibrated = Bundle(bundle.path)
    after = evaluate_bundle(calibrated, color_dataset, request=INT8)
    assert after.same_images
    assert [label.threshold for label in after.accuracy.labels] != [0.5] * 3
    ignored = evaluate_bundle(calibrated, color_dataset, request=INT8, uncalibrated=True)
    assert ignored == before


def test_the_pointing_game_is_played_in_the_engines_precision_and_in_fp32(bundle, color_dataset):
    path = color_dataset.samples[0].path.resolve()
    boxes = {path: [ObjectBox("red", 0, 0, 1, 1)]}
    evaluation = evaluate_bundle(bundle, color_dataset, boxes=boxes, request=INT8)
    assert list(evaluation.pointing) == ["int8", "fp32"]
    assert evaluation.pointing["int8"].ordinary.pointing == 1
    fields = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert fields["pointing"]["int8"]["labels"]["blue"]["pointing"] is None
