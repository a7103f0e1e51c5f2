"""Precision-recall curves against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve

from patchct_edge.evaluation.curves import compute_curves


def best_precision(scores, targets, recall):
    precisions, recalls, _ = precision_recall_curve(targets, scores)
    return precisions[:-1][recalls[:-1] >= recall - 1e-9].max()  # its last point is made up


def test_a_curve_is_the_best_precision_at_each_recall_or_more(predictions):
    curves, counted = compute_curves(predictions), ~predictions.ignored
    scores, targets = predictions.logits[counted], predictions.targets[counted]
    expected = [best_precision(scores, targets, recall) for recall in curves.recall]
    np.testing.assert_allclose(curves.pooled, expected, atol=1e-12)
    for m, label in enumerate("ab"):
        rows = counted[:, m]
        scores, targets = predictions.logits[rows, m], predictions.targets[rows, m]
        expected = [best_precision(scores, targets, recall) for recall in curves.recall]
        precision = curves.labels[label]
        assert precision is not None
        np.testing.assert_allclose(precision, expected, atol=1e-12)


def test_a_label_without_positives_has_no_curve(predictions):
    assert compute_curves(predictions).labels["never"] is None
