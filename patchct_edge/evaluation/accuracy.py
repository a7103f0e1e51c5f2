"""The accuracy of an engine on a labelled data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Float64s
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
    """One label: counts of images, and figures 0..1 at the label's threshold; NaN if undefined."""

    label: str
    positives: int
    predicted: int
    ap: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class Accuracy:
    """All figures of one engine on one data set, 0..1; the interval of mAP is 95 % bootstrap."""

    images: int
    failed: tuple[str, ...]
    map: float
    map_low: float
    map_high: float
    thresholded: MultiLabelFigures
    top3: MultiLabelFigures
    labels: tuple[LabelAccuracy, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all figures; what is undefined is null."""
        return nan_to_none(asdict(self))  # type: ignore[no-any-return]


def compute_accuracy(judged: Predictions, calibration: Calibration) -> Accuracy:
    """Compare what an engine said of a data set with the labels."""
    return accuracy_from_logits(
        judged.logits, judged.targets, judged.ignored, calibration, judged.labels, judged.failed
    )


def accuracy_from_logits(
    logits: Float32s,
    targets: Bools,
    ignored: Bools,
    calibration: Calibration,
    labels: tuple[str, ...],
    failed: tuple[str, ...] = (),
) -> Accuracy:
    """Compute all figures from logits (N, M); ranking is by logits, since scores saturate."""
    predictions = calibration.tags(logits)
    low, high = bootstrap_interval(
        lambda rows: mean_average_precision(logits[rows], targets[rows], ignored[rows]),
        len(logits),
        bounds=(0, 1),
    )
    positives = (targets & ~ignored).sum(0)
    predicted = (predictions & ~ignored).sum(0)
    precision, recall = precision_and_recall(predictions, targets, ignored)
    aps = average_precisions(logits, targets, ignored)
    return Accuracy(
        images=len(logits),
        failed=failed,
        map=mean_average_precision(logits, targets, ignored),
        map_low=low,
        map_high=high,
        thresholded=multi_label_figures(predictions, targets, ignored),
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
            for m, label in enumerate(labels)
        ),
    )


def precision_and_recall(
    predictions: Bools, targets: Bools, ignored: Bools
) -> tuple[Float64s, Float64s]:
    """Return both for each label, (M,), 0..1, of bool (N, M); NaN recall without a positive."""
    hits = (predictions & targets & ~ignored).sum(0)
    with np.errstate(invalid="ignore"):
        precision = hits / np.maximum((predictions & ~ignored).sum(0), 1)
        return precision, hits / (targets & ~ignored).sum(0)


def nan_to_none(value: Any) -> Any:
    """Return figures with null in the place of NaN, which JSON has not."""
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, dict):
        return {name: nan_to_none(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(each) for each in value]
    return value
