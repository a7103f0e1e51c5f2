"""Calibration against scikit-learn, on known distributions, and on images held out of the fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from patchct_edge.bundle import Calibration
from patchct_edge.errors import UserError
from patchct_edge.evaluation.calibration_fit import (
    MIN_LABEL_POSITIVES,
    cross_fit_calibration,
    fit_calibration,
    match_tag_counts,
)
from patchct_edge.evaluation.objective import Objective
from patchct_edge.metrics import expected_calibration_error

F1 = Objective()


def draw_cells(seed=0, n=2000, m=4, slope=2.5, shift=1.2):
    """Draw logits that are too extreme by `slope` and too high by `shift`, and labels."""
    rng = np.random.default_rng(seed)
    true_logits = rng.normal(-1, 1.5, (n, m))
    targets = rng.random((n, m)) < 1 / (1 + np.exp(-true_logits))
    logits = (slope * true_logits + shift).astype(np.float32)
    return logits, targets, rng.random((n, m)) < 0.1


@pytest.mark.parametrize("scale", [0.01, 1, 30])
@pytest.mark.parametrize("seed", range(3))
def test_slope_and_bias_agree_with_logistic_regression(seed, scale):
    """Platt's soft targets are every cell as a positive and as a negative, weighted."""
    logits, targets, ignored = draw_cells(seed, n=150)
    logits = logits * np.float32(scale)
    calibration = fit_calibration(logits, targets, ignored, F1).calibration
    x, y = logits[~ignored].astype(np.float64)[:, None] / scale, targets[~ignored]
    positives, negatives = y.sum(), (~y).sum()
    soft = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([soft, 1 - soft])
    )
    assert scale / calibration.temperature == pytest.approx(model.coef_[0, 0], rel=1e-3)
    assert calibration.bias == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-3)


def test_a_known_slope_and_shift_are_corrected():
    logits, targets, ignored = draw_cells(n=20000)
    calibration = fit_calibration(logits, targets, ignored, F1).calibration
    assert calibration.temperature == pytest.approx(2.5, rel=0.05)
    assert calibration.bias == pytest.approx(-1.2 / 2.5, abs=0.05)


def test_ignored_cells_do_not_count():
    logits, targets, ignored = draw_cells(n=200)
    fit = fit_calibration(logits, targets, ignored, F1)
    other = fit_calibration(np.where(ignored, 40, logits), targets ^ ignored, ignored, F1)
    np.testing.assert_array_equal(fit.calibration.thresholds, other.calibration.thresholds)
    assert fit.calibration.temperature == other.calibration.temperature


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_perfectly_separated_cells_give_a_finite_calibration(scale):
    targets = np.arange(60).reshape(20, 3) % 2 == 0
    logits = np.where(targets, 1, -1).astype(np.float32) * np.float32(scale)
    calibration = fit_calibration(logits, targets, np.zeros_like(targets), F1).calibration
    assert np.isfinite([calibration.temperature, calibration.bias, *calibration.thresholds]).all()
    assert (calibration.tags(logits) == targets).all()
    assert calibration.scores(logits)[targets] == pytest.approx(31 / 32, abs=1e-3)  # Platt's target


@pytest.mark.parametrize("positives", [0, MIN_LABEL_POSITIVES - 1, MIN_LABEL_POSITIVES])
def test_a_label_with_few_positives_takes_the_threshold_of_all_labels(positives):
    logits, targets, ignored = draw_cells(n=300)
    ignored[:] = False
    targets[:, 1] = False
    targets[:positives, 1] = True
    fit = fit_calibration(logits, targets, ignored, F1)
    assert fit.pooled == ((1,) if positives < MIN_LABEL_POSITIVES else ())
    scores = fit.calibration.scores(logits)
    common = F1.choose_threshold(scores.ravel(), targets.ravel())
    own = [F1.choose_threshold(scores[:, m], targets[:, m]) for m in range(4)]
    own[1] = common if positives < MIN_LABEL_POSITIVES else own[1]
    np.testing.assert_array_equal(fit.calibration.thresholds, own)


