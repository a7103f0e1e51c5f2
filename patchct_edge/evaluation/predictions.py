"""What an engine says of a labelled data set: the ground of every figure of accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchct_edge.arrays import Bools, Float32s
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset
from patchct_edge.errors import EngineError, UserError
from patchct_edge.runtime.engines.base import Engine, EngineRecord
from patchct_edge.runtime.tagging.pipeline import score_images


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of one engine beside the labels.

    `logits` is float32 (N, M), `targets` and `ignored` bool (N, M), for the N images of `paths`,
    those that could be read; `failed` names the others with their errors.
    """

    record: EngineRecord
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    logits: Float32s
    targets: Bools
    ignored: Bools
    failed: tuple[str, ...] = ()


def predict(
    engine: Engine,
    preprocessing: Preprocessing,
    data: Dataset,
    progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Run an engine over a data set.

    Args:
        progress: called with the number of images done.

    Raises:
        UserError: no image could be read, or no label of the model has a positive.
        EngineError: the engine returned scores that are no numbers.
    """
    rows, logits, failed = [], [], []
    for n, scored in enumerate(score_images(data.paths, engine, preprocessing)):
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
    paths = tuple(data.paths[n] for n in rows)
    found = np.stack(logits)
    broken = ~np.isfinite(found).all(1)
    if broken.any():
        raise EngineError(
            f"the engine's scores are no numbers: {engine.record}",
            got=f"NaN or infinity for {broken.sum()} of {len(found)} images, the first "
            f"{paths[int(broken.argmax())]}",
            fix="another --precision or --engine; export or compile it again",
        )
    return Predictions(engine.record, data.label_set, paths, found, targets, ignored, tuple(failed))
