"""What is timed on a GPU: PyTorch, the bare engine, the adapter, and the copies alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from gpu_timing import Contestant

from patchct_edge.arrays import ImageBatch
from patchct_edge.export.graph import EngineGraph
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.tensorrt.build import INPUT, BuildOptions, build
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.library import (
    check_result,
    is_rtx,
    library_version,
    query_device,
)
from patchct_edge.runtime.engines.tensorrt.memory import CudaBindings

COMPILED, COPIES = "torch.compile bf16", "copies alone"


def plan_of(trt: ModuleType, graph: Path, most: int) -> bytes:
    """Compile a graph for batches of 1 to `most`."""
    options = BuildOptions((1, most, most), workspace_mb=4096)
    return build(trt, graph, options, b"", lambda phase, done, steps: None)[0]


class Bare(TensorRTEngine):
    """The engine without its adapter: pictures that lie on the GPU, nothing copied."""

    def prepare(self, images: ImageBatch) -> None:
        """Set shapes and addresses, and bring one batch to the GPU."""
        self.infer(images)
        slot = self._idle[-1]
        self._host, self._device = slot.host[INPUT][: images.nbytes], slot.device
        self._context.set_input_shape(INPUT, images.shape)
        for name, address in self._device.items():
            self._context.set_tensor_address(name, address)

    def run(self) -> None:
        assert self._context.execute_async_v3(self._memory.stream)

    def copy(self) -> None:
        """Do the copies of a batch: pictures in, logits out."""
        self._memory.copy_in(self._device[INPUT], self._host)
        logits = self._idle[-1].host["logits"][: 4 * self.labels * self._count]
        self._memory.copy_out(logits, self._device["logits"])

    @property
    def _count(self) -> int:
        return len(self._host) // (3 * self.size**2)

    def finish(self) -> None:
        self._memory.wait(self._memory.record_event())

    def as_graph(self) -> Callable[[], None]:
        """Capture one run as a CUDA graph; return what replays it."""
        from cuda.bindings import driver

        def call(name: str, *arguments: Any) -> Any:
            return check_result(driver, getattr(driver, name)(*arguments), name)

        self.run()  # TensorRT wants one run before a capture
        self.finish()
        stream = self._memory.stream
        call(
            "cuStreamBeginCapture",
            stream,
            driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED,
        )
        self.run()
        captured = call("cuGraphInstantiate", call("cuStreamEndCapture", stream), 0)
        return lambda: call("cuGraphLaunch", captured, stream)


class Adapter:
    """The engine as the product uses it: a batch is made ready while another is computed."""

    def __init__(self, engine: TensorRTEngine, images: ImageBatch) -> None:
        self._engine, self._images, self._running = engine, images, 0

    def queue(self) -> None:
        self._engine.submit(self._images)
        self._running += 1
        if self._running > self._engine.concurrency:
            self._take()

    def finish(self) -> None:
        while self._running:
            self._take()

    def _take(self) -> None:
        self._engine.result()
        self._running -= 1


@contextmanager
def opened(
    trt: ModuleType, plan: bytes, model: EngineGraph, images: ImageBatch
) -> Iterator[dict[str, Contestant]]:
    """Give everything that is timed at one batch size."""
    about = EngineRecord("tensorrt", "fp16", "fp16", library_version(trt), query_device().name)
    count = len(images)
    with ExitStack() as stack:
        bare = stack.enter_context(Bare(trt, plan, about, CudaBindings()))
        assert isinstance(bare, Bare)
        bare.prepare(images)
        engine = stack.enter_context(TensorRTEngine(trt, plan, about, CudaBindings()))
        assert isinstance(engine, TensorRTEngine)
        adapter = Adapter(engine, images)
        field = {
            "PyTorch eager bf16": _of_torch(model, images, compiled=False),
            COMPILED: _of_torch(model, images, compiled=True),
            "TensorRT FP16, bare": Contestant(count, bare.run, bare.finish),
            "TensorRT FP16, adapter": Contestant(count, adapter.queue, adapter.finish),
            COPIES: Contestant(count, bare.copy, bare.finish),
        }
        if not is_rtx(trt):  # which has a switch of its own
            field["TensorRT FP16, CUDA graph"] = Contestant(count, bare.as_graph(), bare.finish)
        yield field


def _of_torch(model: EngineGraph, images: ImageBatch, *, compiled: bool) -> Contestant:
    """Return the model in bf16 on pictures that lie on the GPU."""
    on_gpu = model.cuda()
    pixels = torch.from_numpy(images).cuda()
    call = torch.compile(on_gpu, mode="max-autotune") if compiled else on_gpu

    @torch.inference_mode()
    def run() -> object:
        with torch.autocast("cuda", torch.bfloat16):
            return call(pixels)

    return Contestant(len(images), run, torch.cuda.synchronize)
