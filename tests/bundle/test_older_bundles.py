"""Bundles of earlier versions open: from 0.2.0 on, a version reads what older versions wrote.

`tests/data/bundle-VERSION.patchct` was written once, by that version, and never changes. Its graph
is that of `write_graph` in `tests/conftest.py`, in every precision; its INT8 stage failed its gate.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.bundle import Bundle, Calibration, Preprocessing
from patchct_edge.bundle.manifest import Stage
from patchct_edge.bundle.precisions import INT8_FP16_GRAPH
from patchct_edge.runtime.tagging.tagger import Tagger

BUNDLE = Path(__file__).parents[1] / "data" / "bundle-0.2.0.patchct"
RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


@pytest.fixture
def bundle():
    return Bundle(BUNDLE)


def test_the_manifest_is_read(bundle):
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.labels == ("red", "green", "blue")
    assert manifest.prompts == ("A red photo.", "A green photo.", "A blue photo.")
    assert manifest.label_encoder == "learned"
    assert manifest.preprocessing == Preprocessing(
        8, "pad", "bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert (manifest.tau, manifest.grid) == (0.1, (2, 2))
    assert manifest.producer == "patchct-edge 0.2.0"
    assert manifest.fingerprint == "97e831e7ea5ee2bc"
    assert manifest.quantization_data == "1" * 64
    assert [stage.name for stage in manifest.stages] == ["graph", "fp32", "fp16", "int8"]
    assert bundle.failed_stages("int8") == [
        Stage(
            name="int8",
            against="fp32",
            engine="onnxruntime",
            images=40,
            max_difference=0.1,
            mean_difference=0.01,
            flips=0.02,
            map=0.89,
            map_low=0.84,
            map_high=0.94,
            map_drop=0.01,
            gate="mAP drop <= 0.5 points, flips <= 3 %",
            passed=False,
        )
    ]


def test_every_graph_has_its_hash(bundle):
    assert bundle.precisions() == ["fp32", "fp16", "int8"]
    for precision in (*bundle.precisions(), INT8_FP16_GRAPH):
        assert bundle.graph_path(precision).name == f"model.{precision}.onnx"


def test_the_calibrations_are_read(bundle):
    int8 = bundle.calibration("int8")
    assert (int8.temperature, int8.bias) == (1.25, -0.25)
    assert int8.thresholds.tolist() == [0.99, 0.05, 0.5]
    assert bundle.calibration("fp16").to_json("abc") == Calibration.default(3).to_json("abc")
    record = bundle.calibration_record("fp32")
    assert record["thresholds"] == {"red": 0.9, "green": 0.2, "blue": 0.5}
    assert record["engine"]["compute_precision"] == "fp32"
    assert (record["objective"], record["pooled"], record["images"]) == ("f1", ["blue"], 40)
    assert record["dataset_fingerprint"] == "0" * 64


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("precision", "scores", "tags"),
    [
        ("fp32", [0.9241, 0.1824, 0.1824], ["red"]),  # sigmoid of +-4 / 2 + 0.5
        ("fp16", [0.9820, 0.0180, 0.0180], ["red"]),  # sigmoid of +-4
        ("int8", [0.9503, 0.0308, 0.0308], []),  # sigmoid of +-4 / 1.25 - 0.25
    ],
)
def test_an_image_gets_the_same_tags(engine, precision, scores, tags):
    pytest.importorskip(engine)
    with Tagger.open(BUNDLE, engine=engine, precision=precision) as tagger:
        every_tag = {tag.label: tag.score for tag in tagger.tag(RED, all_scores=True)}
        assert [tag.label for tag in tagger.tag(RED)] == tags
    assert [every_tag[label] for label in ("red", "green", "blue")] == pytest.approx(
        scores, abs=2e-3 if precision == "fp32" else 5e-3
    )


def test_a_new_calibration_is_stored(tmp_path):
    copy = shutil.copytree(BUNDLE, tmp_path / "copy.patchct")
    record = {**Calibration.default(3).to_json(("red", "green", "blue")), "images": 1}
    stored = Bundle(copy).store_calibrations({"fp16": record})
    stored.verify()
    assert stored.calibration_record("fp16") == record
    assert stored.calibration("int8").temperature == 1.25
