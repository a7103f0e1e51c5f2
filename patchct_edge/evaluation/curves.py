"""Precision-recall curves of one engine's predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Floats
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import precision_recall

RECALL_STEPS = 100


@dataclass(frozen=True)
class PrecisionRecallCurves:
    """Precision at the recalls 0, 0.01 .. 1.

    Args:
        pooled: over all image-label pairs together.
        labels: of each label; None where no image has it.
    """

    recall: tuple[float, ...]
    pooled: tuple[float, ...]
    labels: dict[str, tuple[float, ...] | None]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compute_curves(predictions: Predictions) -> PrecisionRecallCurves:
    """Compute the best precision at each recall or more."""
    counted = ~predictions.ignored
    logits, targets = predictions.logits, predictions.targets
    recalls = np.linspace(0, 1, RECALL_STEPS + 1)

    def trace_curve(scores: Floats, truth: Bools) -> tuple[float, ...] | None:
        if not truth.any():
            return None
        precision, recall = precision_recall(scores, truth)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        nearest = np.minimum(np.searchsorted(recall, recalls - 1e-9), len(envelope) - 1)
        return tuple(envelope[nearest].tolist())

    pooled = trace_curve(logits[counted], targets[counted])
    assert pooled is not None  # `predict` refuses a dataset without a positive
    labels = {
        label: trace_curve(logits[rows, m], targets[rows, m])
        for m, (label, rows) in enumerate(zip(predictions.labels, counted.T, strict=True))
    }
    return PrecisionRecallCurves(tuple(recalls.tolist()), pooled, labels)
