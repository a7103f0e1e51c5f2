"""The contestants of the GPU benchmark: PyTorch, the bare engine, our adapter, the copies."""

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
from patchct_edge.progress import NO_PROGRESS
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.tensorrt.build import INPUT, LOGITS, BuildOptions, build
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.library import (
    is_rtx,
    library_version,
    query_device,
    unwrap_result,
)
from patchct_edge.runtime.engines.tensorrt.memory import CudaBindings

TORCH_COMPILE, COPIES = "torch.compile bf16", "copies alone"


def build_plan(trt: ModuleType, graph: Path, max_batch: int) -> bytes:
    """Build an engine for batches of 1 to `max_batch` images."""
    options = BuildOptions((1, max_batch, max_batch), workspace_mb=4096)
    return build(trt, graph, options, b"", NO_PROGRESS)[0]


class BareEngine(TensorRTEngine):
    """The engine without its adapter: the images are on the GPU, and nothing is copied."""

    def prepare(self, images: ImageBatch) -> None:
        """Copy one batch to the GPU, and set shapes and addresses."""
        self.infer(images)
        slot = self._idle[-1]
        self._batch = len(images)
        self._host, self._device = slot.host[INPUT][: images.nbytes], slot.device
        self._context.set_input_shape(INPUT, images.shape)
        for name, address in self._device.items():
            self._context.set_tensor_address(name, address)

    def run(self) -> None:
        """Queue one run."""
        assert self._context.execute_async_v3(self._memory.stream)

    def copy(self) -> None:
        """Queue the copies of a batch: images in, logits out."""
        self._memory.copy_in(self._device[INPUT], self._host)
        logits = self._idle[-1].host[LOGITS][: self._output_bytes(LOGITS, self._batch)]
        self._memory.copy_out(logits, self._device[LOGITS])

    def finish(self) -> None:
        """Wait for everything queued."""
        self._memory.wait(self._memory.record_event())

    def capture_graph(self) -> Callable[[], None]:
        """Capture one run as a CUDA graph, and return the function that replays it."""
        from cuda.bindings import driver

        def call(name: str, *arguments: Any) -> Any:
            return unwrap_result(driver, getattr(driver, name)(*arguments), name)

        self.run()  # TensorRT needs one run before a capture
        self.finish()
        stream = self._memory.stream
        call(
            "cuStreamBeginCapture",
            stream,
            driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED,
        )
        self.run()
        graph = call("cuGraphInstantiate", call("cuStreamEndCapture", stream), 0)
        return lambda: call("cuGraphLaunch", graph, stream)


class Adapter:
    """The engine as the product uses it: it prepares one batch while another is computed."""

    def __init__(self, engine: TensorRTEngine, images: ImageBatch) -> None:
        self._engine, self._images, self._in_flight = engine, images, 0

    def queue(self) -> None:
        self._engine.submit(self._images)
        self._in_flight += 1
        if self._in_flight > self._engine.concurrency:
            self._take_result()

    def finish(self) -> None:
        while self._in_flight:
            self._take_result()

    def _take_result(self) -> None:
        self._engine.result()
        self._in_flight -= 1


@contextmanager
def open_contestants(
    trt: ModuleType, plan: bytes, model: EngineGraph, images: ImageBatch
) -> Iterator[dict[str, Contestant]]:
    """Yield all contestants for one batch size."""
    record = EngineRecord("tensorrt", "fp16", "fp16", library_version(trt), query_device().name)
    count = len(images)
    with ExitStack() as stack:
        bare = stack.enter_context(BareEngine(trt, plan, record, CudaBindings()))
        assert isinstance(bare, BareEngine)
        bare.prepare(images)
        engine = stack.enter_context(TensorRTEngine(trt, plan, record, CudaBindings()))
        assert isinstance(engine, TensorRTEngine)
        adapter = Adapter(engine, images)
        contestants = {
            "PyTorch eager bf16": _torch_contestant(model, images, compiled=False),
            TORCH_COMPILE: _torch_contestant(model, images, compiled=True),
            "TensorRT FP16, bare": Contestant(count, bare.run, bare.finish),
            "TensorRT FP16, adapter": Contestant(count, adapter.queue, adapter.finish),
            COPIES: Contestant(count, bare.copy, bare.finish),
        }
        if not is_rtx(trt):  # TensorRT for RTX captures its own graphs
            contestants["TensorRT FP16, CUDA graph"] = Contestant(
                count, bare.capture_graph(), bare.finish
            )
        yield contestants


def _torch_contestant(model: EngineGraph, images: ImageBatch, *, compiled: bool) -> Contestant:
    """Return the model in bf16 on images that are on the GPU."""
    cuda_model = model.cuda()
    pixels = torch.from_numpy(images).cuda()
    forward = torch.compile(cuda_model, mode="max-autotune") if compiled else cuda_model

    @torch.inference_mode()
    def run() -> object:
        with torch.autocast("cuda", torch.bfloat16):
            return forward(pixels)

    return Contestant(len(images), run, torch.cuda.synchronize)
