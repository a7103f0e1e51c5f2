"""Run a compiled TensorRT engine: uint8 images in, float32 logits out."""

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
from patchct_edge.runtime.engines.tensorrt.build import INPUT, LOGITS, SIMILARITY, create_logger
from patchct_edge.runtime.engines.tensorrt.memory import DeviceMemory

UNSUPPORTED_GPU = "does not support this compute capability"  # in a message of TensorRT for RTX
OTHER_LIBRARY_FIX = "the library is for other GPUs: compile with TensorRT, or use --engine openvino"
RECOMPILE_FIX = "compile it again on this machine with patchct compile"
SLOTS = 2  # the GPU computes one chunk while the next one is prepared
FLOAT32_BYTES = 4


@dataclass
class _Slot:
    """The buffers of one chunk on both sides, each as large as the largest chunk needs."""

    host: dict[str, Bytes]
    device: dict[str, int]  # addresses


@dataclass(eq=False)
class _Chunk:
    """A part of a batch that the engine takes at once, and its outputs once they have arrived."""

    count: int  # images, without the padding
    slot: _Slot | None
    event: Any  # behind its last copy
    outputs: list[Float32s] = field(default_factory=list)


class TensorRTEngine(Engine):
    """Run an engine on the first GPU in one stream; bound to the thread that opened it.

    A batch larger than the engine's largest is split; one smaller than its smallest is padded.

    Args:
        trt: the library that built the plan.
        plan: the serialized engine. It is code: pass only one that the user trusts.
        record: the library, arithmetic and device.
        memory: of the GPU, opened on this thread; closed with the engine.

    Raises:
        EngineError: the library refuses the plan, or the GPU has too little memory.
    """

    concurrency = SLOTS

    def __init__(
        self, trt: ModuleType, plan: bytes, record: EngineRecord, memory: DeviceMemory
    ) -> None:
        self.record, self._memory = record, memory
        self._batches: deque[list[_Chunk]] = deque()
        self._running: deque[_Chunk] = deque()
        self._idle: list[_Slot] = []
        logger = create_logger(trt)
        self._runtime: Any = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        try:
            if self._engine is None:
                messages = "\n".join(logger.errors)
                raise EngineError(
                    f"{trt.__name__} refuses the engine",
                    got=messages,
                    fix=OTHER_LIBRARY_FIX if UNSUPPORTED_GPU in messages else RECOMPILE_FIX,
                )
            self._read_shapes()
            self._context = self._create_context()
            self._idle += [self._allocate_slot() for _ in range(SLOTS)]
        except BaseException:
            self.close()
            raise

    def submit(self, images: ImageBatch) -> None:
        step = self._max_batch
        chunks = [images[start : start + step] for start in range(0, len(images), step)]
        self._batches.append([self._queue_chunk(chunk) for chunk in chunks])

    def result(self) -> Outputs:
        chunks = self._batches.popleft()
        while any(chunk.slot is not None for chunk in chunks):
            self._finish_oldest()
        outputs = zip(*(chunk.outputs for chunk in chunks), strict=True)
        logits, *similarity = (np.concatenate(arrays) for arrays in outputs)
        return Outputs(logits, similarity[0] if similarity else None)

    def infer_timed(self, images: ImageBatch) -> tuple[Outputs, dict[str, float]]:
        if len(images) > self._max_batch:  # its chunks overlap
            return super().infer_timed(images)
        times = [time.perf_counter()]
        slot, padded_count = self._idle.pop(), max(len(images), self._min_batch)
        for stage in (self._copy_in, self._compute, self._copy_out):
            stage(slot, images, padded_count)
            self._memory.wait(self._memory.record_event())
            times.append(time.perf_counter())
        chunk = _Chunk(len(images), slot, self._memory.record_event())
        self._running.append(chunk)
        self._batches.append([chunk])
        names = ("host to device", "engine", "device to host")
        return self.result(), dict(zip(names, np.diff(times).tolist(), strict=True))

    def close(self) -> None:
        self._batches.clear()
        self._running.clear()
        self._idle.clear()
        # These must be freed before the memory closes its CUDA context.
        self._context = self._engine = self._runtime = None
        self._memory.close()

    def _read_shapes(self) -> None:
        smallest, usual, largest = self._engine.get_tensor_profile_shape(INPUT, 0)
        self._min_batch, self.best_batch, self._max_batch = smallest[0], usual[0], largest[0]
        self._image_shape = tuple(largest)[1:]
        self.size = self._image_shape[0]
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        self._output_shapes: dict[str, tuple[int, ...]] = {
            name: tuple(self._engine.get_tensor_shape(name))[1:]
            for name in (LOGITS, SIMILARITY)
            if name in names
        }
        self.label_count = self._output_shapes[LOGITS][0]

    def _create_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise self._out_of_memory_error()
        return context

    def _allocate_slot(self) -> _Slot:
        sizes = {INPUT: self._max_batch * math.prod(self._image_shape)}
        for name in self._output_shapes:
            sizes[name] = self._output_bytes(name, self._max_batch)
        try:
            return _Slot(
                {name: self._memory.allocate_pinned(size) for name, size in sizes.items()},
                {name: self._memory.allocate_device(size) for name, size in sizes.items()},
            )
        except MemoryError:
            raise self._out_of_memory_error() from None

    def _out_of_memory_error(self) -> EngineError:
        smaller = max(1, self._max_batch // 2)
        return EngineError(
            "the GPU has too little memory left for this engine",
            got=f"batches of {self._max_batch}",
            fix=f"compile it again with smaller batches: --batch {smaller}",
        )

    def _output_bytes(self, name: str, count: int) -> int:
        return FLOAT32_BYTES * count * math.prod(self._output_shapes[name])

    def _queue_chunk(self, images: ImageBatch) -> _Chunk:
        """Queue images that fit into one run: copy in, compute, copy out."""
        if not self._idle:
            self._finish_oldest()
        slot, padded_count = self._idle.pop(), max(len(images), self._min_batch)
        self._copy_in(slot, images, padded_count)
        self._compute(slot, images, padded_count)
        self._copy_out(slot, images, padded_count)
        chunk = _Chunk(len(images), slot, self._memory.record_event())
        self._running.append(chunk)
        return chunk

    def _copy_in(self, slot: _Slot, images: ImageBatch, padded_count: int) -> None:
        """Queue the copy of a chunk to the device, padded with zeros to `padded_count` images."""
        image_bytes = images[0].nbytes
        host = slot.host[INPUT][: padded_count * image_bytes]
        host[: len(images) * image_bytes] = np.ascontiguousarray(images).reshape(-1)
        host[len(images) * image_bytes :] = 0
        self._memory.copy_in(slot.device[INPUT], host)

    def _compute(self, slot: _Slot, images: ImageBatch, padded_count: int) -> None:
        self._context.set_input_shape(INPUT, (padded_count, *self._image_shape))
        for name, address in slot.device.items():
            self._context.set_tensor_address(name, address)
        if not self._context.execute_async_v3(self._memory.stream):
            self._idle.append(slot)
            raise EngineError("TensorRT did not run the batch", got=f"{len(images)} images")

    def _copy_out(self, slot: _Slot, images: ImageBatch, padded_count: int) -> None:
        for name in self._output_shapes:
            host = slot.host[name][: self._output_bytes(name, padded_count)]
            self._memory.copy_out(host, slot.device[name])

    def _finish_oldest(self) -> None:
        """Wait for the oldest chunk, copy its outputs, and free its slot."""
        chunk = self._running.popleft()
        assert chunk.slot is not None
        self._memory.wait(chunk.event)
        for name, shape in self._output_shapes.items():
            size = self._output_bytes(name, chunk.count)
            values = chunk.slot.host[name][:size].view(np.float32)
            chunk.outputs.append(values.reshape(chunk.count, *shape).copy())
        self._idle.append(chunk.slot)
        chunk.slot = None
