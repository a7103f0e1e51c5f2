"""The small curves: which labels have one, in which order, and where their points lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.curves import compute_curves
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.report.label_curves import Point, label_curves, polyline
from patchct_edge.runtime.engines.base import EngineRecord

LABELS = ("good", "bad", "never", "silent")


@pytest.fixture(scope="module")
def found():
    """Four photos. `good` is ranked well, `bad` badly; `never` is in no photo, `silent` no tag."""
    logits = np.array([[2, -2, 0, -9], [1, 3, 0, -8], [-1, 2, 0, -7], [-2, 1, 0, -6]], np.float32)
    targets = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
    paths = tuple(Path(f"{n}.jpg") for n in range(4))
    record = EngineRecord("fake", "fp32", "fp32", "fake 1", "none")
    judged = Predictions(record, LABELS, paths, logits, targets, np.zeros_like(targets))
    return label_curves(compute_curves(judged), compute_accuracy(judged, Calibration.default(4)))


def test_the_worst_label_comes_first_and_one_without_photos_not_at_all(found):
    assert [each.label.label for each in found] == ["bad", "good", "silent"]
    aps = [each.label.ap for each in found]
    assert aps == sorted(aps)


def test_the_dot_lies_at_the_precision_and_recall_of_the_threshold(found):
    bad, good, silent = (each.threshold for each in found)
    assert good == (100, 0)  # both found, nothing else
    assert bad == (50, 66.7)  # one of two found, with two others
    assert silent is None


def test_a_curve_runs_to_the_right_with_high_precision_on_top():
    assert Point.of(1, 1) == (100, 0)
    assert polyline((0, 0.5, 1), (1, 0.75, 0.333)) == "0,0 50,25 100,66.7"
