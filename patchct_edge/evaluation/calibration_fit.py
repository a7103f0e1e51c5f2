"""Fit a calibration on labeled images: logits to probabilities, and a threshold for every label.

The logits of all image-label pairs together are calibrated with Platt's two numbers,
score = sigmoid(logit / temperature + bias). A temperature alone (Guo et al., arXiv 1706.04599)
makes scores more or less extreme but cannot move them, and the asymmetric loss, which spares easy
negatives, moves them all (docs/lab/measurements.md has both). Two numbers for each label would
need more positives than most labels have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Float64s, Floats, Indices
from patchct_edge.bundle import Calibration
from patchct_edge.errors import UserError
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import threshold_between

MIN_LABEL_POSITIVES = 10  # a label with fewer takes the threshold of all labels together
FOLDS = 5
MAX_NEWTON_STEPS = 100


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and the indices of the labels that took the threshold of all labels."""

    calibration: Calibration
    pooled: tuple[int, ...]


class ReferenceTags(NamedTuple):
    """The tags of the most exact precision, bool (N, M), for the images of `paths`."""

    paths: tuple[Path, ...]
    tags: Bools

    @classmethod
    def from_predictions(cls, predictions: Predictions, calibration: Calibration) -> ReferenceTags:
        return cls(predictions.paths, calibration.tags(predictions.logits))


def fit_to_reference(
    predictions: Predictions, objective: Objective, reference: ReferenceTags | None
) -> CalibrationFit:
    """Calibrate an engine; with a reference on the same images, make it tag as often as that does.

    Raises:
        UserError: see `fit_calibration`.
    """
    fit = fit_calibration(predictions.logits, predictions.targets, predictions.ignored, objective)
    if reference is None or reference.paths != predictions.paths:
        return fit
    return match_tag_counts(fit, predictions.logits, reference.tags)


def fit_calibration(
    logits: Floats, targets: Bools, ignored: Bools, objective: Objective
) -> CalibrationFit:
    """Calibrate on logits and labels (N, M); ignored cells do not count.

    Raises:
        UserError: the labels are all present or all absent; scores are not higher where a label is
            present; or no threshold reaches the objective over all labels together.
    """
    counted = ~ignored
    temperature, bias = _fit_platt(logits[counted], targets[counted])
    m = logits.shape[1]
    scores = Calibration(np.full(m, 0.5), temperature, bias).scores(logits)
    common = objective.choose_threshold(scores[counted], targets[counted])
    if np.isnan(common):
        raise UserError(
            "no threshold reaches the objective, even for all labels together",
            got=objective,
            fix="lower the precision or recall of --objective",
        )
    thresholds, pooled = np.full(m, common), []
    for label in range(m):
        rows = counted[:, label]
        threshold = objective.choose_threshold(scores[rows, label], targets[rows, label])
        if targets[rows, label].sum() < MIN_LABEL_POSITIVES or np.isnan(threshold):
            pooled.append(label)
        else:
            thresholds[label] = threshold
    return CalibrationFit(Calibration(thresholds, temperature, bias), tuple(pooled))


def match_tag_counts(fit: CalibrationFit, logits: Floats, reference_tags: Bools) -> CalibrationFit:
    """Move the thresholds of a less exact precision to tag as many images as the reference does.

    Thresholds chosen again on this precision's own scores would lie elsewhere by luck, and tags
    would flip for that alone (docs/lab/experiments.md).

    Args:
        fit: of this precision.
        logits: (N, M) of this precision.
        reference_tags: bool (N, M), of the most exact precision on the same images.
    """
    thresholds = fit.calibration.thresholds.copy()
    scores = fit.calibration.scores(logits)
    for label, count in enumerate(reference_tags.sum(0)):
        if 0 < count < len(scores):
            thresholds[label] = threshold_between(np.sort(scores[:, label])[::-1], count - 1)
    return replace(fit, calibration=replace(fit.calibration, thresholds=thresholds))


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Scores, float32 (N, M), and tags, bool (N, M), of images that the calibration never saw."""

    scores: Float32s
    tags: Bools


def cross_fit_calibration(
    logits: Floats, targets: Bools, ignored: Bools, objective: Objective
) -> CrossFit:
    """Calibrate every fifth of the images on the other four.

    Its figures tell what a calibration is worth on new images: thresholds look better than they are
    on the images that set them.

    Raises:
        UserError: there are fewer than five images; or see `fit_calibration`.
    """
    scores, tags = np.zeros(logits.shape, np.float32), np.zeros(logits.shape, bool)
    for held_out in _iter_folds(len(logits)):
        rest = np.setdiff1d(np.arange(len(logits)), held_out)
        fit = fit_calibration(logits[rest], targets[rest], ignored[rest], objective)
        scores[held_out] = fit.calibration.scores(logits[held_out])
        tags[held_out] = scores[held_out] >= fit.calibration.thresholds
    return CrossFit(scores, tags)


def _iter_folds(n: int) -> Iterator[Indices]:
    if n < FOLDS:
        raise UserError("too few images to calibrate on", got=n, expected=f"at least {FOLDS}")
    yield from np.array_split(np.random.default_rng(0).permutation(n), FOLDS)


def _fit_platt(logits: Floats, targets: Bools) -> tuple[float, float]:
    """Return (temperature, bias) of the least cross-entropy over (cells,), by Newton's method.

    The targets are Platt's (1999), a little within 0 and 1, so that logits which separate the
    labels perfectly have an optimum too.
    """
    positives, cells = int(targets.sum()), len(targets)
    if not 0 < positives < cells:
        raise UserError(
            "cannot calibrate: the labels are all present or all absent",
            got=f"{positives} of {cells} image-label pairs present",
        )
    y = np.where(targets, (positives + 1) / (positives + 2), 1 / (cells - positives + 2))
    x = np.stack([logits.astype(np.float64), np.ones(cells)])  # (2, cells)
    w = np.array([1.0, 0.0])  # slope and bias
    loss = _cross_entropy(w @ x, y)
    for _ in range(MAX_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(w @ x, -500, 500)))
        gradient, hessian = x @ (p - y), (x * (p * (1 - p))) @ x.T
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        while (trial := _cross_entropy((w - step) @ x, y)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        w, gain, loss = w - step, loss - trial, trial
        if gain < 1e-10 * cells:
            break
    if w[0] <= 0:
        raise UserError(
            "cannot calibrate: scores are not higher where a label is present",
            fix="use a dataset with the labels of this model, or train longer",
        )
    return float(1 / w[0]), float(w[1])


def _cross_entropy(z: Float64s, y: Float64s) -> float:
    return float((np.logaddexp(0, z) - y * z).sum())
