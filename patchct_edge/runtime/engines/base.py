"""The engine interface: open, submit a batch, get results in order, close."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from patchct_edge.arrays import Float32s, ImageBatch
from patchct_edge.closeable import Closeable


class Outputs(NamedTuple):
    """What an engine returns for a batch."""

    logits: Float32s  # (B, M)
    similarity: Float32s | None  # (B, M, N), where the engine was opened with it


@dataclass(frozen=True)
class EngineRecord:
    """What runs: for reports, and for the reader of a figure."""

    engine: str
    precision: str  # of the graph: fp32, fp16, int8
    compute_precision: str  # what the machine really computes in, such as int8+bf16
    library: str  # name and version
    device: str
    threads: int | None = None  # of the CPU, where the library says how many it takes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", threads: {self.threads}"
        about = f"{self.compute_precision}, {self.library}, {self.device}{threads}"
        return f"{self.engine} {self.precision} ({about})"


class Engine(Closeable):
    """A compiled model with a lifetime. Not thread-safe: one thread submits and takes results.

    Attributes:
        record: what runs.
        size: side of the input square in pixels, -1 where the graph does not fix it.
        labels: M, -1 where the graph does not fix it.
        concurrency: batches worth having in flight at once.
        best_batch: images a batch for the best throughput.
    """

    record: EngineRecord
    size: int
    labels: int
    concurrency: int = 1
    best_batch: int = 8

    @abstractmethod
    def submit(self, images: ImageBatch) -> None:
        """Start a batch, uint8 (B, H, W, 3), any B >= 1; blocks while `concurrency` are running."""

    @abstractmethod
    def result(self) -> Outputs:
        """Wait for the oldest batch that was submitted and not yet taken."""

    def infer(self, images: ImageBatch) -> Outputs:
        """Submit one batch and wait for it."""
        self.submit(images)
        return self.result()

    def infer_timed(self, images: ImageBatch) -> tuple[Outputs, dict[str, float]]:
        """Run one batch, no other under way; return the seconds of each stage as well."""
        began = time.perf_counter()
        outputs = self.infer(images)
        return outputs, {"engine": time.perf_counter() - began}


class BlockingEngine(Engine):
    """An engine whose library computes in the calling thread."""

    def __init__(self) -> None:
        self._done: deque[Outputs] = deque()

    @abstractmethod
    def compute(self, images: ImageBatch) -> Outputs:
        """Run one batch."""

    def submit(self, images: ImageBatch) -> None:
        self._done.append(self.compute(images))

    def result(self) -> Outputs:
        return self._done.popleft()

    def close(self) -> None:
        self._done.clear()
