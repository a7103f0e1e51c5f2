"""Latency and throughput, with a clock that only the engine moves."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.profiling.latency import (
    BATCH_SIZES,
    MIN_BATCHES,
    SAMPLE_PHOTOS,
    SLOW_BATCH_MS,
    WARM_UP_PHOTOS,
    Percentiles,
    SweepPoint,
    measure_batch_latencies,
    measure_latency,
    measure_throughput,
)
from patchct_edge.runtime.engines.fake import FakeEngine


class TimedEngine(FakeEngine):
    """Takes some milliseconds for each image, and records the sizes of its batches."""

    def __init__(self, milliseconds):
        super().__init__(8, 3, 4)
        self.milliseconds, self.now, self.batch_sizes = milliseconds, 0.0, []

    def compute(self, images):
        self.batch_sizes.append(len(images))
        self.now += 1e-3 * self.milliseconds * len(images)
        return super().compute(images)


@pytest.fixture
def make_engine(monkeypatch):
    def make(milliseconds):
        engine = TimedEngine(milliseconds)
        monkeypatch.setattr(time, "perf_counter", lambda: engine.now)
        return engine

    return make


@pytest.fixture
def pixels():
    return np.zeros((max(BATCH_SIZES), 8, 8, 3), np.uint8)


def test_percentiles_are_those_of_the_samples():
    percentiles = Percentiles.from_samples([float(n) for n in range(101)])
    assert percentiles == Percentiles(p50=50, p90=90, p95=95, p99=99, max=100)


def test_every_photo_after_the_warm_up_is_a_sample(make_engine, tiny_bundle, tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        Image.new("RGB", (16, 16)).save(path)
    engine, bundle = make_engine(2), Bundle(tiny_bundle)
    progress: list[int] = []

    def advance(done: int, detail: str = "") -> None:
        assert not detail
        progress.append(done)

    latency = measure_latency(bundle, engine, Calibration.default(3), paths, advance)
    assert engine.batch_sizes == [1] * (WARM_UP_PHOTOS + SAMPLE_PHOTOS)
    assert progress == list(range(1, WARM_UP_PHOTOS + SAMPLE_PHOTOS + 1))
    np.testing.assert_allclose(latency.samples, [2] * SAMPLE_PHOTOS)
    assert list(latency.stages) == ["read", "decode", "resize", "engine", "tags", "total"]
    medians = [stage.p50 for stage in latency.stages.values()]
    np.testing.assert_allclose(medians, [0, 0, 0, 2, 0, 2], atol=1e-9)


def test_a_sweep_ends_with_the_first_slow_batch(make_engine, pixels):
    engine = make_engine(0.3 * SLOW_BATCH_MS)
    latencies_ms = measure_batch_latencies(engine, pixels)
    expected = {batch: 0.3 * SLOW_BATCH_MS * batch for batch in (1, 2, 4)}
    assert latencies_ms == pytest.approx(expected)
    assert all(engine.batch_sizes.count(batch) > MIN_BATCHES for batch in latencies_ms)
    points = measure_throughput(engine, pixels, latencies_ms)
    rate: Any = pytest.approx(1e3 / (0.3 * SLOW_BATCH_MS))
    assert points == tuple(SweepPoint(batch, latencies_ms[batch], rate) for batch in latencies_ms)


def test_a_fast_engine_is_measured_at_every_batch_size(make_engine, pixels):
    assert tuple(measure_batch_latencies(make_engine(1), pixels)) == BATCH_SIZES


def test_a_sweep_leaves_no_batch_in_the_engine(make_engine, pixels):
    engine = make_engine(5)
    measure_throughput(engine, pixels, {1: 5.0})
    before = len(engine.batch_sizes)
    engine.infer(pixels[:2])
    assert engine.batch_sizes[before:] == [2]
