"""The speed of an engine: each stage of a single photo, and batches of all sizes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.runtime.engines.base import Engine

WARM_UP_PHOTOS, SAMPLE_PHOTOS = 20, 200
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
SECONDS_PER_BATCH_SIZE = 0.8  # half for latency, half for throughput
MIN_BATCHES = 3  # of each size, however slow
SLOW_BATCH_MS = 250  # a sweep ends with the first batch size that takes longer
TOTAL = "total"


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of the samples of one stage, in milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def from_samples(cls, samples: Sequence[float]) -> Percentiles:
        return cls(*map(float, np.percentile(samples, (50, 90, 95, 99, 100))))


@dataclass(frozen=True)
class Latency:
    """The time of one photo after another, from file to tags, in milliseconds.

    The files were in the system's cache: the stage `read` says nothing about a disk.

    Args:
        warm_up: photos before the first sample.
        samples: total times, in the order of the run.
        stages: in the order of the work, `total` last.
    """

    warm_up: int
    samples: tuple[float, ...]
    stages: dict[str, Percentiles]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SweepPoint:
    """One batch size: the time of a single batch, and the throughput of overlapping ones."""

    batch: int
    latency_ms: float
    images_per_second: float


def measure_latency(
    bundle: Bundle,
    engine: Engine,
    calibration: Calibration,
    paths: Sequence[Path],
    advance: Advance = ignore_progress,
) -> Latency:
    """Tag photos one at a time, over and over, and time every stage.

    Args:
        engine: opened for latency.
        paths: readable photos, at least one.
        advance: called with the number of photos done, `WARM_UP_PHOTOS + SAMPLE_PHOTOS` in all.
    """
    samples_by_stage: dict[str, list[float]] = {}
    count = WARM_UP_PHOTOS + SAMPLE_PHOTOS
    for n, path in enumerate(itertools.islice(itertools.cycle(paths), count)):
        seconds_by_stage = _time_photo(bundle, engine, calibration, path)
        advance(n + 1)
        if n >= WARM_UP_PHOTOS:
            for stage, seconds in seconds_by_stage.items():
                samples_by_stage.setdefault(stage, []).append(1e3 * seconds)
    totals = np.sum(list(samples_by_stage.values()), axis=0).tolist()
    stages = {
        stage: Percentiles.from_samples(samples) for stage, samples in samples_by_stage.items()
    }
    stages[TOTAL] = Percentiles.from_samples(totals)
    return Latency(WARM_UP_PHOTOS, tuple(totals), stages)


def _time_photo(
    bundle: Bundle, engine: Engine, calibration: Calibration, path: Path
) -> dict[str, float]:
    """Tag a photo; return the seconds of each stage."""
    preprocessing, times = bundle.preprocessing, [time.perf_counter()]
    data = path.read_bytes()
    times.append(time.perf_counter())
    rgb = preprocessing.decode(data)
    times.append(time.perf_counter())
    pixels = preprocessing.apply(rgb)
    times.append(time.perf_counter())
    outputs, engine_seconds = engine.infer_timed(pixels[None])
    start = time.perf_counter()
    calibration.tag_image(outputs.logits[0], bundle.labels)
    tag_seconds = time.perf_counter() - start
    read_seconds = dict(zip(("read", "decode", "resize"), np.diff(times).tolist(), strict=True))
    return {**read_seconds, **engine_seconds, "tags": tag_seconds}


def measure_batch_latencies(
    engine: Engine, pixels: ImageBatch, advance: Advance = ignore_progress
) -> dict[int, float]:
    """Return the milliseconds of a single batch, by size, up to the first slow one.

    Args:
        engine: opened for latency.
        pixels: uint8 (B, H, W, 3), at least the largest batch.
        advance: called with the number of batch sizes done.
    """
    latencies_ms: dict[int, float] = {}
    for done, batch in enumerate(BATCH_SIZES):
        engine.infer(pixels[:batch])
        seconds: list[float] = []
        while len(seconds) < MIN_BATCHES or sum(seconds) < SECONDS_PER_BATCH_SIZE / 2:
            start = time.perf_counter()
            engine.infer(pixels[:batch])
            seconds.append(time.perf_counter() - start)
        latencies_ms[batch] = 1e3 * float(np.median(seconds))
        advance(done + 1)
        if latencies_ms[batch] > SLOW_BATCH_MS:
            break
    return latencies_ms


def measure_throughput(
    engine: Engine,
    pixels: ImageBatch,
    latencies_ms: Mapping[int, float],
    advance: Advance = ignore_progress,
) -> tuple[SweepPoint, ...]:
    """Measure the throughput of each batch size, beside its latency.

    Args:
        engine: opened for throughput; it overlaps as many batches as it can use.
        pixels: uint8 (B, H, W, 3), at least the largest batch.
        latencies_ms: by batch size, from `measure_batch_latencies`.
        advance: called with the number of batch sizes done.
    """
    points = []
    for done, (batch, latency_ms) in enumerate(latencies_ms.items()):
        batches = max(MIN_BATCHES, math.ceil(1e3 * SECONDS_PER_BATCH_SIZE / 2 / latency_ms))
        rate = _measure_images_per_second(engine, pixels[:batch], batches)
        points.append(SweepPoint(batch, latency_ms, rate))
        advance(done + 1)
    return tuple(points)


def _measure_images_per_second(engine: Engine, batch: ImageBatch, batches: int) -> float:
    """Time `batches` batches, after as many as fill the engine."""
    for _ in range(engine.concurrency):
        engine.submit(batch)
    start = time.perf_counter()
    for _ in range(batches):
        engine.result()
        engine.submit(batch)
    elapsed_s = time.perf_counter() - start
    for _ in range(engine.concurrency):
        engine.result()
    return batches * len(batch) / elapsed_s
