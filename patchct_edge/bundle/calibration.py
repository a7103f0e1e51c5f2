"""The calibration of one precision: how logits become scores, and which scores become tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Float64s, Floats
from patchct_edge.bundle.tags import Tag
from patchct_edge.errors import BundleError


@dataclass(frozen=True, eq=False)
class Calibration:
    """How the logits of one precision become scores, and which scores become tags.

    Args:
        thresholds: float64 (M,), 0..1; a label whose score reaches its threshold is a tag.
        temperature: positive; the logits are divided by it.
        bias: added to the quotient.
    """

    thresholds: Float64s
    temperature: float = 1.0
    bias: float = 0.0

    @classmethod
    def default(cls, m: int) -> Calibration:
        """Return the calibration of m labels without one: thresholds 0.5, logits unchanged."""
        return cls(np.full(m, 0.5))

    def scores(self, logits: Floats) -> Float32s:
        """Return sigmoid(logits / temperature + bias), float32 (B, M), 0..1.

        Scores of logits above about 17 temperatures are 1 in float32: rank by logits instead.
        """
        z = np.asarray(logits, np.float32) / np.float32(self.temperature) + np.float32(self.bias)
        small = np.exp(-np.abs(z))  # cannot overflow, and is precise for scores near 0
        scores: Float32s = np.where(z >= 0, np.float32(1), small) / (1 + small)
        return scores

    def tags(self, logits: Floats) -> Bools:
        """Return which labels are tags, bool (B, M): those whose score reaches the threshold."""
        return np.asarray(self.scores(logits) >= self.thresholds, np.bool_)

    def tag_image(
        self,
        logits: Floats,
        labels: Sequence[str],
        *,
        threshold: float | None = None,
        top_k: int | None = None,
        all_scores: bool = False,
    ) -> list[Tag]:
        """Return the tags of one image, highest score first, ties in label order.

        Args:
            logits: float (M,).
            labels: the M names.
            threshold: one threshold, 0..1, in place of those of the labels.
            top_k: at most so many tags, all by default.
            all_scores: return every label, whatever its threshold (`top_k` still caps the list).
        """
        scores = self.scores(logits)
        best_first = np.argsort(-scores, kind="stable")
        if not all_scores:
            thresholds = self.thresholds
            if threshold is not None:
                thresholds = np.full_like(thresholds, threshold)
            best_first = best_first[(scores >= thresholds)[best_first]]
        return [Tag(labels[m], float(scores[m])) for m in best_first[:top_k]]

    def to_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return `{"temperature": ..., "bias": ..., "thresholds": {label: threshold}}`."""
        thresholds = dict(zip(labels, self.thresholds.tolist(), strict=True))
        return {"temperature": self.temperature, "bias": self.bias, "thresholds": thresholds}

    @classmethod
    def from_json(cls, fields: dict[str, Any], labels: Sequence[str]) -> Calibration:
        """Return the calibration that `to_json` wrote, in the order of `labels`.

        A missing bias is 0.

        Raises:
            BundleError: a field is missing, not a number or out of range, or the labels differ.
        """
        thresholds = fields.get("thresholds") if isinstance(fields, dict) else None
        if not isinstance(thresholds, dict):
            raise _damage_error("no thresholds")
        missing = [label for label in labels if label not in thresholds]
        unknown = sorted(set(thresholds) - set(labels))
        if missing or unknown:
            raise _damage_error(f"labels missing: {missing}, unknown: {unknown}")
        values = [thresholds[label] for label in labels]
        temperature, bias = fields.get("temperature"), fields.get("bias", 0)
        if not all(_is_number(value, 0, 1) for value in values):
            raise _damage_error("a threshold outside 0..1")
        if not _is_number(temperature, 1e-30, 1e30):
            raise _damage_error(f"temperature {temperature}")
        if not _is_number(bias, -1e30, 1e30):
            raise _damage_error(f"bias {bias}")
        return cls(np.array(values, np.float64), float(temperature), float(bias))


def _is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _damage_error(got: str) -> BundleError:
    return BundleError(
        "the calibration does not fit the bundle's labels",
        got=got,
        expected="a positive temperature and one threshold for every label",
        fix="copy the bundle again, or calibrate it again with patchct calibrate",
    )
