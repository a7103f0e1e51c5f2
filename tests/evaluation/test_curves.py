"""What the report draws: precision over recall against scikit-learn, scores in bins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.calibration_fit import Objective
from patchct_edge.evaluation.curves import BINS, compute_curves, measure_reliability
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.runtime.engines.base import EngineRecord

N, LABELS = 200, ("a", "b", "never")


@pytest.fixture(scope="module")
def found():
    """Scores that know something, some cells ignored; the last label has no positive."""
    rng = np.random.default_rng(3)
    targets, ignored = rng.random((N, 3)) < (0.3, 0.6, 0), rng.random((N, 3)) < 0.1
    logits = (rng.normal(0, 2, (N, 3)) + 2 * targets).astype(np.float32)
    paths = tuple(Path(f"{n}.jpg") for n in range(N))
    record = EngineRecord("fake", "fp32", "fp32", "fake 1", "none")
    return Predictions(record, LABELS, paths, logits, targets, ignored)


def best_precision(scores, targets, recall):
    precision, reached, _ = precision_recall_curve(targets, scores)
    return precision[:-1][reached[:-1] >= recall - 1e-9].max()  # its last point is made up


def test_a_curve_is_the_best_precision_at_that_recall_or_more(found):
    result, counted = compute_curves(found), ~found.ignored
    expected = [
        best_precision(found.logits[counted], found.targets[counted], r) for r in result.recall
    ]
    np.testing.assert_allclose(result.pooled, expected, atol=1e-12)
    for m, label in enumerate("ab"):
        rows = counted[:, m]
        scores, targets = found.logits[rows, m], found.targets[rows, m]
        expected = [best_precision(scores, targets, r) for r in result.recall]
        np.testing.assert_allclose(result.labels[label], expected, atol=1e-12)


def test_a_label_without_positives_has_no_curve(found):
    assert compute_curves(found).labels["never"] is None


def test_the_bins_hold_every_counted_cell_once(found):
    before = measure_reliability(found, Objective.parse("f1"), None).before
    counted = ~found.ignored
    scores = Calibration.default(3).scores(found.logits)[counted].astype(np.float64)
    truth = found.targets[counted]
    assert sum(before.present) == truth.sum()
    assert sum(before.absent) == (~truth).sum()
    for n in range(BINS):
        inside = (scores >= n / BINS) & (scores < (n + 1) / BINS)
        assert (before.absent[n], before.present[n]) == (
            (inside & ~truth).sum(),
            (inside & truth).sum(),
        )
        assert math.isclose(before.mean_score[n], scores[inside].mean())
        assert math.isclose(before.share_present[n], truth[inside].mean())


def test_calibration_is_judged_on_images_it_was_not_fitted_to(found):
    result = measure_reliability(found, Objective.parse("f1"), None)
    assert result.after.ece < result.before.ece
    assert set(result.thresholds) == set(LABELS)
    assert "never" in result.pooled


def test_an_empty_bin_has_no_mean(found):
    flat = Predictions(
        found.record,
        LABELS,
        found.paths,
        np.clip(found.logits, 0.1, 9),
        found.targets,
        found.ignored,
    )
    before = measure_reliability(flat, Objective.parse("f1"), None).before
    assert math.isnan(before.mean_score[0])
    assert math.isnan(before.share_present[0])
    assert (before.absent[0], before.present[0]) == (0, 0)
