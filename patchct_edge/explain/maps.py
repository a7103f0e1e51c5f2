"""Where in a photo each label is: the navigators of its patches, as numbers.

A navigator (equations (3) and (4) of `patchct_edge.navigators`) says which share of a patch goes to
a label, or which share of a label comes from a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge import navigators
from patchct_edge.arrays import RGB, Float32s
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.runtime.engines.base import Engine


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One label in one photo; the grids are float32 (rows, columns) of patches.

    Args:
        score: 0..1.
        is_tag: whether the score reaches the label's threshold.
        similarity: the cosine of each patch and the label, -1..1.
        backward: B(n|m), label to patch; sums to 1, however low the score is.
        forward: F(m|n), patch to label, 0..1; at every patch it sums to 1 over all labels of the
            model.
    """

    label: str
    score: float
    is_tag: bool
    similarity: Float32s
    backward: Float32s
    forward: Float32s

    @property
    def strongest_patch(self) -> tuple[int, int]:
        """Row and column of the patch with the largest B(n|m)."""
        row, column = np.unravel_index(self.backward.argmax(), self.backward.shape)
        return int(row), int(column)

    @property
    def peak_similarity(self) -> float:
        """Similarity of the strongest patch, -1..1."""
        return float(self.similarity[self.strongest_patch])

    def to_json(self) -> dict[str, Any]:
        """Return all fields; grids are lists of rows, rounded to six digits."""
        grids = {
            "similarity": self.similarity,
            "backward": self.backward,
            "forward": self.forward,
        }
        return {
            "label": self.label,
            "score": round(self.score, 4),
            "tag": self.is_tag,
            "strongest": {
                "patch": self.strongest_patch,
                "similarity": round(self.peak_similarity, 4),
            },
            **{name: grid.astype(float).round(6).tolist() for name, grid in grids.items()},
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """A photo and the maps of its labels, the highest score first.

    Args:
        photo: uint8 (height, width, 3), upright and uncropped, possibly decoded at a lower
            resolution than the file's.
        preprocessing: how the photo became the engine's input.
        maps: of the tags, or of the requested labels.
        similarity: float32 (M, rows, columns), of all M labels of the model.
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
        labels: map these, whatever their scores; the tags if empty.

    Raises:
        ImageError: the photo cannot be decoded.
        ValueError: the engine was opened without similarity.
    """
    preprocessing = bundle.preprocessing
    photo = preprocessing.decode(path)
    logits, similarities = engine.infer(preprocessing.apply(photo)[None])
    if similarities is None:
        raise ValueError("the engine was opened without similarity")
    calibration = bundle.calibration(engine.record.precision)
    scores, similarity = calibration.scores(logits)[0], similarities[0]
    tags = {tag.label for tag in calibration.tag_image(logits[0], bundle.labels)}
    backward, forward = compute_navigators(similarity, scores, bundle.manifest.tau)
    grid = bundle.manifest.grid
    maps = [
        LabelMap(
            label,
            float(scores[m]),
            label in tags,
            similarity[m].reshape(grid),
            backward[m].reshape(grid),
            forward[m].reshape(grid),
        )
        for m, label in enumerate(bundle.labels)
        if label in (labels or tags)
    ]
    maps.sort(key=lambda label_map: -label_map.score)
    return Explanation(path, photo, preprocessing, tuple(maps), similarity.reshape(-1, *grid))


def compute_navigators(
    similarity: Float32s, scores: Float32s, tau: float
) -> tuple[Float32s, Float32s]:
    """Return B(n|m) and F(m|n) of all labels, both float32 (M, N).

    `evaluation.pointing` scores the same B(n|m).

    Args:
        similarity: float32 (M, N), -1..1.
        scores: float32 (M,), 0..1; by equation (8) they weigh the labels in F.
        tau: temperature, above 0.
    """
    weights = np.maximum(scores, np.finfo(np.float32).tiny)  # if all scores underflow to 0
    backward = navigators.backward(similarity, tau)
    forward = navigators.forward(similarity, tau, navigators.label_weights(weights))
    return np.asarray(backward, np.float32), np.asarray(forward, np.float32)