@pytest.mark.parametrize("name", ["precision", "recall"])
def test_thresholds_reach_the_objective(name):
    logits, targets, ignored = draw_cells(n=400)
    fit = fit_calibration(logits, targets, ignored, Objective(name, 0.8))
    tags = fit.calibration.scores(logits) >= fit.calibration.thresholds
    hits = (tags & targets & ~ignored).sum(0)
    total = tags if name == "precision" else targets
    assert fit.pooled == ()
    # The median over resamples reaches it on average, not to the last image of this sample.
    assert hits / (total & ~ignored).sum(0) == pytest.approx(0.8, abs=0.05)


def test_a_label_out_of_reach_takes_the_threshold_of_all_labels():
    logits, targets, ignored = draw_cells(n=400)
    targets[:, 2] = np.arange(400) % 20 == 0
    logits[:, 2] = -8.0 - targets[:, 2]  # lower where the label is present
    fit = fit_calibration(logits, targets, ignored, Objective("precision", 0.8))
    assert fit.pooled == (2,)


def test_an_objective_out_of_reach_is_an_error():
    logits, targets, ignored = draw_cells(n=400)
    logits[0], targets[0], ignored[0] = 99, False, False  # the highest scores are all wrong
    with pytest.raises(UserError, match="no threshold reaches the objective"):
        fit_calibration(logits, targets, ignored, Objective("precision", 1))


@pytest.mark.parametrize("fit", [fit_calibration, cross_fit_calibration])
@pytest.mark.parametrize("present", [True, False])
def test_labels_all_present_or_all_absent_cannot_calibrate(fit, present):
    logits, targets, ignored = draw_cells(n=50)
    targets[:] = present
    with pytest.raises(UserError, match="all present or all absent"):
        fit(logits, targets, ignored, F1)
    targets[0] = not present
    ignored[0] = True
    with pytest.raises(UserError, match="all present or all absent"):
        fit_calibration(logits, targets, ignored, F1)


def test_scores_that_are_higher_without_the_label_are_an_error():
    logits, targets, ignored = draw_cells(n=300)
    with pytest.raises(UserError, match="not higher where a label is present"):
        fit_calibration(-logits, targets, ignored, F1)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_images_are_an_error(n):
    logits, targets, ignored = (cells[:n] for cells in draw_cells())
    with pytest.raises(UserError, match=r"(?s)too few images.*at least 5"):
        cross_fit_calibration(logits, targets, ignored, F1)
    with pytest.raises(UserError):
        fit_calibration(logits[:0], targets[:0], ignored[:0], F1)


@pytest.mark.parametrize("row", [0, 17, 99])
def test_no_row_is_scored_by_a_calibration_that_saw_it(row):
    logits, targets, ignored = draw_cells(n=100)
    before = cross_fit_calibration(logits, targets, ignored, F1)
    targets[row] ^= True
    ignored[row] = False
    after = cross_fit_calibration(logits, targets, ignored, F1)
    np.testing.assert_array_equal(after.scores[row], before.scores[row])
    np.testing.assert_array_equal(after.tags[row], before.tags[row])
    assert (after.scores != before.scores).any(1).mean() > 0.7  # the other four fifths


def test_calibrated_scores_are_honest_on_held_out_images():
    logits, targets, ignored = draw_cells(n=3000)
    crossed = cross_fit_calibration(logits, targets, ignored, F1)
    neutral = Calibration.default(4).scores(logits)
    assert expected_calibration_error(neutral, targets, ignored) > 0.1
    assert expected_calibration_error(crossed.scores, targets, ignored) < 0.02


def test_thresholds_follow_the_tag_counts_of_a_reference():
    logits, targets, ignored = draw_cells(n=300)
    fit = fit_calibration(logits, targets, ignored, F1)
    reference_tags = fit.calibration.tags(logits)
    noisy = logits + np.random.default_rng(1).normal(0, 0.1, logits.shape).astype(np.float32)
    moved = match_tag_counts(fit, noisy, reference_tags).calibration
    assert moved.tags(noisy).sum(0).tolist() == reference_tags.sum(0).tolist()
    assert (moved.temperature, moved.bias) == (fit.calibration.temperature, fit.calibration.bias)
