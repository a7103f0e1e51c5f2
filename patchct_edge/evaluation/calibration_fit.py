"""Logits to honest probabilities, and a threshold for every label, from a labelled set.

The logits of all cells together are calibrated with Platt's two numbers,
score = sigmoid(logit / temperature + bias): a temperature alone (Guo et al., arXiv 1706.04599) can
make scores more or less extreme, but not move them; the asymmetric loss, which spares easy
negatives, moves them all (docs/results.md has both). A pair for each label would need more
positives than most labels have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from patchct_edge.arrays import Bools, Float32s, Float64s, Floats, Indices
from patchct_edge.bundle import Calibration
from patchct_edge.errors import UserError
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import (
    best_f1_threshold,
    precision_threshold,
    recall_threshold,
    threshold_between,
)

FEW = 10  # positives below which a label takes the threshold of all labels together
FOLDS = 5
RESAMPLES = 100
F1, PRECISION, RECALL = "f1", "precision", "recall"


@dataclass(frozen=True)
class Objective:
    """What a threshold is chosen for: the best F1, or a wanted precision or recall, 0..1."""

    name: str = F1
    wanted: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `f1`, `precision=0.9` or `recall=0.9`."""
        name, _, value = text.partition("=")
        try:
            wanted = float(value or 0)
        except ValueError:
            wanted = -1
        known = text == F1 or (name in (PRECISION, RECALL) and 0 < wanted <= 1)
        if not known:
            expected = "f1, precision=P or recall=R, with P and R above 0 and at most 1"
            raise UserError("unknown objective", got=text, expected=expected)
        return cls(name, wanted)

    def __str__(self) -> str:
        return self.name if self.name == F1 else f"{self.name}={self.wanted:g}"

    def threshold(self, scores: Floats, targets: Bools) -> float:
        """Return the threshold for (N,) scores and targets; NaN where none reaches it.

        The median over resamples: the very best of one sample is mostly luck, and lies elsewhere in
        the next precision, whose tags then flip for nothing (docs/experiments.md).
        """
        best = self._best(scores, targets)
        rng = np.random.default_rng(0)
        draws = (rng.integers(len(scores), size=len(scores)) for _ in range(RESAMPLES))
        found = [best, *(self._best(scores[rows], targets[rows]) for rows in draws)]
        return best if np.isnan(best) else float(np.nanmedian(found))

    def _best(self, scores: Floats, targets: Bools) -> float:
        if self.name == F1:
            return best_f1_threshold(scores, targets)[0]
        search = precision_threshold if self.name == PRECISION else recall_threshold
        return search(scores, targets, self.wanted)


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and the labels that took the threshold of all labels together."""

    calibration: Calibration
    pooled: tuple[int, ...]


def fit_calibration(
    logits: Floats, targets: Bools, ignored: Bools, objective: Objective
) -> CalibrationFit:
    """Calibrate on (N, M) logits and labels; ignored cells do not count.

    Raises:
        UserError: no label is present anywhere, or every one everywhere; no threshold reaches the
            objective over all labels together.
    """
    counted = ~ignored
    temperature, bias = _platt(logits[counted], targets[counted])
    m = logits.shape[1]
    scores = Calibration(np.full(m, 0.5), temperature, bias).scores(logits)
    common = objective.threshold(scores[counted], targets[counted])
    if np.isnan(common):
        raise UserError(
            "no threshold reaches the objective, all labels taken together",
            got=objective,
            fix="a lower figure",
        )
    thresholds, pooled = np.full(m, common), []
    for label in range(m):
        rows = counted[:, label]
        found = objective.threshold(scores[rows, label], targets[rows, label])
        if targets[rows, label].sum() < FEW or np.isnan(found):
            pooled.append(label)
        else:
            thresholds[label] = found
    return CalibrationFit(Calibration(thresholds, temperature, bias), tuple(pooled))


def match_tag_counts(found: CalibrationFit, logits: Floats, tags: Bools) -> CalibrationFit:
    """Return a calibration whose thresholds accept as many images of each label as `tags` has.

    For a less exact precision of a model whose thresholds are set: set anew on its own scores they
    would lie elsewhere by luck, and tags would flip for that alone (docs/experiments.md).

    Args:
        found: what `fitted` made of this precision.
        logits: float (N, M) of this precision.
        tags: bool (N, M), of the exact precision on the same images.
    """
    thresholds = found.calibration.thresholds.copy()
    scores = found.calibration.scores(logits)
    for label, count in enumerate(tags.sum(0)):
        if 0 < count < len(scores):
            thresholds[label] = threshold_between(np.sort(scores[:, label])[::-1], count - 1)
    calibration = replace(found.calibration, thresholds=thresholds)
    return replace(found, calibration=calibration)


class ReferenceTags(NamedTuple):
    """What a calibrated engine makes of images: tags, bool (N, M)."""

    paths: tuple[Path, ...]
    tags: Bools


def fit_to_reference(
    judged: Predictions, objective: Objective, exact: ReferenceTags | None
) -> CalibrationFit:
    """Calibrate an engine; where the most exact precision is there, to tag as that one does."""
    found = fit_calibration(judged.logits, judged.targets, judged.ignored, objective)
    if exact is None or exact.paths != judged.paths:
        return found
    return match_tag_counts(found, judged.logits, exact.tags)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Scores, float32 (N, M), and tags, bool (N, M), by calibrations that never saw their rows."""

    scores: Float32s
    tags: Bools


