"""Calibration against scikit-learn, on known distributions, and judged on images not fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from patchct_edge.bundle import Calibration
from patchct_edge.errors import UserError
from patchct_edge.evaluation.calibration_fit import FEW, Objective, cross_fit, fit_calibration
from patchct_edge.metrics import expected_calibration_error

F1 = Objective()


def drawn(seed=0, n=2000, m=4, slope=2.5, shift=1.2):
    """Logits that are too extreme by `slope` and too high by `shift`, labels of true odds."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(-1, 1.5, (n, m))
    targets = rng.random((n, m)) < 1 / (1 + np.exp(-honest))
    logits = (slope * honest + shift).astype(np.float32)
    return logits, targets, rng.random((n, m)) < 0.1


@pytest.mark.parametrize("text", ["f1", "precision=0.9", "recall=1", "recall=0.5"])
def test_an_objective_is_read_and_written(text):
    assert str(Objective.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f2",
        "f1=",
        "f1=0.5",
        "precision",
        "precision=",
        "precision=0",
        "recall=1.1",
        "recall=-1",
        "precision=nan",
        "recall=inf",
        "recall=high",
        "recall=0.5=0.5",
        "Precision=0.9",
    ],
)
def test_an_unknown_objective_is_refused(text):
    with pytest.raises(UserError, match=r"(?s)unknown objective.*precision=P or recall=R"):
        Objective.parse(text)


@pytest.mark.parametrize("scale", [0.01, 1, 30])
@pytest.mark.parametrize("seed", range(3))
def test_slope_and_bias_are_those_of_logistic_regression(seed, scale):
    """With Platt's targets, which are a positive and a negative, weighted, of every cell."""
    logits, targets, ignored = drawn(seed, n=150)
    logits = logits * np.float32(scale)
    found = fit_calibration(logits, targets, ignored, F1).calibration
    x, y = logits[~ignored].astype(np.float64)[:, None] / scale, targets[~ignored]
    positives, negatives = y.sum(), (~y).sum()
    soft = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([soft, 1 - soft])
    )
    assert scale / found.temperature == pytest.approx(model.coef_[0, 0], rel=1e-3)
    assert found.bias == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-3)


def test_a_known_fault_of_the_logits_is_taken_out():
    logits, targets, ignored = drawn(n=20000)
    found = fit_calibration(logits, targets, ignored, F1).calibration
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.bias == pytest.approx(-1.2 / 2.5, abs=0.05)


def test_what_is_ignored_does_not_count():
    logits, targets, ignored = drawn(n=200)
    found = fit_calibration(logits, targets, ignored, F1)
    other = fit_calibration(np.where(ignored, 40, logits), targets ^ ignored, ignored, F1)
    np.testing.assert_array_equal(found.calibration.thresholds, other.calibration.thresholds)
    assert found.calibration.temperature == other.calibration.temperature


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_cells_that_a_score_parts_stay_finite(scale):
    targets = np.arange(60).reshape(20, 3) % 2 == 0
    logits = np.where(targets, 1, -1).astype(np.float32) * np.float32(scale)
    found = fit_calibration(logits, targets, np.zeros_like(targets), F1).calibration
    assert np.isfinite([found.temperature, found.bias, *found.thresholds]).all()
    assert ((found.scores(logits) >= found.thresholds) == targets).all()
    assert found.scores(logits)[targets] == pytest.approx(31 / 32, abs=1e-3)  # Platt's target


@pytest.mark.parametrize("positives", [0, FEW - 1, FEW])
def test_few_positives_take_the_threshold_of_all_labels(positives):
    logits, targets, ignored = drawn(n=300)
    ignored[:] = False
    targets[:, 1] = False
    targets[:positives, 1] = True
    found = fit_calibration(logits, targets, ignored, F1)
    assert found.pooled == ((1,) if positives < FEW else ())
    scores = found.calibration.scores(logits)
    common = F1.threshold(scores.ravel(), targets.ravel())
    own = [F1.threshold(scores[:, m], targets[:, m]) for m in range(4)]
    own[1] = common if positives < FEW else own[1]
    np.testing.assert_array_equal(found.calibration.thresholds, own)


@pytest.mark.parametrize("name", ["precision", "recall"])
def test_thresholds_reach_the_wanted_figure(name):
    logits, targets, ignored = drawn(n=400)
    found = fit_calibration(logits, targets, ignored, Objective(name, 0.8))
    tags = found.calibration.scores(logits) >= found.calibration.thresholds
    hits = (tags & targets & ~ignored).sum(0)
    of = tags if name == "precision" else targets
    assert found.pooled == ()
    # Set by the median over resamples: reached on average, not to the last image of this sample.
    assert hits / (of & ~ignored).sum(0) == pytest.approx(0.8, abs=0.05)


def test_a_label_out_of_reach_takes_the_threshold_of_all_labels():
    logits, targets, ignored = drawn(n=400)
    targets[:, 2] = np.arange(400) % 20 == 0
    logits[:, 2] = -8.0 - targets[:, 2]  # lower where the label is present
    found = fit_calibration(logits, targets, ignored, Objective("precision", 0.8))
    assert found.pooled == (2,)


def test_an_objective_out_of_reach_is_an_error():
    logits, targets, ignored = drawn(n=400)
    logits[0], targets[0], ignored[0] = 99, False, False  # the highest scores are all wrong
    with pytest.raises(UserError, match="no threshold reaches the objective"):
        fit_calibration(logits, targets, ignored, Objective("precision", 1))


@pytest.mark.parametrize("fit", [fit_calibration, cross_fit])
@pytest.mark.parametrize("present", [True, False])
def test_labels_of_one_class_cannot_be_calibrated_on(fit, present):
    logits, targets, ignored = drawn(n=50)
    targets[:] = present
    with pytest.raises(UserError, match="all present or all absent"):
        fit(logits, targets, ignored, F1)
    targets[0] = not present
    ignored[0] = True
    with pytest.raises(UserError, match="all present or all absent"):
        fit_calibration(logits, targets, ignored, F1)


def test_scores_that_are_the_wrong_way_round_are_an_error():
    logits, targets, ignored = drawn(n=300)
    with pytest.raises(UserError, match="not higher where a label is present"):
        fit_calibration(-logits, targets, ignored, F1)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_images_are_an_error(n):
    logits, targets, ignored = (each[:n] for each in drawn())
    with pytest.raises(UserError, match=r"(?s)too few images.*at least 5"):
        cross_fit(logits, targets, ignored, F1)
    with pytest.raises(UserError):
        fit_calibration(logits[:0], targets[:0], ignored[:0], F1)


@pytest.mark.parametrize("row", [0, 17, 99])
def test_no_row_is_judged_by_a_calibration_that_saw_it(row):
    logits, targets, ignored = drawn(n=100)
    before = cross_fit(logits, targets, ignored, F1)
    targets[row] ^= True
    ignored[row] = False
    after = cross_fit(logits, targets, ignored, F1)
    np.testing.assert_array_equal(after.scores[row], before.scores[row])
    np.testing.assert_array_equal(after.tags[row], before.tags[row])
    assert (after.scores != before.scores).any(1).mean() > 0.7  # the other four fifths


def test_calibration_makes_scores_honest_on_images_not_fitted_to():
    logits, targets, ignored = drawn(n=3000)
    found = cross_fit(logits, targets, ignored, F1)
    neutral = Calibration.default(4).scores(logits)
    assert expected_calibration_error(neutral, targets, ignored) > 0.1
    assert expected_calibration_error(found.scores, targets, ignored) < 0.02
