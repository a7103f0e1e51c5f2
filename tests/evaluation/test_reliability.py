"""What calibration is worth: scores in bins beside the truth, before and after."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.accuracy import compute_precision_and_recall
from patchct_edge.evaluation.calibration_fit import cross_fit_calibration, fit_to_reference
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.reliability import SCORE_BINS, measure_reliability

LABELS = ("a", "b", "never")


def fit_and_measure(predictions):
    fit = fit_to_reference(predictions, Objective(), None)
    return measure_reliability(predictions, fit, Objective())


def test_the_bins_hold_every_counted_cell_once(predictions):
    before = fit_and_measure(predictions).before
    counted = ~predictions.ignored
    scores = Calibration.default(3).scores(predictions.logits)[counted].astype(np.float64)
    truth = predictions.targets[counted]
    assert sum(before.present) == truth.sum()
    assert sum(before.absent) == (~truth).sum()
    for n in range(SCORE_BINS):
        inside = (scores >= n / SCORE_BINS) & (scores < (n + 1) / SCORE_BINS)
        assert (before.absent[n], before.present[n]) == (
            (inside & ~truth).sum(),
            (inside & truth).sum(),
        )
        assert math.isclose(before.mean_score[n], scores[inside].mean())
        assert math.isclose(before.share_present[n], truth[inside].mean())


def test_calibration_is_measured_on_images_that_it_has_not_seen(predictions):
    reliability = fit_and_measure(predictions)
    assert reliability.after.ece < reliability.before.ece
    cells = (predictions.logits, predictions.targets, predictions.ignored)
    tags = cross_fit_calibration(*cells, Objective()).tags
    precision, recall = compute_precision_and_recall(tags, *cells[1:])
    labels = reliability.labels
    np.testing.assert_array_equal([label.precision for label in labels], precision)
    np.testing.assert_array_equal([label.recall for label in labels], recall)


def test_thresholds_come_from_all_images(predictions):
    reliability = fit_and_measure(predictions)
    fit = fit_to_reference(predictions, Objective(), None)
    assert [label.label for label in reliability.labels] == list(LABELS)
    assert [label.threshold for label in reliability.labels] == list(fit.calibration.thresholds)
    assert [label.label for label in reliability.labels if label.pooled] == ["never"]
    positives = (predictions.targets & ~predictions.ignored).sum(0)
    assert [label.positives for label in reliability.labels] == positives.tolist()


def test_an_empty_bin_has_no_mean(predictions):
    high = dataclasses.replace(predictions, logits=np.clip(predictions.logits, 0.1, 9))
    before = fit_and_measure(high).before
    assert math.isnan(before.mean_score[0])
    assert math.isnan(before.share_present[0])
    assert (before.absent[0], before.present[0]) == (0, 0)
