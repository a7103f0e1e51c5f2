"""A compiled TensorRT engine that runs: uint8 images in, float32 logits out."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from patchct_edge.arrays import Bytes, Float32s, ImageBatch
from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import Engine, EngineRecord, Outputs
from patchct_edge.runtime.engines.tensorrt.build import INPUT, LOGITS, SIMILARITY, logger
from patchct_edge.runtime.engines.tensorrt.memory import DeviceMemory

UNSERVED = "does not support this compute capability"  # so TensorRT for RTX says it
OTHER_GPU = "its library serves other GPUs: compile with tensorrt, or --engine openvino"
RECOMPILE = "compile it again on this machine, with patchct compile"
SLOTS = 2  # one batch is computed while the next is made ready


@dataclass
class _Slot:
    """Buffers of one batch, on both sides, each for the largest batch."""

    host: dict[str, Bytes]
    device: dict[str, int]


@dataclass(eq=False)
class _Part:
    """A part of a batch, as large as the engine takes; its outputs once they are there."""

    count: int  # without the padding
    slot: _Slot | None
    mark: Any
    outputs: list[Float32s] = field(default_factory=list)


class TensorRTEngine(Engine):
    """An engine on the first GPU, in one stream; not thread-safe, and bound to its thread.

    A batch larger than the engine's largest is split, one smaller than its smallest is padded.

    Args:
        trt: the library that built the plan.
        plan: the serialised engine. It is code: hand in only what is trusted.
        memory: of the GPU, opened on this thread; closed with the engine.

    Raises:
        EngineError: the library refuses the plan, or the GPU has too little memory.
    """

    concurrency = SLOTS

    def __init__(
        self, trt: ModuleType, plan: bytes, record: EngineRecord, memory: DeviceMemory
    ) -> None:
        self.record, self._memory = record, memory
        self._batches: deque[list[_Part]] = deque()
        self._running: deque[_Part] = deque()
        self._idle: list[_Slot] = []
        log = logger(trt)
        self._runtime: Any = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        try:
            if self._engine is None:
                got = "\n".join(log.errors)
                raise EngineError(
                    f"{trt.__name__} refuses the engine",
                    got=got,
                    fix=OTHER_GPU if UNSERVED in got else RECOMPILE,
                )
            self._read_shapes()
            self._context = self._made_context()
            self._idle += [self._slot() for _ in range(SLOTS)]
        except BaseException:
            self.close()
            raise

    def submit(self, images: ImageBatch) -> None:
        parts = [images[n : n + self._most] for n in range(0, len(images), self._most)]
        self._batches.append([self._started(part) for part in parts])

    def result(self) -> Outputs:
        parts = self._batches.popleft()
        while any(part.slot is not None for part in parts):
            self._finish_oldest()
        outputs = zip(*(part.outputs for part in parts), strict=True)
        logits, *similarity = (np.concatenate(each) for each in outputs)
        return Outputs(logits, similarity[0] if similarity else None)

    def infer_timed(self, images: ImageBatch) -> tuple[Outputs, dict[str, float]]:
        if len(images) > self._most:  # its parts overlap
            return super().infer_timed(images)
        times = [time.perf_counter()]
        slot, count = self._idle.pop(), max(len(images), self._least)
        for stage in (self._copy_in, self._compute, self._copy_out):
            stage(slot, images, count)
            self._memory.wait(self._memory.mark())
            times.append(time.perf_counter())
        part = _Part(len(images), slot, self._memory.mark())
        self._running.append(part)
        self._batches.append([part])
        names = ("host to device", "engine", "device to host")
        return self.result(), dict(zip(names, np.diff(times).tolist(), strict=True))

    def close(self) -> None:
        self._batches.clear()
        self._running.clear()
        self._idle.clear()
        self._context = self._engine = self._runtime = None  # before the context goes
        self._memory.close()

    def _read_shapes(self) -> None:
        least, usual, most = self._engine.get_tensor_profile_shape(INPUT, 0)
        self._least, self.best_batch, self._most = least[0], usual[0], most[0]
        self._pixels = tuple(most)[1:]
        self.size = self._pixels[0]
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        self._outputs = {
            name: tuple(self._engine.get_tensor_shape(name))[1:]
            for name in (LOGITS, SIMILARITY)
            if name in names
        }
        self.labels = self._outputs[LOGITS][0]

    def _made_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise self._too_large()
        return context

    def _slot(self) -> _Slot:
        sizes = {INPUT: self._most * math.prod(self._pixels)}
        sizes |= {name: 4 * self._most * math.prod(s) for name, s in self._outputs.items()}
        try:
            return _Slot(
                {name: self._memory.pinned(size) for name, size in sizes.items()},
                {name: self._memory.on_device(size) for name, size in sizes.items()},
            )
        except MemoryError:
            raise self._too_large() from None

    def _too_large(self) -> EngineError:
        half = max(1, self._most // 2)
        return EngineError(
            "the GPU has too little memory left for this engine",
            got=f"batches of {self._most}",
            fix=f"compile it again with smaller batches: --batch {half}",
        )

    def _started(self, images: ImageBatch) -> _Part:
        """Queue a batch that fits: copy in, compute, copy out."""
        if not self._idle:
            self._finish_oldest()
        slot, count = self._idle.pop(), max(len(images), self._least)
        self._copy_in(slot, images, count)
        self._compute(slot, images, count)
        self._copy_out(slot, images, count)
        part = _Part(len(images), slot, self._memory.mark())
        self._running.append(part)
        return part

    def _copy_in(self, slot: _Slot, images: ImageBatch, count: int) -> None:
        """Queue the copy of a batch to the device, padded to `count` images."""
        size = images[0].nbytes
        host = slot.host[INPUT][: count * size]
        host[: len(images) * size] = np.ascontiguousarray(images).reshape(-1)
        host[len(images) * size :] = 0
        self._memory.copy_in(slot.device[INPUT], host)

    def _compute(self, slot: _Slot, images: ImageBatch, count: int) -> None:
        self._context.set_input_shape(INPUT, (count, *self._pixels))
        for name, address in slot.device.items():
            self._context.set_tensor_address(name, address)
        if not self._context.execute_async_v3(self._memory.stream):
            self._idle.append(slot)
            raise EngineError("TensorRT did not run the batch", got=f"{len(images)} images")

    def _copy_out(self, slot: _Slot, images: ImageBatch, count: int) -> None:
        for name, shape in self._outputs.items():
            found = slot.host[name][: 4 * count * math.prod(shape)]
            self._memory.copy_out(found, slot.device[name])

    def _finish_oldest(self) -> None:
        """Wait for the oldest part, keep its outputs, and free its slot."""
        part = self._running.popleft()
        assert part.slot is not None
        self._memory.wait(part.mark)
        for name, shape in self._outputs.items():
            size = 4 * part.count * math.prod(shape)
            found = part.slot.host[name][:size].view(np.float32)
            part.outputs.append(found.reshape(part.count, *shape).copy())
        self._idle.append(part.slot)
        part.slot = None
