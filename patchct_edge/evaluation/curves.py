"""What a report draws of one engine's scores: precision over recall, reliability, histograms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Floats
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.calibration_fit import (
    Objective,
    ReferenceTags,
    cross_fit,
    fit_to_reference,
)
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import (
    MultiLabelFigures,
    expected_calibration_error,
    multi_label_figures,
    precision_recall,
)

BINS = 10
POINTS = 101  # of a curve


@dataclass(frozen=True)
class Curves:
    """Precision at the recalls 0, 0.01 .. 1: of all cells together, and of each label or None."""

    recall: tuple[float, ...]
    pooled: tuple[float, ...]
    labels: dict[str, tuple[float, ...] | None]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compute_curves(judged: Predictions) -> Curves:
    """Return the precision-recall curves: the best precision at that recall or more."""
    counted = ~judged.ignored
    recalls = np.linspace(0, 1, POINTS)

    def curve(scores: Floats, targets: Bools) -> tuple[float, ...] | None:
        if not targets.any():
            return None
        precision, recall = precision_recall(scores, targets)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.minimum(np.searchsorted(recall, recalls - 1e-9), len(envelope) - 1)
        return tuple(envelope[at].tolist())

    pooled = curve(judged.logits[counted], judged.targets[counted])
    assert pooled is not None  # `judged` has a positive
    labels = {
        label: curve(judged.logits[rows, m], judged.targets[rows, m])
        for m, (label, rows) in enumerate(zip(judged.labels, counted.T, strict=True))
    }
    return Curves(tuple(recalls.tolist()), pooled, labels)


@dataclass(frozen=True)
class Scores:
    """Scores of all cells beside the truth, in `BINS` bins of 0..1; NaN where a bin is empty.

    `ece` is over 15 bins. `figures` are at the thresholds. The counts are of absent and present.
    """

    ece: float
    figures: MultiLabelFigures
    mean_score: tuple[float, ...]
    share_present: tuple[float, ...]
    absent: tuple[int, ...]
    present: tuple[int, ...]


@dataclass(frozen=True)
class Reliability:
    """Before calibration, and after: `after` is cross-fitted, on images not fitted to.

    `thresholds` are those that the whole set gives, `pooled` the labels that took the common one.
    """

    objective: str
    before: Scores
    after: Scores
    thresholds: dict[str, float]
    pooled: tuple[str, ...]
    temperature: float
    bias: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_reliability(
    judged: Predictions, objective: Objective, exact: Predictions | None
) -> Reliability:
    """Say what calibration on this set is worth.

    Args:
        exact: the most exact precision of the same model, where that is another: as
            `patchct calibrate` does, the thresholds are set there.

    Raises:
        UserError: it cannot be calibrated on; see `fitted`.
    """
    cells = (judged.logits, judged.targets, judged.ignored)
    pattern = None
    if exact is not None:
        first = fit_to_reference(exact, objective, None).calibration
        pattern = ReferenceTags(exact.paths, first.tags(exact.logits))
    whole = fit_to_reference(judged, objective, pattern)
    crossed = cross_fit(*cells, objective)
    neutral = Calibration.default(len(judged.labels))
    before = neutral.scores(judged.logits)
    return Reliability(
        objective=str(objective),
        before=_scores(before, before >= neutral.thresholds, judged),
        after=_scores(crossed.scores, crossed.tags, judged),
        thresholds=dict(zip(judged.labels, whole.calibration.thresholds.tolist(), strict=True)),
        pooled=tuple(judged.labels[m] for m in whole.pooled),
        temperature=whole.calibration.temperature,
        bias=whole.calibration.bias,
    )


def _scores(scores: Float32s, tags: Bools, judged: Predictions) -> Scores:
    targets, counted = judged.targets, ~judged.ignored
    cells, truth = scores[counted].astype(np.float64), targets[counted]
    bins = np.minimum((cells * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    present = np.bincount(bins[truth], minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, cells, minlength=BINS) / count
        shares = present / count
    return Scores(
        expected_calibration_error(scores, targets, judged.ignored),
        multi_label_figures(tags, targets, judged.ignored),
        *(tuple(each.tolist()) for each in (means, shares, count - present, present)),
    )
