"""Every metric against scikit-learn or a slow loop, on random data with ties and ignored cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from patchct_edge import metrics


def make_scores(seed, n=60, m=7, levels=12):
    """Scores of few levels (many ties), targets, and about a tenth of the cells ignored."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(n, m)) / levels
    return scores, rng.random((n, m)) < 0.3, rng.random((n, m)) < 0.1


seeds = pytest.mark.parametrize("seed", range(8))


@seeds
@pytest.mark.parametrize("levels", [2, 12, 10**9])
def test_average_precision_equals_scikit_learns(seed, levels):
    scores, targets, ignored = make_scores(seed, levels=levels)
    figures = metrics.average_precisions(scores, targets, ignored)
    for m in range(scores.shape[1]):
        counted = ~ignored[:, m]
        expected = average_precision_score(targets[counted, m], scores[counted, m])
        assert figures[m] == pytest.approx(expected, abs=1e-12)
        alone = metrics.average_precision(scores[counted, m], targets[counted, m])
        assert alone == pytest.approx(expected, abs=1e-12)
    assert metrics.mean_average_precision(scores, targets, ignored) == pytest.approx(figures.mean())


def test_average_precision_by_hand():
    # Precision is 1/1 at recall 1/2, then 2/4 at recall 1: the two scores of 0.5 go together.
    scores, targets = np.array([0.9, 0.5, 0.5, 0.7]), np.array([True, True, False, False])
    assert metrics.average_precision(scores, targets) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_average_precision_at_the_edges():
    scores, targets, _ = make_scores(0)
    targets[:, 0], targets[:, 1] = False, True
    only_ignored = np.zeros_like(targets)
    only_ignored[:, 2] = targets[:, 2]
    figures = metrics.average_precisions(scores, targets, only_ignored)
    assert np.isnan(figures).tolist() == [True, False, True] + [False] * 4
    assert figures[1] == 1
    mean = metrics.mean_average_precision(scores, targets, only_ignored)
    assert mean == pytest.approx(np.nanmean(figures))
    assert math.isnan(metrics.mean_average_precision(scores, np.zeros_like(targets)))
    assert math.isnan(metrics.average_precision(np.zeros(0), np.zeros(0, bool)))


