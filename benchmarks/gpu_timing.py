"""Timing on a GPU: latency of single calls and throughput of many, in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

CALLS = 50  # of each contestant a round, for the latency; as many again for the throughput
SIDE = 8192  # of the square matrices of the ceiling


class Contestant(NamedTuple):
    """Something to time: `queue` starts one batch, `finish` waits for all that was started."""

    images: int
    queue: Callable[[], object]
    finish: Callable[[], object]


class Timed(NamedTuple):
    """Seconds: of one call that is waited for, and of an image where many calls are under way."""

    p50: float
    p99: float
    seconds_an_image: float


def timed(field: Mapping[str, Contestant], rounds: int) -> dict[str, Timed]:
    """Time all contestants in turn, after a round to warm up."""
    single: dict[str, list[float]] = {name: [] for name in field}
    many: dict[str, list[float]] = {name: [] for name in field}
    for number in range(rounds + 1):
        for name, each in field.items():
            latencies = [_seconds(each, 1) for _ in range(CALLS)]
            throughput = _seconds(each, CALLS) / (CALLS * each.images)
            if number:
                single[name] += latencies
                many[name].append(throughput)
    return {
        name: Timed(*np.percentile(single[name], (50, 99)), float(np.median(many[name])))
        for name in field
    }


def product_rate(rounds: int = 20) -> float:
    """Return the FLOP/s of large FP16 products, the best of the rounds."""
    a = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.float16)
    product = Contestant(1, lambda: a @ a, torch.cuda.synchronize)
    _seconds(product, rounds)
    return 2 * SIDE**3 / min(_seconds(product, 1) for _ in range(rounds))


def _seconds(each: Contestant, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        each.queue()
    each.finish()
    return time.perf_counter() - began
