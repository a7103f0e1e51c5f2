"""calibrate_bundle: which precision is scored first, what the others follow, what is stored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from patchct_edge import calibrate_bundle
from patchct_edge.bundle import Bundle
from patchct_edge.bundle.manifest import Stage
from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.evaluation.objective import Objective
from patchct_edge.runtime.engines.select import EngineRequest

pytest.importorskip("openvino")
OPENVINO = EngineRequest("openvino")


class RecordedProgress:
    """Keeps the names and totals of the stages."""

    def __init__(self):
        self.stages = []

    def stage(self, name, total):
        self.stages.append((name, total))
        return lambda done, detail="": None


def test_every_precision_is_calibrated_the_most_exact_first(bundle, color_dataset):
    progress = RecordedProgress()
    result = calibrate_bundle(bundle, color_dataset, request=OPENVINO, progress=progress)
    assert list(result.calibrations) == list(result.records) == ["fp32", "int8"]
    assert progress.stages == [("scoring, fp32", 45), ("scoring, int8", 45)]
    stored = Bundle(bundle.path)
    stored.verify()
    for precision, calibration in result.calibrations.items():
        assert stored.calibration_record(precision) == result.records[precision]
        thresholds = stored.calibration(precision).thresholds
        np.testing.assert_array_equal(thresholds, calibration.fit.calibration.thresholds)
        record = result.records[precision]
        assert record["objective"] == "f1"
        assert record["images"] == 45
        assert record["dataset_fingerprint"] == color_dataset.fingerprint()


def test_a_less_exact_precision_tags_as_many_images_as_the_most_exact(bundle, color_dataset):
    result = calibrate_bundle(bundle, color_dataset, request=OPENVINO)
    counts = [
        calibration.fit.calibration.tags(calibration.predictions.logits).sum(0).tolist()
        for calibration in result.calibrations.values()
    ]
    assert counts[0] == counts[1]


def test_one_precision_alone_still_follows_the_most_exact(bundle, color_dataset):
    both = calibrate_bundle(bundle, color_dataset, request=OPENVINO).records
    request = dataclasses.replace(OPENVINO, precision="int8")
    progress = RecordedProgress()
    alone = calibrate_bundle(Bundle(bundle.path), color_dataset, request=request, progress=progress)
    assert alone.records == {"int8": both["int8"]}
    assert [name for name, _ in progress.stages] == ["scoring, fp32", "scoring, int8"]


def test_skipped_precisions_that_keep_a_calibration_are_listed(
    write_bundle, tmp_path, color_dataset
):
    failed = Stage("int8", "fp32", "openvino", 8, 0.1, 0.1, 0.1, gate="flips <= 3%", passed=False)
    path = write_bundle(tmp_path / "y.patchct", ("fp32", "int8"), stages=(failed,))
    first = calibrate_bundle(Bundle(path), color_dataset, request=OPENVINO)
    assert (list(first.records), first.retained_precisions) == (["fp32"], ())
    assert [candidate.precision for candidate in first.skipped] == ["int8"]
    int8 = dataclasses.replace(OPENVINO, precision="int8")
    calibrate_bundle(Bundle(path), color_dataset, request=int8)
    for objective in (Objective(), Objective.parse("recall=0.5")):  # the second changes the file
        result = calibrate_bundle(Bundle(path), color_dataset, objective, request=OPENVINO)
        assert result.retained_precisions == ("int8",)


def test_an_unreadable_image_is_reported_once(bundle, color_dataset, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = dataclasses.replace(color_dataset.samples[0], path=tmp_path / "bad.png")
    dataset = dataclasses.replace(color_dataset, samples=(*color_dataset.samples, bad))
    result = calibrate_bundle(bundle, dataset, request=OPENVINO)
    assert len(result.unreadable) == 1
    assert "bad.png" in result.unreadable[0]
    assert result.records["fp32"]["images"] == 45


def test_nothing_is_stored_unless_every_precision_could_be_calibrated(bundle, color_dataset):
    few = dataclasses.replace(color_dataset, samples=color_dataset.samples[:4])
    with pytest.raises(UserError, match="too few images"):
        calibrate_bundle(bundle, few, request=OPENVINO)
    assert Bundle(bundle.path).calibration_record("fp32") is None


def test_the_objective_is_stored(bundle, color_dataset):
    objective = Objective.parse("recall=0.9")
    records = calibrate_bundle(bundle, color_dataset, objective, request=OPENVINO).records
    assert records["fp32"]["objective"] == "recall=0.9"


def test_a_dataset_with_other_labels_is_refused(bundle, color_dataset):
    other = Dataset(color_dataset.samples, ("cat", "dog", "cow"))
    with pytest.raises(UserError, match="labels of the dataset are not those of the bundle"):
        calibrate_bundle(bundle, other)
