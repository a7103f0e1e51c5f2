"""Bootstrap intervals: coverage, pairs, NaN, rare labels."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.metrics import mean_average_precision


def test_an_interval_covers_the_mean():
    rng = np.random.default_rng(0)
    trials = 200
    covered = 0
    for trial in range(trials):
        sample = rng.normal(3, 2, 50)

        def mean_of(rows, x=sample):
            return float(x[rows].mean())

        low, high = bootstrap_interval(mean_of, 50, samples=300, seed=trial)
        assert high - low == pytest.approx(2 * 1.96 * sample.std() / 50**0.5, rel=0.25)
        covered += low <= 3 <= high
    assert 0.89 <= covered / trials <= 0.98


def test_an_interval_of_a_paired_difference():
    rng = np.random.default_rng(1)
    a = rng.random(100)
    b = a - 0.01  # one model worse than the other by 0.01 on every image
    interval = bootstrap_interval(lambda rows: float((a[rows] - b[rows]).mean()), 100)
    assert interval == pytest.approx((0.01, 0.01))


def test_an_interval_is_reproducible_and_skips_nan():
    x = np.array([np.nan, 1.0, 2.0, 3.0])

    def statistic(rows):
        return float(x[rows].mean())

    interval = bootstrap_interval(statistic, 4, seed=5)
    assert interval == bootstrap_interval(statistic, 4, seed=5)
    assert 1 <= interval[0] < interval[1] <= 3
    narrow = bootstrap_interval(statistic, 4, level=0.5, seed=5)
    assert interval[0] < narrow[0] < narrow[1] < interval[1]
    assert all(map(math.isnan, bootstrap_interval(lambda _: math.nan, 4, samples=3)))


@pytest.mark.parametrize("positives", [1, 2, 3])
def test_an_interval_of_rare_labels_contains_the_figure(positives):
    """Resampling repeats positives, which would raise the whole interval above the figure."""
    rng = np.random.default_rng(positives)
    scores, targets = rng.random((128, 30)), np.zeros((128, 30), bool)
    for m in range(30):
        targets[rng.choice(128, positives, replace=False), m] = True

    def figure(rows):
        return mean_average_precision(scores[rows], targets[rows])

    low, high = bootstrap_interval(figure, 128, samples=300, bounds=(0, 1))
    assert 0 <= low < figure(np.arange(128)) < high <= 1


def test_a_bootstrap_of_mean_average_precision_takes_seconds():
    rng = np.random.default_rng(2)
    scores, targets = rng.random((400, 20)), rng.random((400, 20)) < 0.1
    start = time.process_time()
    low, high = bootstrap_interval(
        lambda rows: mean_average_precision(scores[rows], targets[rows]), 400
    )
    assert low < high
    assert time.process_time() - start < 3
