"""The objective of a threshold: the best F1, or a minimum precision or recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from patchct_edge.arrays import Bools, Floats
from patchct_edge.errors import UserError
from patchct_edge.metrics import best_f1_threshold, precision_threshold, recall_threshold

RESAMPLES = 100
F1, PRECISION, RECALL = "f1", "precision", "recall"


@dataclass(frozen=True)
class Objective:
    """Choose a threshold for the best F1, or for a precision or recall of at least `minimum`.

    Args:
        name: "f1", "precision" or "recall".
        minimum: above 0 and at most 1; not used for "f1".
    """

    name: str = F1
    minimum: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Parse `f1`, `precision=0.9` or `recall=0.9`.

        Raises:
            UserError: the text is none of these.
        """
        name, _, value = text.partition("=")
        try:
            minimum = float(value or 0)
        except ValueError:
            minimum = -1
        if not (text == F1 or (name in (PRECISION, RECALL) and 0 < minimum <= 1)):
            expected = "f1, precision=P or recall=R, with P and R above 0 and at most 1"
            raise UserError("unknown objective", got=text, expected=expected)
        return cls(name, minimum)

    def __str__(self) -> str:
        return self.name if self.name == F1 else f"{self.name}={self.minimum:g}"

    def choose_threshold(self, scores: Floats, targets: Bools) -> float:
        """Return the threshold for the scores and targets (N,) of a label; NaN if out of reach.

        The median over bootstrap resamples: the very best threshold of one sample is mostly luck
        and lies elsewhere for the next precision, whose tags would flip for that alone
        (docs/lab/experiments.md).
        """
        best = self._choose_on_sample(scores, targets)
        if np.isnan(best):
            return best
        rng = np.random.default_rng(0)
        resamples = (rng.integers(len(scores), size=len(scores)) for _ in range(RESAMPLES))
        thresholds = [self._choose_on_sample(scores[rows], targets[rows]) for rows in resamples]
        return float(np.nanmedian([best, *thresholds]))

    def _choose_on_sample(self, scores: Floats, targets: Bools) -> float:
        if self.name == F1:
            return best_f1_threshold(scores, targets)[0]
        search = precision_threshold if self.name == PRECISION else recall_threshold
        return search(scores, targets, self.minimum)
