"""Predictions of two engines of which one is a little noisy, or breaks a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from patchct_edge.arrays import Bools, Floats
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.runtime.engines.base import EngineRecord

N, LABELS = 300, ("cat", "dog", "cow", "horse", "bird")
NEUTRAL = Calibration.default(len(LABELS))
RECORD = EngineRecord("openvino", "int8", "int8", "openvino 1", "a CPU")


def make_predictions(
    logits: Floats, targets: Bools, paths: tuple[Path, ...] | None = None
) -> Predictions:
    """Put logits and targets (N, M) beside each other, with made-up paths by default."""
    paths = tuple(Path(f"{n}.jpg") for n in range(len(logits))) if paths is None else paths
    return Predictions(RECORD, LABELS, paths, logits, targets, np.zeros_like(targets))


def make_reference() -> Predictions:
    """Make the predictions of a good model."""
    rng = np.random.default_rng(0)
    targets = rng.random((N, len(LABELS))) < 0.3
    logits = np.where(targets, 3, -3) + rng.normal(0, 1.5, targets.shape)
    return make_predictions(logits.astype(np.float32), targets)


def make_candidate(
    reference: Predictions, label: int | None = None, damage: str | None = None
) -> Predictions:
    """Make the predictions of a slightly noisy engine; `damage` is done to one label."""
    rng = np.random.default_rng(1)
    logits = reference.logits + rng.normal(0, 0.02, reference.logits.shape).astype(np.float32)
    if damage == "shuffled":
        logits[:, label] = rng.permutation(logits[:, label])
    if damage == "compressed":
        mean = logits[:, label].mean()
        logits[:, label] = mean + 0.1 * (logits[:, label] - mean)
    return make_predictions(logits, reference.targets)
