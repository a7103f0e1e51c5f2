"""How fast an engine is: every stage of a photo apart, and batches of all sizes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.runtime.engines.base import Engine

WARM_UP, SAMPLES = 20, 200  # photos
BATCHES = (1, 2, 4, 8, 16, 32)
SWEEP_SECONDS = 0.8  # for each batch size, and at least so many batches:
LEAST_CALLS = 3
SLOW_MS = 250  # a batch that takes longer is the last of a sweep
TOTAL = "total"


@dataclass(frozen=True)
class Percentiles:
    """Of the samples of one stage, in milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Percentiles:
        return cls(*map(float, np.percentile(samples, (50, 90, 95, 99, 100))))


@dataclass(frozen=True)
class Latency:
    """One photo after another, from the file to the tags, in milliseconds.

    `samples` holds the totals in the order of the run. The files lay in the system's cache: `read`
    says nothing of a disk.
    """

    warm_up: int
    samples: tuple[float, ...]
    stages: dict[str, Percentiles]  # in the order of the work, `total` the last

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SweepPoint:
    """One batch size: milliseconds of a batch alone, images/s with as many as pay under way."""

    batch: int
    latency_ms: float
    images_per_second: float


def measure_latency(
    bundle: Bundle,
    engine: Engine,
    calibration: Calibration,
    paths: Sequence[Path],
    progress: Callable[[int], None] = lambda done: None,
) -> Latency:
    """Tag photos one at a time, round and round, and time every stage.

    Args:
        engine: opened for latency.
        paths: photos that can be read, at least one.
        progress: called with the number of photos done.
    """
    stages: dict[str, list[float]] = {}
    for n, path in enumerate(itertools.islice(itertools.cycle(paths), WARM_UP + SAMPLES)):
        found = _one(bundle, engine, calibration, path)
        progress(n + 1)
        if n >= WARM_UP:
            for name, seconds in found.items():
                stages.setdefault(name, []).append(1e3 * seconds)
    totals = np.sum(list(stages.values()), axis=0).tolist()
    spreads = {name: Percentiles.of(samples) for name, samples in stages.items()}
    return Latency(WARM_UP, tuple(totals), {**spreads, TOTAL: Percentiles.of(totals)})


def _one(bundle: Bundle, engine: Engine, calibration: Calibration, path: Path) -> dict[str, float]:
    """Tag a photo; return the seconds of each stage."""
    preprocessing, times = bundle.preprocessing, [time.perf_counter()]
    data = path.read_bytes()
    times.append(time.perf_counter())
    rgb = preprocessing.decode(data)
    times.append(time.perf_counter())
    pixels = preprocessing.apply(rgb)
    times.append(time.perf_counter())
    outputs, inner = engine.infer_timed(pixels[None])
    began = time.perf_counter()
    calibration.tag_image(outputs.logits[0], bundle.labels)
    tags = time.perf_counter() - began
    before = dict(zip(("read", "decode", "resize"), np.diff(times).tolist(), strict=True))
    return {**before, **inner, "tags": tags}


def measure_batch_latencies(
    engine: Engine, pixels: ImageBatch, progress: Callable[[int], None] = lambda done: None
) -> dict[int, float]:
    """Return the milliseconds of one batch alone, of every size up to the first slow one.

    Args:
        engine: opened for latency.
        pixels: uint8 (B, H, W, 3), at least the largest batch.
        progress: called with the number of batch sizes done.
    """
    found: dict[int, float] = {}
    for done, batch in enumerate(BATCHES):
        engine.infer(pixels[:batch])
        seconds: list[float] = []
        while len(seconds) < LEAST_CALLS or sum(seconds) < SWEEP_SECONDS / 2:
            began = time.perf_counter()
            engine.infer(pixels[:batch])
            seconds.append(time.perf_counter() - began)
        found[batch] = 1e3 * float(np.median(seconds))
        progress(done + 1)
        if found[batch] > SLOW_MS:
            break
    return found


def measure_throughput(
    engine: Engine,
    pixels: ImageBatch,
    latencies: Mapping[int, float],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[SweepPoint, ...]:
    """Add to `batch_latencies` the throughput of each size.

    Args:
        engine: opened for throughput; as many batches are under way as it likes.
        pixels: uint8 (B, H, W, 3), at least the largest batch.
        progress: called with the number of batch sizes done.
    """
    points = []
    for done, (batch, milliseconds) in enumerate(latencies.items()):
        calls = max(LEAST_CALLS, math.ceil(1e3 * SWEEP_SECONDS / 2 / milliseconds))
        points.append(SweepPoint(batch, milliseconds, _rate(engine, pixels[:batch], calls)))
        progress(done + 1)
    return tuple(points)


def _rate(engine: Engine, batch: ImageBatch, calls: int) -> float:
    """Return images/s over `calls` batches, after as many as fill the engine."""
    for _ in range(engine.concurrency):
        engine.submit(batch)
    began = time.perf_counter()
    for _ in range(calls):
        engine.result()
        engine.submit(batch)
    elapsed = time.perf_counter() - began
    for _ in range(engine.concurrency):
        engine.result()
    return calls * len(batch) / elapsed
