"""Figures of accuracy: how well the tags and the ranking of an engine match the true labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Float64s
from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import (
    MultiLabelFigures,
    average_precisions,
    mean_average_precision,
    multi_label_figures,
    top_k_predictions,
)


@dataclass(frozen=True)
class LabelAccuracy:
    """One label: counts of images, and figures 0..1 at the label's threshold, NaN if undefined.

    Args:
        positives: images that have the label.
        predicted: images that are tagged with it.
        ap: average precision, the area under the precision-recall curve.
    """

    label: str
    positives: int
    predicted: int
    ap: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class Accuracy:
    """The figures of one engine on one dataset, 0..1.

    Args:
        images: how many could be read.
        unreadable: "path: error" of the others.
        map: mAP, the mean of the labels' average precisions.
        map_low: lower end of its 95% bootstrap interval.
        map_high: upper end of that interval.
        thresholded: precision, recall and F1 at the thresholds of the calibration.
        top3: the same where every image gets the three labels that score highest.
    """

    images: int
    unreadable: tuple[str, ...]
    map: float
    map_low: float
    map_high: float
    thresholded: MultiLabelFigures
    top3: MultiLabelFigures
    labels: tuple[LabelAccuracy, ...]

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name; what is undefined is null."""
        return replace_nan_with_none(asdict(self))  # type: ignore[no-any-return]


def compute_accuracy(predictions: Predictions, calibration: Calibration) -> Accuracy:
    """Compare predictions with the true labels.

    Images are ranked by logits, not by scores: in float32 high scores are all equal to 1.
    """
    logits, targets, ignored = predictions.logits, predictions.targets, predictions.ignored
    tags = calibration.tags(logits)
    low, high = bootstrap_interval(
        lambda rows: mean_average_precision(logits[rows], targets[rows], ignored[rows]),
        len(logits),
        bounds=(0, 1),
    )
    positives = (targets & ~ignored).sum(0)
    predicted = (tags & ~ignored).sum(0)
    precision, recall = compute_precision_and_recall(tags, targets, ignored)
    aps = average_precisions(logits, targets, ignored)
    return Accuracy(
        images=len(logits),
        unreadable=predictions.unreadable,
        map=mean_average_precision(logits, targets, ignored),
        map_low=low,
        map_high=high,
        thresholded=multi_label_figures(tags, targets, ignored),
        top3=multi_label_figures(top_k_predictions(logits), targets, ignored),
        labels=tuple(
            LabelAccuracy(
                label,
                int(positives[m]),
                int(predicted[m]),
                float(aps[m]),
                float(precision[m]),
                float(recall[m]),
                float(calibration.thresholds[m]),
            )
            for m, label in enumerate(predictions.labels)
        ),
    )


def compute_precision_and_recall(
    tags: Bools, targets: Bools, ignored: Bools
) -> tuple[Float64s, Float64s]:
    """Return precision and recall of each label, float64 (M,), 0..1, from bool (N, M).

    Precision is 0 where a label is never predicted; recall is NaN where it has no positive.
    """
    hits = (tags & targets & ~ignored).sum(0)
    with np.errstate(invalid="ignore"):
        precision = hits / np.maximum((tags & ~ignored).sum(0), 1)
        return precision, hits / (targets & ~ignored).sum(0)


def replace_nan_with_none(value: Any) -> Any:
    """Return nested figures with None for every NaN, which JSON cannot express."""
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: replace_nan_with_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_nan_with_none(item) for item in value]
    return value
