"""Tags: labels with scores, and how scores become tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchct_edge.arrays import Floats


@dataclass(frozen=True)
class Tag:
    """A label of an image with its score, 0..1."""

    label: str
    score: float


def tags_from_scores(
    scores: Floats,
    labels: Sequence[str],
    thresholds: Floats,
    *,
    top_k: int | None = None,
    every: bool = False,
) -> list[Tag]:
    """Return the tags of one image, highest score first, ties in label order.

    Args:
        scores: float (M,), 0..1.
        labels: the M names.
        thresholds: float (M,); a label is a tag where `score >= threshold`.
        top_k: at most so many tags, all by default.
        every: return all labels whatever their thresholds (`top_k` still caps the list).
    """
    best_first = np.argsort(-scores, kind="stable")
    chosen = best_first if every else best_first[(scores >= thresholds)[best_first]]
    return [Tag(labels[m], float(scores[m])) for m in chosen[:top_k]]
