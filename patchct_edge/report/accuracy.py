"""The accuracy of an engine on a labelled data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from patchct_edge.datasets import DataSet
from patchct_edge.errors import UserError
from patchct_edge.metrics import (
    MultiLabelFigures,
    average_precisions,
    bootstrap_interval,
    mean_average_precision,
    multi_label_figures,
    top_k_predictions,
)
from patchct_edge.preprocess import Recipe
from patchct_edge.runtime.engines.base import Engine, Floats
from patchct_edge.runtime.pipeline import score_images
from patchct_edge.tagging import Calibration


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
        return _without_nan(asdict(self))  # type: ignore[no-any-return]


def accuracy(
    engine: Engine,
    recipe: Recipe,
    calibration: Calibration,
    data: DataSet,
    progress: Callable[[int], None] = lambda done: None,
) -> Accuracy:
    """Run an engine over a data set and compare with its labels.

    Images that cannot be read are left out and named in `failed`.

    Args:
        progress: called with the number of images done.

    Raises:
        UserError: no image could be read, or no label has a positive.
    """
    rows, logits, failed = [], [], []
    for n, scored in enumerate(score_images(data.paths, engine, recipe)):
        if scored.logits is None:
            failed.append(f"{scored.path}: {scored.error}")
        else:
            rows.append(n)
            logits.append(scored.logits)
        progress(n + 1)
    if not rows:
        raise UserError("no image of the data set could be read", got=failed[0] if failed else None)
    targets, ignored = (flags[rows] for flags in data.targets())
    if not (targets & ~ignored).any():
        raise UserError(
            "no image of the data set has a label of the model",
            expected=", ".join(data.label_set),
        )
    return figures(np.stack(logits), targets, ignored, calibration, data.label_set, tuple(failed))


def figures(
    logits: Floats,
    targets: npt.NDArray[np.bool_],
    ignored: npt.NDArray[np.bool_],
    calibration: Calibration,
    labels: tuple[str, ...],
    failed: tuple[str, ...] = (),
) -> Accuracy:
    """Compute all figures from logits (N, M); ranking is by logits, since scores saturate."""
    predictions = calibration.scores(logits) >= calibration.thresholds
    low, high = bootstrap_interval(
        lambda rows: mean_average_precision(logits[rows], targets[rows], ignored[rows]),
        len(logits),
        bounds=(0, 1),
    )
    counted = ~ignored
    positives = (targets & counted).sum(0)
    predicted = (predictions & counted).sum(0)
    hits = (predictions & targets & counted).sum(0)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / np.maximum(predicted, 1), hits / positives
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return value
