"""OpenVINO on the CPU: the default engine on a machine without a GPU."""

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
PRECISION_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}  # OpenVINO's to ours


def check_library() -> str | None:
    """Return why this engine cannot run here, or None."""
    try:
        import openvino
    except ImportError as error:
        return f"openvino does not load ({error}); pip install openvino"
    del openvino
    return None


class OpenVINOEngine(Engine):
    """Run an ONNX graph compiled for this CPU; the compiled model is cached for the next start.

    `fp32` and `fp16` graphs are computed in exact float32: on a CPU, FP16 only saves space. In an
    `int8` graph OpenVINO chooses the arithmetic of the nodes that are not quantized (bfloat16 if
    the CPU has it), and the record names it.

    Args:
        graph: the ONNX file.
        precision: of the graph: fp32, fp16 or int8.
        similarity: also return the patch-label similarity.
        latency: optimize for one batch at a time, not for throughput.

    Raises:
        EngineError: OpenVINO does not load, or cannot compile the graph.
    """

    def __init__(
        self, graph: Path, precision: str, *, similarity: bool = False, latency: bool = False
    ) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise EngineError(str(check_library())) from None
        core = ov.Core()
        try:
            with compile_cache(graph) as cache_folder:
                if cache_folder is not None:
                    core.set_property({"CACHE_DIR": str(cache_folder)})
                model = core.read_model(graph)
                self._compiled: Any = core.compile_model(
                    model if similarity else _keep_logits(ov, model),
                    "CPU",
                    _compile_options(precision, latency),
                )
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot compile {graph}", got=str(error).strip().splitlines()[-1]
            ) from None
        self._similarity = similarity
        self.size, self.label_count = (
            port.partial_shape[1].max_length  # -1 without a bound
            for port in (self._compiled.input("image"), self._compiled.output("logits"))
        )
        self.concurrency = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle = [self._compiled.create_infer_request() for _ in range(self.concurrency)]
        # Requests that are running, and the outputs of those that had to make room, oldest first.
        self._in_flight: deque[Any] = deque()
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
            self._idle.append(self._free_oldest_request())
        request = self._idle.pop()
        request.start_async({"image": np.ascontiguousarray(images)}, share_inputs=False)
        self._in_flight.append(request)

    def result(self) -> Outputs:
        oldest = self._in_flight.popleft()
        if isinstance(oldest, Outputs):
            return oldest
        oldest.wait()
        self._idle.append(oldest)
        return self._copy_outputs(oldest)

    def close(self) -> None:
        for request in self._in_flight:
            if not isinstance(request, Outputs):
                request.wait()
        self._in_flight.clear()
        self._idle.clear()
        self._compiled = None  # its memory and its threads

    def _free_oldest_request(self) -> Any:
        """Wait for the oldest running request, put its outputs in its place, and return it."""
        for n, request in enumerate(self._in_flight):
            if not isinstance(request, Outputs):
                request.wait()
                self._in_flight[n] = self._copy_outputs(request)
                return request
        raise AssertionError("no request is idle or running")

    def _copy_outputs(self, request: Any) -> Outputs:
        logits = np.array(request.get_tensor("logits").data, np.float32)
        if not self._similarity:
            return Outputs(logits, None)
        return Outputs(logits, np.array(request.get_tensor("similarity").data, np.float32))

    def _compute_precision(self, precision: str) -> str:
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        name = PRECISION_NAMES.get(hint, hint)
        return f"int8+{name}" if precision == "int8" else name


def _compile_options(precision: str, latency: bool) -> dict[str, str]:
    options = {"PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT"}
    if precision != "int8":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    return options


def _keep_logits(ov: Any, model: Any) -> Any:
    """Return the model without its similarity output, which costs time."""
    return ov.Model([model.output("logits")], model.get_parameters(), "patchct")
