"""The small curves: which labels have one, in which order, and where their points lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.curves import compute_curves
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.report.label_curves import Point, draw_label_curves, format_polyline
from patchct_edge.runtime.engines.base import EngineRecord

LABELS = ("good", "bad", "never", "silent")


@pytest.fixture(scope="module")
def label_curves():
    """`good` ranks well and `bad` badly; no photo has `never`, none is tagged `silent`."""
    logits = np.array([[2, -2, 0, -9], [1, 3, 0, -8], [-1, 2, 0, -7], [-2, 1, 0, -6]], np.float32)
    targets = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
    paths = tuple(Path(f"{n}.jpg") for n in range(4))
    record = EngineRecord("fake", "fp32", "fp32", "fake 1", "none")
    predictions = Predictions(record, LABELS, paths, logits, targets, np.zeros_like(targets))
    accuracy = compute_accuracy(predictions, Calibration.default(4))
    return draw_label_curves(compute_curves(predictions), accuracy)


def test_the_worst_label_comes_first_and_one_without_photos_is_left_out(label_curves):
    assert [curve.label.label for curve in label_curves] == ["bad", "good", "silent"]
    aps = [curve.label.ap for curve in label_curves]
    assert aps == sorted(aps)


def test_the_dot_lies_at_the_precision_and_recall_of_the_threshold(label_curves):
    bad, good, silent = (curve.threshold for curve in label_curves)
    assert good == (100, 0)  # both photos tagged, no other
    assert bad == (50, 66.7)  # one of two photos tagged, and two others
    assert silent is None


def test_recall_runs_to_the_right_and_high_precision_is_at_the_top():
    assert Point.from_figures(1, 1) == (100, 0)
    assert format_polyline((0, 0.5, 1), (1, 0.75, 0.333)) == "0,0 50,25 100,66.7"
