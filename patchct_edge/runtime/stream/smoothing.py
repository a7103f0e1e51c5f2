"""Steady tags from noisy scores: smoothing, hysteresis and a minimum duration for each label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import Bools, Float64s, Floats, Indices


class LabelTransition(NamedTuple):
    """A label that turned on or off.

    Attributes:
        label: its index.
        score: smoothed, 0..1.
        since: timestamp at which the score passed the threshold.
    """

    label: int
    on: bool
    score: float
    since: float


@dataclass(frozen=True, eq=False)
class Hysteresis:
    """When labels turn on and off.

    Args:
        on_thresholds: float (M,), 0..1: a label turns on when its smoothed score is at least this.
        off_thresholds: float (M,), at most `on_thresholds`: a label turns off when its smoothed
            score is below this.
        smoothing: time constant of the exponential smoothing in seconds, 0 for none.
        min_duration: seconds for which the score must stay there before the label changes.
    """

    on_thresholds: Floats
    off_thresholds: Floats
    smoothing: float
    min_duration: float


class LabelSmoother:
    """The labels of one camera over time.

    The smoothed score s starts at the first score x, and each further score at a distance of dt
    seconds gives s += (1 - exp(-dt / smoothing)) (x - s). The weight does not depend on the frame
    rate, and after a gap much longer than `smoothing` the new score counts almost alone.

    Attributes:
        is_on: bool (M,), whether each label is on.
        smoothed_scores: float64 (M,).
    """

    is_on: Bools
    smoothed_scores: Float64s
    # Where and when each score passed the threshold that would change its label; NaN if it has not.
    _pending_since: Float64s
    _pending_timestamp: Float64s
    _last_position: float | None

    def __init__(self, hysteresis: Hysteresis) -> None:
        self.hysteresis = hysteresis
        self._reset()

    def update(
        self, scores: Floats, position: float, timestamp: float | None = None
    ) -> list[LabelTransition]:
        """Take the scores (M,) of one frame; return the changes in the order of the labels.

        Args:
            position: of the frame in its stream, in seconds.
            timestamp: when the frame was captured, by any clock; `LabelTransition.since` is a
                timestamp of that clock. The position by default.
        """
        self._update_scores(scores, position)
        past_threshold = np.where(
            self.is_on,
            self.smoothed_scores < self.hysteresis.off_thresholds,
            self.smoothed_scores >= self.hysteresis.on_thresholds,
        )
        newly_pending = past_threshold & np.isnan(self._pending_since)
        self._pending_timestamp[newly_pending] = position if timestamp is None else timestamp
        self._pending_since = np.where(
            past_threshold, np.fmin(self._pending_since, position), np.nan
        )
        confirmed = past_threshold & (
            position - self._pending_since >= self.hysteresis.min_duration
        )
        self.is_on = self.is_on ^ confirmed
        self._pending_since[confirmed] = np.nan
        return [
            self._transition(int(m), float(self._pending_timestamp[m]))
            for m in np.flatnonzero(confirmed)
        ]

    def forget(self, timestamp: float) -> list[LabelTransition]:
        """Turn every label off and start again, because the camera is gone; return the changes."""
        labels = [int(m) for m in self.active_labels()]
        changes = [
            LabelTransition(m, False, float(self.smoothed_scores[m]), timestamp) for m in labels
        ]
        self._reset()
        return changes

    def active_labels(self) -> Indices:
        """Return the indices of the labels that are on."""
        return np.flatnonzero(self.is_on)

    def _reset(self) -> None:
        label_count = len(self.hysteresis.on_thresholds)
        self.is_on = np.zeros(label_count, np.bool_)
        self.smoothed_scores = np.zeros(label_count)
        self._pending_since = np.full(label_count, np.nan)
        self._pending_timestamp = np.full(label_count, np.nan)
        self._last_position = None

    def _update_scores(self, scores: Floats, position: float) -> None:
        weight = 1.0
        if self._last_position is not None and self.hysteresis.smoothing > 0:
            elapsed = max(0.0, position - self._last_position)
            weight = 1 - math.exp(-elapsed / self.hysteresis.smoothing)
        self.smoothed_scores = self.smoothed_scores + weight * (
            np.asarray(scores, np.float64) - self.smoothed_scores
        )
        self._last_position = position

    def _transition(self, m: int, since: float) -> LabelTransition:
        return LabelTransition(m, bool(self.is_on[m]), float(self.smoothed_scores[m]), since)
