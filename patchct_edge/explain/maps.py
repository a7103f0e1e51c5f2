"""Where in a photo each label is: the navigators of its patches, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge import images, navigators
from patchct_edge.arrays import RGB, Float32s
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.tags import tags_from_scores
from patchct_edge.runtime.engines.base import Engine


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One label in one photo. The grids are float32 (rows, columns) of patches.

    Args:
        score: 0..1.
        is_tag: whether the score reaches the label's threshold.
        similarity: the cosine of each patch and the label, -1..1.
        backward: B(n|m), from the label to the patches: sums to 1, however weak the label is.
        forward: F(m|n), what share of a patch goes to this label, 0..1; over all labels of the
            model it sums to 1 at every patch.
    """

    label: str
    score: float
    is_tag: bool
    similarity: Float32s
    backward: Float32s
    forward: Float32s

    @property
    def strongest(self) -> tuple[int, int]:
        """Row and column of the strongest patch of the map."""
        row, column = np.unravel_index(self.backward.argmax(), self.backward.shape)
        return int(row), int(column)

    @property
    def peak(self) -> float:
        """Similarity of the strongest patch."""
        return float(self.similarity[self.strongest])

    def to_json(self) -> dict[str, Any]:
        """Return all fields; grids are lists of rows, rounded to six digits."""
        grids = ("similarity", "backward", "forward")
        rows = {name: getattr(self, name).astype(float).round(6).tolist() for name in grids}
        return {
            "label": self.label,
            "score": round(self.score, 4),
            "tag": self.is_tag,
            "strongest": {"patch": self.strongest, "similarity": round(self.peak, 4)},
            **rows,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """A photo and the maps of its labels, the highest score first.

    Args:
        photo: uint8 (height, width, 3), upright and whole, maybe decoded at a part of its size.
        preprocessing: how the engine saw it.
        maps: of the tags, or of the labels that were asked for.
        similarity: float32 (M, rows, columns), of every label of the model.
    """

    path: Path
    photo: RGB
    preprocessing: Preprocessing
    maps: tuple[LabelMap, ...]
    similarity: Float32s


def explain_photo(
    bundle: Bundle, engine: Engine, path: Path, labels: Sequence[str] = ()
) -> Explanation:
    """Tag one photo and compute the maps of its tags.

    Args:
        engine: opened with `similarity=True`.
        labels: those to map in place of the tags, whatever their scores.

    Raises:
        ImageError: the photo cannot be decoded.
    """
    preprocessing = bundle.preprocessing
    photo = images.decode(path, at_least=2 * preprocessing.size)  # as Preprocessing.read
    logits, similarities = engine.infer(preprocessing.apply(photo)[None])
    if similarities is None:
        raise ValueError("the engine was opened without similarity")
    calibration = bundle.calibration(engine.record.precision)
    scores, similarity = calibration.scores(logits)[0], similarities[0]
    tags = {tag.label for tag in tags_from_scores(scores, bundle.labels, calibration.thresholds)}
    backward, forward = label_maps(similarity, scores, bundle.manifest.tau)
    grid = bundle.manifest.grid
    every = (
        LabelMap(
            label,
            float(scores[m]),
            label in tags,
            *(each[m].reshape(grid) for each in (similarity, backward, forward)),
        )
        for m, label in enumerate(bundle.labels)
    )
    chosen = [each for each in every if each.label in (labels or tags)]
    chosen.sort(key=lambda each: -each.score)
    return Explanation(path, photo, preprocessing, tuple(chosen), similarity.reshape(-1, *grid))


def label_maps(similarity: Float32s, scores: Float32s, tau: float) -> tuple[Float32s, Float32s]:
    """Return the maps of all labels, B(n|m) and F(m|n), both float32 (M, N).

    `report.pointing` judges the same B(n|m).

    Args:
        similarity: float32 (M, N).
        scores: float32 (M,), 0..1: with equation (4) they weigh the labels of F.
    """
    weights = np.maximum(scores, np.finfo(np.float32).tiny)  # scores that all underflow to 0
    backward = navigators.backward(similarity, tau)
    forward = navigators.forward(similarity, tau, navigators.inference_q(weights))
    return np.asarray(backward, np.float32), np.asarray(forward, np.float32)
