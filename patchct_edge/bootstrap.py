"""Bootstrap intervals: how far a figure of a dataset depends on which images it has."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from patchct_edge.arrays import Float64s, Indices


def bootstrap_interval(
    statistic: Callable[[Indices], float],
    n: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of a statistic of n images.

    These are percentiles of the resamples, shifted so that their median lies on the figure itself:
    nearly every resample repeats some images, which raises the AP of a label with few positives.
    The interval shows the spread, not that bias. A NaN (such as a resample without positives) is
    skipped; both ends are NaN if all are.

    Args:
        statistic: takes n row indices, int (n,) drawn with replacement, and returns the figure of
            those rows. For the difference of two models, index both with the same rows: the
            interval of a paired difference is far narrower than the two intervals suggest.
        samples: number of resamples.
        level: the fraction of the distribution that lies inside, 0..1.
        bounds: the lowest and the highest value that the figure can have.
    """
    low, high = bootstrap_intervals(
        lambda rows: np.array([statistic(rows)]), n, samples=samples, level=level, seed=seed
    )
    (low,), (high,) = np.clip((low, high), *bounds)
    return float(low), float(high)


def bootstrap_intervals(
    statistic: Callable[[Indices], Float64s],
    n: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float64s, Float64s]:
    """Return the intervals of several figures over the same resamples.

    Both ends, and what the statistic returns, are float64 (figures,). The other arguments are those
    of `bootstrap_interval`.
    """
    rng = np.random.default_rng(seed)
    figures = np.stack([statistic(rng.integers(n, size=n)) for _ in range(samples)])
    value = statistic(np.arange(n))
    low, high = np.full(len(value), np.nan), np.full(len(value), np.nan)
    for m in np.flatnonzero((~np.isnan(figures)).any(0)):
        defined = figures[~np.isnan(figures[:, m]), m]
        low[m], middle, high[m] = np.quantile(defined, [(1 - level) / 2, 0.5, (1 + level) / 2])
        shift = 0.0 if np.isnan(value[m]) else value[m] - middle
        low[m], high[m] = low[m] + shift, high[m] + shift
    return low, high
