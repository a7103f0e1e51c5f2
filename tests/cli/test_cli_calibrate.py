"""patchct calibrate: thresholds in the bundle, used at once; patchct eval --boxes."""

from __future__ import annotations

import json
import shutil

import pytest

from patchct_edge.bundle import Bundle

PRECISIONS = ["fp32", "fp16", "int8"]


@pytest.fixture
def bundle(exported_bundle, tmp_path):
    """A copy of the bundle that knows the colors, for the test to change."""
    return shutil.copytree(exported_bundle, tmp_path / "x.patchct")


def test_every_precision_is_calibrated_and_the_bundle_is_whole(run_cli, bundle, squares):
    result = run_cli("calibrate", bundle, squares, "--engine", "openvino")
    assert "cross-fitted" in result.stdout
    calibrated = Bundle(bundle)
    calibrated.verify()
    for precision in PRECISIONS:
        record = calibrated.calibration_record(precision)
        assert record is not None
        assert record["objective"] == "f1"
        assert record["images"] == 40
        assert calibrated.calibration(precision).temperature > 0


def test_tag_and_eval_use_the_calibration_at_once(run_cli, bundle, squares):
    words = ("eval", bundle, squares, "--precision", "fp32", "--json")
    before = json.loads(run_cli(*words).stdout)
    run_cli("calibrate", bundle, squares, "--objective", "recall=1", "--engine", "openvino")
    result = run_cli(*words)
    assert "set on these same images" in result.stderr
    after = json.loads(result.stdout)
    assert [label["threshold"] for label in after["labels"]] != [0.5] * 3
    assert after["map"] == before["map"]
    assert json.loads(run_cli(*words, "--uncalibrated").stdout) == before
    photo = squares.parent / "val-3.png"
    rows = [
        json.loads(run_cli("tag", photo, "--model", bundle, "--all-scores", *more).stdout)
        for more in ((), ("--uncalibrated",))
    ]
    assert rows[0] != rows[1]


def test_one_precision_leaves_the_others_as_they_were(run_cli, bundle, squares):
    run_cli("calibrate", bundle, squares, "--engine", "openvino")
    before = Bundle(bundle).calibration_record("int8")
    words = ("--precision", "fp32", "--objective", "precision=0.9", "--json")
    records = json.loads(run_cli("calibrate", bundle, squares, *words).stdout)
    assert list(records) == ["fp32"]
    assert Bundle(bundle).calibration_record("fp32") == records["fp32"]
    assert Bundle(bundle).calibration_record("int8") == before


def test_a_single_precision_follows_the_most_exact_one_as_well(run_cli, bundle, squares):
    run_cli("calibrate", bundle, squares, "--engine", "openvino")
    record = Bundle(bundle).calibration_record("int8")
    words = ("calibrate", bundle, squares, "--engine", "openvino", "--precision", "int8", "--json")
    records = json.loads(run_cli(*words).stdout)
    assert records == {"int8": record}
    assert Bundle(bundle).calibration_record("int8") == record


@pytest.mark.parametrize("text", ["f2", "precision", "precision=0", "recall=1.1", "recall=x"])
def test_an_unknown_objective_is_refused(run_cli, bundle, squares, text):
    stderr = run_cli("calibrate", bundle, squares, "--objective", text, code=2).stderr
    assert "unknown objective" in stderr
    assert "calibration.json" not in Bundle(bundle).manifest.files


def test_an_unreadable_photo_is_reported_once(run_cli, bundle, write_squares, tmp_path):
    data = write_squares(tmp_path / "photos", val=16)
    (tmp_path / "photos" / "val-3.png").write_bytes(b"not an image")
    result = run_cli("calibrate", bundle, data, "--engine", "openvino", code=1)
    assert result.stderr.count("not an image") == 1
    record = Bundle(bundle).calibration_record("fp32")
    assert record is not None
    assert record["images"] == 15


def test_eval_checks_the_maps_against_boxes(run_cli, bundle, squares, tmp_path):
    boxes = squares.parent / "boxes.csv"
    boxes.write_text("image,label,xmin,ymin,xmax,ymax\nval-1.png,red,0,0,1,1\n")
    words = ("eval", bundle, squares, "--boxes", boxes, "--precision", "int8")
    pointing = json.loads(run_cli(*words, "--json").stdout)["pointing"]
    assert list(pointing) == ["int8", "fp32"]
    assert pointing["int8"]["ordinary"] == {"cases": 1, "pointing": 1, "energy": 1, "center": 1}
    assert "pointing int8: 100.00 (95% interval" in run_cli(*words).stdout
    boxes.write_text("image,label,xmin,ymin,xmax,ymax\nval-1.png,red,0,0,120,80\n")
    assert "expected fractions of the photo" in run_cli(*words, code=2).stderr
