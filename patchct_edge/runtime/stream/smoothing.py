"""Steady tags from noisy scores: smoothing, hysteresis and a minimum duration for each label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import Bools, Float64s, Floats, Indices


class Change(NamedTuple):
    """A label that turned on or off.

    Attributes:
        label: its index.
        score: smoothed, 0..1.
        since: moment at which the score passed the threshold.
    """

    label: int
    on: bool
    score: float
    since: float


@dataclass(frozen=True, eq=False)
class Hysteresis:
    """When labels turn on and off.

    Args:
        on: float (M,), 0..1: a label turns on when its smoothed score is at least this.
        off: float (M,), at most `on`: a label turns off when its smoothed score is below this.
        smoothing: time constant of the exponential smoothing in seconds, 0 for none.
        min_duration: seconds for which the score must stay there before the label changes.
    """

    on: Floats
    off: Floats
    smoothing: float
    min_duration: float


class LabelSmoother:
    """The labels of one camera over time.

    The smoothed score s starts at the first score x, and each further score at a distance of dt
    seconds gives s += (1 - exp(-dt / smoothing)) (x - s). The weight does not depend on the frame
    rate, and after a gap much longer than `smoothing` the new score counts almost alone.

    Attributes:
        on: bool (M,), the labels that are on.
        scores: float64 (M,), the smoothed scores.
    """

    on: Bools
    scores: Float64s
    # Where and when each score passed the threshold that would change its label; NaN if it has not.
    _crossed_position: Float64s
    _crossed_moment: Float64s
    _last_position: float | None

    def __init__(self, hysteresis: Hysteresis) -> None:
        self.hysteresis = hysteresis
        self._reset()

    def update(self, scores: Floats, position: float, moment: float | None = None) -> list[Change]:
        """Take the scores (M,) of one frame; return the changes in the order of the labels.

        Args:
            position: of the frame in its stream, in seconds.
            moment: when the frame was captured, by any clock: `Change.since` is such a moment. The
                position by default.
        """
        self._smooth(scores, position)
        crossed = np.where(
            self.on, self.scores < self.hysteresis.off, self.scores >= self.hysteresis.on
        )
        newly_crossed = crossed & np.isnan(self._crossed_position)
        self._crossed_moment[newly_crossed] = position if moment is None else moment
        self._crossed_position = np.where(
            crossed, np.fmin(self._crossed_position, position), np.nan
        )
        due = crossed & (position - self._crossed_position >= self.hysteresis.min_duration)
        self.on = self.on ^ due
        self._crossed_position[due] = np.nan
        return [self._change(int(m), float(self._crossed_moment[m])) for m in np.flatnonzero(due)]

    def forget(self, moment: float) -> list[Change]:
        """Turn every label off and start again, because the camera is gone; return the changes."""
        labels = [int(m) for m in self.active_labels()]
        changes = [Change(m, False, float(self.scores[m]), moment) for m in labels]
        self._reset()
        return changes

    def active_labels(self) -> Indices:
        """Return the indices of the labels that are on."""
        return np.flatnonzero(self.on)

    def _reset(self) -> None:
        label_count = len(self.hysteresis.on)
        self.on = np.zeros(label_count, np.bool_)
        self.scores = np.zeros(label_count)
        self._crossed_position = np.full(label_count, np.nan)
        self._crossed_moment = np.full(label_count, np.nan)
        self._last_position = None

    def _smooth(self, scores: Floats, position: float) -> None:
        weight = 1.0
        if self._last_position is not None and self.hysteresis.smoothing > 0:
            elapsed = max(0.0, position - self._last_position)
            weight = 1 - math.exp(-elapsed / self.hysteresis.smoothing)
        self.scores = self.scores + weight * (np.asarray(scores, np.float64) - self.scores)
        self._last_position = position

    def _change(self, m: int, since: float) -> Change:
        return Change(m, bool(self.on[m]), float(self.scores[m]), since)
