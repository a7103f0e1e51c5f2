"""Tags that do not flicker: smoothing, hysteresis and a minimum duration, one label as another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import Bools, Float64s, Floats, Indices


class Change(NamedTuple):
    """A label turned on or off."""

    label: int  # index
    on: bool
    score: float  # smoothed
    since: float  # moment from which on the score said so


@dataclass(frozen=True, eq=False)
class Hysteresis:
    """When labels turn on and off.

    Args:
        on: float (M,), 0..1: a label turns on once its smoothed score is at least this, ...
        off: float (M,), at most `on`: ... and off once it is below this ...
        smooth: time constant of the exponential smoothing in seconds, 0 for none.
        hold: ... each for so many seconds.
    """

    on: Floats
    off: Floats
    smoothing: float
    min_duration: float


class LabelSmoother:
    """The labels of one camera over time.

    With scores x at positions t, the smoothed score is s += (1 - exp(-dt / smooth)) (x - s), and
    the first x to begin with: its weight does not depend on the frame rate, and after a gap that is
    long beside `smooth` the new score counts almost alone.
    """

    def __init__(self, rule: Hysteresis) -> None:
        self.rule = rule
        m = len(rule.on)
        self.on: Bools = np.zeros(m, np.bool_)
        self.scores: Float64s = np.zeros(m)
        self._since = np.full(m, np.nan)  # position from which on the other state has been asked
        self._began = np.full(m, np.nan)  # the moment of the same
        self._last: float | None = None

    def update(self, scores: Floats, position: float, moment: float | None = None) -> list[Change]:
        """Take the scores (M,) of one frame; return what changed, in the order of the labels.

        Args:
            position: of the frame in its stream, in seconds.
            moment: when it was captured, by any clock; changes tell since when. None: the position.
        """
        self._smooth(scores, position)
        asked = np.where(self.on, self.scores < self.rule.off, self.scores >= self.rule.on)
        self._began[asked & np.isnan(self._since)] = position if moment is None else moment
        self._since = np.where(asked, np.fmin(self._since, position), np.nan)
        due = asked & (position - self._since >= self.rule.min_duration)
        self.on = self.on ^ due
        changes = [self._change(int(m), float(self._began[m])) for m in np.flatnonzero(due)]
        self._since[due] = np.nan
        return changes

    def forget(self, moment: float) -> list[Change]:
        """Turn every label off and begin anew: the camera is gone, nothing is known."""
        changes = [Change(int(m), False, float(self.scores[m]), moment) for m in self.tags()]
        self.__init__(self.rule)  # type: ignore[misc]
        return changes

    def tags(self) -> Indices:
        """Return the indices of the labels that are on."""
        return np.flatnonzero(self.on)

    def _smooth(self, scores: Floats, position: float) -> None:
        weight = 1.0
        if self._last is not None and self.rule.smoothing > 0:
            weight = 1 - math.exp(-max(0.0, position - self._last) / self.rule.smoothing)
        self.scores = self.scores + weight * (np.asarray(scores, np.float64) - self.scores)
        self._last = position

    def _change(self, m: int, since: float) -> Change:
        return Change(m, bool(self.on[m]), float(self.scores[m]), since)
