"""Time contestants on a GPU: the latency of single calls and the throughput of many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

CALLS_PER_ROUND = 50  # single calls for the latency, and as many together for the throughput
MATRIX_SIDE = 8192  # for the ceiling


class Contestant(NamedTuple):
    """Something to time: `queue` starts one batch, `finish` waits for all started ones."""

    images: int
    queue: Callable[[], object]
    finish: Callable[[], object]


class Timing(NamedTuple):
    """The latency of one call, and the time per image while many calls are in flight."""

    p50_s: float
    p99_s: float
    image_s: float


def time_contestants(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, Timing]:
    """Time all contestants in interleaved rounds, after one warm-up round."""
    latencies_s: dict[str, list[float]] = {name: [] for name in contestants}
    image_times_s: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            latencies = [_time_calls(contestant, 1) for _ in range(CALLS_PER_ROUND)]
            image_s = _time_calls(contestant, CALLS_PER_ROUND) / (
                CALLS_PER_ROUND * contestant.images
            )
            if number:
                latencies_s[name] += latencies
                image_times_s[name].append(image_s)
    timings = {}
    for name in contestants:
        p50_s, p99_s = np.percentile(latencies_s[name], (50, 99))
        timings[name] = Timing(float(p50_s), float(p99_s), float(np.median(image_times_s[name])))
    return timings


def measure_gpu_ceiling(rounds: int = 20) -> float:
    """Return the FLOP/s of large FP16 products, the best of the rounds."""
    matrix = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device="cuda", dtype=torch.float16)
    product = Contestant(1, lambda: matrix @ matrix, torch.cuda.synchronize)
    _time_calls(product, rounds)
    return 2 * MATRIX_SIDE**3 / min(_time_calls(product, 1) for _ in range(rounds))


def _time_calls(contestant: Contestant, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        contestant.queue()
    contestant.finish()
    return time.perf_counter() - start
