"""The scores of an engine for a labeled dataset: the basis of every figure of accuracy."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from patchct_edge.arrays import Bools, Float32s
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.datasets import Dataset
from patchct_edge.errors import EngineError, UserError
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.runtime.engines.base import Engine, EngineRecord
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.pipeline import score_images


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of one engine beside the true labels, for the N images that could be read.

    Args:
        labels: M.
        paths: N.
        logits: float32 (N, M).
        targets: bool (N, M), whether the image has the label.
        ignored: bool (N, M), cells that count neither way ("difficult").
        unreadable: one error, which names the path, for each image that could not be read.
    """

    record: EngineRecord
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    logits: Float32s
    targets: Bools
    ignored: Bools
    unreadable: tuple[str, ...] = ()

    def restrict_to(self, paths: AbstractSet[Path]) -> Predictions:
        """Return the predictions for some of the images, in the same order."""
        rows = [row for row, path in enumerate(self.paths) if path in paths]
        return replace(
            self,
            paths=tuple(self.paths[row] for row in rows),
            logits=self.logits[rows],
            targets=self.targets[rows],
            ignored=self.ignored[rows],
        )


def predict(
    engine: Engine,
    preprocessing: Preprocessing,
    dataset: Dataset,
    advance: Advance = ignore_progress,
) -> Predictions:
    """Score every readable image of a dataset.

    Args:
        advance: called with the number of images done.

    Raises:
        UserError: no image could be read, or no image has a label of the model.
        EngineError: the engine returned NaN or infinite scores.
    """
    rows, logit_rows, unreadable = [], [], []
    for row, scored in enumerate(score_images(dataset.paths, engine, preprocessing)):
        if scored.logits is None:
            unreadable.append(str(scored.error))
        else:
            rows.append(row)
            logit_rows.append(scored.logits)
        advance(row + 1)
    if not rows:
        raise UserError(
            "no image of the dataset could be read", got=unreadable[0] if unreadable else "no image"
        )
    targets, ignored = (flags[rows] for flags in dataset.build_targets())
    if not (targets & ~ignored).any():
        raise UserError(
            "no image of the dataset has a label of the model",
            expected=", ".join(dataset.label_set),
        )
    paths, logits = tuple(dataset.paths[row] for row in rows), np.stack(logit_rows)
    _check_finite(logits, paths, engine.record)
    labels = dataset.label_set
    return Predictions(engine.record, labels, paths, logits, targets, ignored, tuple(unreadable))


def open_and_predict(
    bundle: Bundle, dataset: Dataset, request: EngineRequest, advance: Advance = ignore_progress
) -> Predictions:
    """Score a dataset with the fastest engine of a bundle that fits the request.

    Raises:
        UserError, EngineError: see `predict` and `open_engine`.
    """
    with open_engine(bundle, request) as engine:
        return predict(engine, bundle.preprocessing, dataset, advance)


def check_labels(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse a dataset whose label set is not the bundle's.

    Raises:
        UserError: the label sets or their order differ.
    """
    if dataset.label_set != bundle.labels:
        raise UserError(
            "the labels of the dataset are not those of the bundle",
            got=", ".join(dataset.label_set),
            expected=", ".join(bundle.labels),
            fix="read it with read_dataset(..., labels=bundle.labels)",
        )


def _check_finite(logits: Float32s, paths: tuple[Path, ...], record: EngineRecord) -> None:
    broken = ~np.isfinite(logits).all(1)
    if broken.any():
        raise EngineError(
            f"{record} returned NaN or infinite scores",
            got=f"such scores for {broken.sum()} of {len(logits)} images, the first "
            f"{paths[int(broken.argmax())]}",
            fix="choose another --precision or --engine; or export or compile the bundle again",
        )