@given(st.integers(0, 2**32 - 1))
def test_permuting_the_labels_permutes_their_average_precisions(seed):
    scores, targets, ignored = make_scores(seed)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.permutation(size) for size in scores.shape)
    permuted = (x[rows][:, columns] for x in (scores, targets, ignored))
    expected = metrics.average_precisions(scores, targets, ignored)[columns]
    np.testing.assert_allclose(metrics.average_precisions(*permuted), expected, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    scores, targets, _ = make_scores(0)
    scores[3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        metrics.average_precisions(scores, targets)


def test_shapes_that_differ_are_refused():
    scores, targets, ignored = make_scores(0)
    for arrays in [(scores, targets[:1]), (scores, targets, ignored[:, :1])]:
        with pytest.raises(ValueError, match="shape"):
            metrics.average_precisions(*arrays)


@seeds
def test_multi_label_figures_equal_scikit_learns(seed):
    scores, targets, _ = make_scores(seed)
    predictions = scores > 0.6
    predictions[:, 0] = False  # nothing predicted: precision 0
    figures = metrics.multi_label_figures(predictions, targets)
    for average, p, r in [("macro", figures.cp, figures.cr), ("micro", figures.op, figures.or_)]:
        assert p == pytest.approx(
            precision_score(targets, predictions, average=average, zero_division=0)
        )
        assert r == pytest.approx(recall_score(targets, predictions, average=average))
    assert figures.cf1 == pytest.approx(2 * figures.cp * figures.cr / (figures.cp + figures.cr))
    assert figures.of1 == pytest.approx(f1_score(targets, predictions, average="micro"))


@seeds
def test_ignored_cells_do_not_count(seed):
    scores, targets, ignored = make_scores(seed)
    predictions = scores > 0.6
    figures = metrics.multi_label_figures(predictions, targets, ignored)
    error = metrics.expected_calibration_error(scores, targets, ignored)
    assert figures == metrics.multi_label_figures(predictions ^ ignored, targets ^ ignored, ignored)
    assert error == metrics.expected_calibration_error(
        np.where(ignored, 1, scores), targets ^ ignored, ignored
    )


def test_labels_without_positives_count_in_the_pooled_precision_only():
    targets = np.array([[True, False], [True, False]])
    predictions = np.array([[True, True], [False, False]])
    figures = metrics.multi_label_figures(predictions, targets)
    f1: Any = pytest.approx(2 / 3)
    assert figures == metrics.MultiLabelFigures(1, 0.5, f1, 0.5, 0.5, 0.5)
    nothing = np.zeros_like(targets)
    without_tags = metrics.multi_label_figures(nothing, targets)
    assert without_tags == metrics.MultiLabelFigures(0, 0, 0, 0, 0, 0)
    undefined = metrics.multi_label_figures(predictions, nothing)
    assert undefined.op == 0
    assert all(math.isnan(x) for x in (undefined.cp, undefined.cr, undefined.cf1, undefined.or_))


def test_top_k_predictions_break_ties_by_label_order():
    scores = np.array([[0.1, 0.5, 0.5, 0.5, 0.2], [0.0, 0.0, 0.0, 0.0, 1.0]], np.float32)
    assert [np.flatnonzero(row).tolist() for row in metrics.top_k_predictions(scores, 2)] == [
        [1, 2],
        [0, 4],
    ]
    assert metrics.top_k_predictions(scores).sum(axis=1).tolist() == [3, 3]
    assert metrics.top_k_predictions(scores, 9).all()


@seeds
def test_expected_calibration_error_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    probabilities, targets, ignored = (
        rng.random((40, 5)),
        rng.random((40, 5)) < 0.4,
        make_scores(seed)[2],
    )
    probabilities[:6, 0] = [0, 1, 1 / 15, 0.2, 0.4, 0.8]  # the edges of bins
    ignored = ignored[:40, :5]
    members: dict[Any, Any] = {}
    for n, m in zip(*np.nonzero(~ignored), strict=True):
        cell = probabilities[n, m]
        members.setdefault(min(int(cell * 15), 14), []).append((cell, targets[n, m]))
    gaps = [
        len(cells) * abs(np.mean([p for p, _ in cells]) - np.mean([t for _, t in cells]))
        for cells in members.values()
    ]
    figures = metrics.expected_calibration_error(probabilities, targets, ignored)
    assert figures == pytest.approx(sum(gaps) / (~ignored).sum(), abs=1e-12)


def test_expected_calibration_error_at_the_edges():
    targets = np.array([[True, False]])
    assert metrics.expected_calibration_error(np.array([[1.0, 0.0]]), targets) == 0
    assert metrics.expected_calibration_error(np.array([[0.0, 1.0]]), targets) == 1
    last_bin = metrics.expected_calibration_error(np.array([[0.95, 1.0]]), targets)
    assert last_bin == pytest.approx((1 - 0.05) / 2)  # the two gaps cancel within one bin
    assert math.isnan(
        metrics.expected_calibration_error(np.ones((1, 2)), targets, np.ones((1, 2), bool))
    )
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metrics.expected_calibration_error(np.array([[1.1, 0.0]]), targets)


@seeds
@pytest.mark.parametrize("levels", [2, 12, 10**9])
def test_best_f1_threshold_equals_brute_force(seed, levels):
    scores, targets, _ = make_scores(seed, n=40, levels=levels)
    for column, truth in zip(scores.T, targets.T, strict=True):
        threshold, f1 = metrics.best_f1_threshold(column, truth)
        by_threshold = {t: f1_score(truth, column >= t) for t in np.unique(column)}
        best = max(by_threshold.values())
        lowest_accepted = max(t for t, figure in by_threshold.items() if figure > best - 1e-12)
        below = column[column < lowest_accepted].max(initial=-np.inf)
        midway = (lowest_accepted + below) / 2 if np.isfinite(below) else lowest_accepted
        assert f1 == pytest.approx(best, abs=1e-12)
        assert threshold == pytest.approx(midway)


def test_best_f1_threshold_at_the_edges():
    scores = np.array([0.2, 0.6, 0.4])
    assert metrics.best_f1_threshold(scores, np.ones(3, bool)) == (0.2, 1)
    assert metrics.best_f1_threshold(scores, np.array([False, True, False])) == (
        pytest.approx(0.5),
        1,
    )
    assert all(map(math.isnan, metrics.best_f1_threshold(scores, np.zeros(3, bool))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_f1_threshold_separates_adjacent_floats(dtype):
    low = dtype(0.3)
    for _ in range(4):  # rounding goes either way
        high = np.nextafter(low, dtype(1))
        scores = np.array([low, high])
        threshold, f1 = metrics.best_f1_threshold(scores, np.array([False, True]))
        assert f1 == 1
        assert (scores >= threshold).tolist() == [False, True]
        low = high


def test_tag_flips():
    a = np.array([[True, True, False], [False, True, True]])
    b = np.array([[True, False, True], [False, True, True]])
    empty = np.zeros_like(a)
    assert metrics.tag_flips(a, b) == 2 / 4
    assert metrics.tag_flips(a, a) == 0
    assert metrics.tag_flips(a, empty) == 1
    assert metrics.tag_flips(empty, empty) == 0
    assert metrics.tag_flips(empty, a) == 4
    with pytest.raises(ValueError, match="shape"):
        metrics.tag_flips(a, b[:1])


@seeds
@pytest.mark.parametrize("minimum", [0.05, 0.3, 0.55, 0.9, 1])
@pytest.mark.parametrize("levels", [2, 12, 10**9])
def test_thresholds_of_a_minimum_equal_brute_force(seed, levels, minimum):
    scores, targets, _ = make_scores(seed, n=40, levels=levels)
    for column, truth in zip(scores.T, targets.T, strict=True):
        thresholds = np.unique(column)
        precise = [t for t in thresholds if precision_score(truth, column >= t) >= minimum]
        precise = [t for t in precise if truth[column >= t].any()]
        complete = [t for t in thresholds if recall_score(truth, column >= t) >= minimum]
        threshold = metrics.precision_threshold(column, truth, minimum)
        if precise:
            np.testing.assert_array_equal(column >= threshold, column >= min(precise))
        else:
            assert math.isnan(threshold)
        threshold = metrics.recall_threshold(column, truth, minimum)
        np.testing.assert_array_equal(column >= threshold, column >= max(complete))


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_minimum_that_is_reached_exactly_is_reached(hits, others):
    """Rounding must not lose it: 0.55 times 20 is a little more than 11."""
    scores = np.linspace(1, 0, hits + others)
    tied, minimum = np.ones_like(scores), hits / (hits + others)
    threshold = metrics.precision_threshold(tied, np.arange(len(tied)) < hits, minimum)
    assert (tied >= threshold).all()
    threshold = metrics.recall_threshold(scores, np.ones(len(scores), bool), minimum)
    assert (scores >= threshold).sum() == hits


def test_thresholds_of_a_minimum_at_the_edges():
    scores, nothing = np.array([0.9, 0.6, 0.3]), np.zeros(3, bool)
    assert math.isnan(metrics.precision_threshold(scores, nothing, 0.1))
    assert math.isnan(metrics.recall_threshold(scores, nothing, 0.1))
    assert math.isnan(metrics.precision_threshold(scores[:0], nothing[:0], 0.1))
    last = np.array([False, False, True])
    assert math.isnan(metrics.precision_threshold(scores, last, 0.5))
    assert metrics.precision_threshold(scores, last, 1 / 3) == 0.3
    assert metrics.recall_threshold(scores, last, 0.01) == 0.3
