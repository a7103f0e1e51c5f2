"""What calibration is worth: scores beside the truth, before it and after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Float32s
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.accuracy import compute_precision_and_recall
from patchct_edge.evaluation.calibration_fit import CalibrationFit, cross_fit_calibration
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import (
    MultiLabelFigures,
    expected_calibration_error,
    multi_label_figures,
)

SCORE_BINS = 10


@dataclass(frozen=True)
class ScoreReliability:
    """One set of scores beside the truth, in `SCORE_BINS` bins of 0..1.

    Args:
        ece: expected calibration error, 0..1, over 15 bins.
        figures: precision, recall and F1 at the thresholds.
        mean_score: of each bin; NaN where it is empty.
        share_present: image-label pairs of each bin whose label is present, 0..1; NaN if empty.
        absent, present: image-label pairs of each bin, by whether the label is present.
    """

    ece: float
    figures: MultiLabelFigures
    mean_score: tuple[float, ...]
    share_present: tuple[float, ...]
    absent: tuple[int, ...]
    present: tuple[int, ...]


@dataclass(frozen=True)
class CalibratedLabel:
    """One label after calibration.

    Args:
        positives: images that have the label.
        threshold: from all images.
        pooled: whether it took the threshold of all labels together.
        precision, recall: cross-fitted, 0..1; recall is NaN without a positive.
    """

    label: str
    positives: int
    threshold: float
    pooled: bool
    precision: float
    recall: float


@dataclass(frozen=True)
class Reliability:
    """Scores before calibration (sigmoid of the logit, thresholds 0.5) and after it.

    `after` and the labels' precision and recall are cross-fitted: every image is scored by a
    calibration that has not seen it. Temperature, bias and thresholds come from all images.
    """

    objective: str
    before: ScoreReliability
    after: ScoreReliability
    temperature: float
    bias: float
    labels: tuple[CalibratedLabel, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_reliability(
    predictions: Predictions, fit: CalibrationFit, objective: Objective
) -> Reliability:
    """Measure what a calibration improves, on images that it has not seen.

    Args:
        fit: what `fit_to_reference` returned for these predictions and this objective.

    Raises:
        UserError: there are too few images; see `cross_fit_calibration`.
    """
    logits, targets, ignored = predictions.logits, predictions.targets, predictions.ignored
    after = cross_fit_calibration(logits, targets, ignored, objective)
    neutral = Calibration.default(len(predictions.labels))
    scores_before = neutral.scores(logits)
    precision, recall = compute_precision_and_recall(after.tags, targets, ignored)
    positives = (targets & ~ignored).sum(0)
    return Reliability(
        objective=str(objective),
        before=_measure_scores(scores_before, scores_before >= neutral.thresholds, predictions),
        after=_measure_scores(after.scores, after.tags, predictions),
        temperature=fit.calibration.temperature,
        bias=fit.calibration.bias,
        labels=tuple(
            CalibratedLabel(
                label,
                int(positives[m]),
                float(fit.calibration.thresholds[m]),
                m in fit.pooled,
                float(precision[m]),
                float(recall[m]),
            )
            for m, label in enumerate(predictions.labels)
        ),
    )


def _measure_scores(scores: Float32s, tags: Bools, predictions: Predictions) -> ScoreReliability:
    targets, counted = predictions.targets, ~predictions.ignored
    cells, truth = scores[counted].astype(np.float64), targets[counted]
    bins = np.minimum((cells * SCORE_BINS).astype(int), SCORE_BINS - 1)
    counts = np.bincount(bins, minlength=SCORE_BINS)
    present = np.bincount(bins[truth], minlength=SCORE_BINS)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(bins, cells, minlength=SCORE_BINS) / counts
        share_present = present / counts
    return ScoreReliability(
        ece=expected_calibration_error(scores, targets, predictions.ignored),
        figures=multi_label_figures(tags, targets, predictions.ignored),
        mean_score=tuple(mean_score.tolist()),
        share_present=tuple(share_present.tolist()),
        absent=tuple((counts - present).tolist()),
        present=tuple(present.tolist()),
    )