def cross_fit(logits: Floats, targets: Bools, ignored: Bools, objective: Objective) -> CrossFit:
    """Calibrate every fifth of the images on the other four.

    What is judged so is what the calibration is worth on images that it has not seen: thresholds
    judged on the rows that set them look better than they are.
    """
    scores, tags = np.zeros(logits.shape, np.float32), np.zeros(logits.shape, bool)
    for held in _folds(len(logits)):
        rest = np.setdiff1d(np.arange(len(logits)), held)
        calibration = fit_calibration(
            logits[rest], targets[rest], ignored[rest], objective
        ).calibration
        scores[held] = calibration.scores(logits[held])
        tags[held] = scores[held] >= calibration.thresholds
    return CrossFit(scores, tags)


def _folds(n: int) -> Iterator[Indices]:
    if n < FOLDS:
        raise UserError("too few images to calibrate on", got=n, expected=f"at least {FOLDS}")
    yield from np.array_split(np.random.default_rng(0).permutation(n), FOLDS)


def _platt(logits: npt.NDArray[Any], targets: Bools) -> tuple[float, float]:
    """Return (temperature, bias) of the least cross-entropy over (cells,), by Newton's method.

    The targets are Platt's (1999), a little within 0 and 1: separable cells have an optimum too.
    """
    positives, cells = int(targets.sum()), len(targets)
    if not 0 < positives < cells:
        raise UserError(
            "nothing to calibrate on: the labels are all present or all absent",
            got=f"{positives} of {cells} image-label pairs present",
        )
    y = np.where(targets, (positives + 1) / (positives + 2), 1 / (cells - positives + 2))
    x = np.stack([logits.astype(np.float64), np.ones(cells)])  # (2, cells)
    w = np.array([1.0, 0.0])  # slope and bias
    loss = _cross_entropy(w @ x, y)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(w @ x, -500, 500)))
        gradient, hessian = x @ (p - y), (x * (p * (1 - p))) @ x.T
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        while (trial := _cross_entropy((w - step) @ x, y)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        w, gained, loss = w - step, loss - trial, trial
        if gained < 1e-10 * cells:
            break
    if w[0] <= 0:
        raise UserError(
            "the scores are not higher where a label is present than where it is absent",
            fix="another data set, with the labels of this model; or train longer",
        )
    return float(1 / w[0]), float(w[1])


def _cross_entropy(z: Float64s, y: Float64s) -> float:
    return float((np.logaddexp(0, z) - y * z).sum())
