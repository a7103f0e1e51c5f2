"""OpenVINO on the CPU: the default engine where there is no GPU."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.arrays import ImageBatch
from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import Engine, EngineRecord, Outputs
from patchct_edge.runtime.engines.cache import compile_cache

NAME = "openvino"
HALF = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def check_library() -> str | None:
    """Return why this engine cannot run here, or None."""
    try:
        import openvino
    except ImportError as error:
        return f"openvino does not load ({error}); pip install openvino"
    del openvino
    return None


class OpenVINOEngine(Engine):
    """An ONNX graph compiled for this CPU; what was compiled is cached where there is a folder.

    `fp32` and `fp16` graphs are computed in exact float32 (FP16 saves only space here); in an
    `int8` graph OpenVINO picks the arithmetic of what is not quantised (bfloat16 where the CPU has
    it), and the record says which.

    Raises:
        EngineError: OpenVINO is missing, or refuses the graph.
    """

    def __init__(
        self, model: Path, precision: str, *, similarity: bool = False, latency: bool = False
    ) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise EngineError(str(check_library())) from None
        core = ov.Core()
        try:
            with compile_cache(model) as cache:
                if cache is not None:
                    core.set_property({"CACHE_DIR": str(cache)})
                graph = core.read_model(model)
                self._compiled: Any = core.compile_model(
                    graph if similarity else _logits_alone(ov, graph),
                    "CPU",
                    _options(precision, latency),
                )
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot compile {model}", got=str(error).strip().splitlines()[-1]
            ) from None
        self._similarity = similarity
        self.size, self.labels = (
            port.partial_shape[1].max_length  # -1 without a bound
            for port in (self._compiled.input("image"), self._compiled.output("logits"))
        )
        self.concurrency = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle = [self._compiled.create_infer_request() for _ in range(self.concurrency)]
        self._running: deque[Any] = deque()
        self.record = EngineRecord(
            NAME,
            precision,
            self._compute_precision(precision),
            f"openvino {ov.__version__.split('-')[0]}",
            str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
        )

    def submit(self, images: ImageBatch) -> None:
        if not self._idle:
            self._idle.append(self._finished())
        request = self._idle.pop()
        request.start_async({"image": np.ascontiguousarray(images)}, share_inputs=False)
        self._running.append(request)

    def result(self) -> Outputs:
        done = self._running.popleft()
        if isinstance(done, Outputs):
            return done
        done.wait()
        self._idle.append(done)
        return self._outputs(done)

    def close(self) -> None:
        for request in self._running:
            if not isinstance(request, Outputs):
                request.wait()
        self._running.clear()
        self._idle.clear()
        self._compiled = None  # its memory and its threads

    def _finished(self) -> Any:
        """Wait for the oldest running request and keep its outputs in its place."""
        for n, request in enumerate(self._running):
            if not isinstance(request, Outputs):
                request.wait()
                self._running[n] = self._outputs(request)
                return request
        raise AssertionError("no request is idle or running")

    def _outputs(self, request: Any) -> Outputs:
        logits = np.array(request.get_tensor("logits").data, np.float32)
        if not self._similarity:
            return Outputs(logits, None)
        return Outputs(logits, np.array(request.get_tensor("similarity").data, np.float32))

    def _compute_precision(self, precision: str) -> str:
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        floats = HALF.get(hint, hint)
        return f"int8+{floats}" if precision == "int8" else floats


def _options(precision: str, latency: bool) -> dict[str, str]:
    options = {"PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT"}
    if precision != "int8":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    return options


def _logits_alone(ov: Any, graph: Any) -> Any:
    return ov.Model([graph.output("logits")], graph.get_parameters(), "patchct")
