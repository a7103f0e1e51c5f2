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
    """The results of one batch: B images, M labels, N patches."""

    logits: Float32s  # (B, M)
    similarity: Float32s | None  # (B, M, N), if the engine was opened with it


@dataclass(frozen=True)
class EngineRecord:
    """Which library, arithmetic and device compute the scores."""

    engine: str
    precision: str  # of the graph: fp32, fp16, int8
    compute_precision: str  # of the arithmetic on this machine, such as int8+bf16
    library: str  # name and version
    device: str
    threads: int | None = None  # of the CPU, if the library reports them

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", threads: {self.threads}"
        details = f"{self.compute_precision}, {self.library}, {self.device}{threads}"
        return f"{self.engine} {self.precision} ({details})"


class Engine(Closeable):
    """A compiled model with a lifetime. Not thread-safe: one thread submits and takes results.

    Attributes:
        record: the library, arithmetic and device.
        size: side of the square input in pixels, -1 if the graph does not fix it.
        label_count: number of labels M, -1 if the graph does not fix it.
        concurrency: number of batches worth having in flight at once.
        best_batch: images per batch that give the best throughput.
    """

    record: EngineRecord
    size: int
    label_count: int
    concurrency: int = 1
    best_batch: int = 8

    @abstractmethod
    def submit(self, images: ImageBatch) -> None:
        """Start a batch, uint8 (B, H, W, 3) with B >= 1; block while `concurrency` are running.

        The caller may overwrite `images` once this returns.
        """

    @abstractmethod
    def result(self) -> Outputs:
        """Wait for the oldest submitted batch whose result was not yet taken, and return it."""

    def infer(self, images: ImageBatch) -> Outputs:
        """Submit one batch, uint8 (B, H, W, 3), and wait for it."""
        self.submit(images)
        return self.result()

    def infer_timed(self, images: ImageBatch) -> tuple[Outputs, dict[str, float]]:
        """Infer one batch while no other is in flight; also return the seconds of each stage."""
        start = time.perf_counter()
        outputs = self.infer(images)
        return outputs, {"engine": time.perf_counter() - start}


class BlockingEngine(Engine):
    """An engine whose library computes in the calling thread."""

    def __init__(self) -> None:
        self._results: deque[Outputs] = deque()

    @abstractmethod
    def compute(self, images: ImageBatch) -> Outputs:
        """Compute one batch, uint8 (B, H, W, 3)."""

    def submit(self, images: ImageBatch) -> None:
        self._results.append(self.compute(images))

    def result(self) -> Outputs:
        return self._results.popleft()

    def close(self) -> None:
        self._results.clear()
