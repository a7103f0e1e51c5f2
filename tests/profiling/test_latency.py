"""What the timings count and leave out, by a clock that only the engine moves."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.profiling.latency import (
    BATCHES,
    LEAST_CALLS,
    SAMPLES,
    SLOW_MS,
    WARM_UP,
    Percentiles,
    SweepPoint,
    measure_batch_latencies,
    measure_latency,
    measure_throughput,
)
from patchct_edge.runtime.engines.fake import FakeEngine


class TimedEngine(FakeEngine):
    """Takes so many milliseconds for each picture, and remembers the sizes of its batches."""

    def __init__(self, milliseconds):
        super().__init__(8, 3, 4)
        self.milliseconds, self.now, self.seen = milliseconds, 0.0, []

    def compute(self, images):
        self.seen.append(len(images))
        self.now += 1e-3 * self.milliseconds * len(images)
        return super().compute(images)


@pytest.fixture
def engine_of(monkeypatch):
    def make(milliseconds):
        engine = TimedEngine(milliseconds)
        monkeypatch.setattr(time, "perf_counter", lambda: engine.now)
        return engine

    return make


@pytest.fixture
def pixels():
    return np.zeros((max(BATCHES), 8, 8, 3), np.uint8)


def test_percentiles_are_of_the_samples():
    spread = Percentiles.of([float(n) for n in range(101)])
    assert (spread.p50, spread.p90, spread.p95, spread.p99, spread.max) == (50, 90, 95, 99, 100)


def test_every_photo_after_the_warm_up_is_a_sample(engine_of, tiny_bundle, tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        Image.new("RGB", (16, 16)).save(path)
    engine, done = engine_of(2), []
    found = measure_latency(Bundle(tiny_bundle), engine, Calibration.default(3), paths, done.append)
    assert engine.seen == [1] * (WARM_UP + SAMPLES)
    assert done == list(range(1, WARM_UP + SAMPLES + 1))
    np.testing.assert_allclose(found.samples, [2] * SAMPLES)
    assert list(found.stages) == ["read", "decode", "resize", "engine", "tags", "total"]
    medians = [stage.p50 for stage in found.stages.values()]
    np.testing.assert_allclose(medians, [0, 0, 0, 2, 0, 2], atol=1e-9)


def test_a_slow_batch_is_the_last_of_a_sweep(engine_of, pixels):
    engine = engine_of(0.3 * SLOW_MS)
    alone = measure_batch_latencies(engine, pixels)
    expected = {batch: 0.3 * SLOW_MS * batch for batch in (1, 2, 4)}
    assert alone == pytest.approx(expected)
    assert all(engine.seen.count(batch) > LEAST_CALLS for batch in alone)
    points = measure_throughput(engine, pixels, alone)
    rate = pytest.approx(1e3 / (0.3 * SLOW_MS))
    assert points == tuple(SweepPoint(batch, alone[batch], rate) for batch in alone)


def test_a_fast_engine_is_asked_for_every_size(engine_of, pixels):
    assert tuple(measure_batch_latencies(engine_of(1), pixels)) == BATCHES


def test_a_sweep_leaves_no_batch_in_the_engine(engine_of, pixels):
    engine = engine_of(5)
    measure_throughput(engine, pixels, {1: 5.0})
    before = len(engine.seen)
    engine.infer(pixels[:2])
    assert engine.seen[before:] == [2]
