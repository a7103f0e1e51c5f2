"""ONNX Runtime on the CPU: the second engine, and the reference of the export's FP16 stage."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from patchct_edge.arrays import ImageBatch
from patchct_edge.errors import EngineError, MissingLibraryError
from patchct_edge.runtime.engines.base import BlockingEngine, EngineRecord, Outputs

NAME = "onnxruntime"
X86 = ("x86_64", "amd64")
TOPOLOGY = Path("/sys/devices/system/cpu")  # which logical cores share a physical one


def check_library() -> str | None:
    """Return why this engine cannot run here, or None."""
    try:
        import onnxruntime
    except ImportError:
        from patchct_edge.requirements import install_command  # reads metadata: 10 ms

        return f"onnxruntime is not installed; {install_command('onnxruntime')}"
    del onnxruntime
    return None


class ONNXRuntimeEngine(BlockingEngine):
    """An ONNX graph on the CPU: INT8 products in INT8, all else in float32.

    An x86 CPU has no arithmetic for FP16 nodes: ONNX Runtime computes them in float32 and drops the
    casts between them, so that of FP16 only the rounding of the weights shows. An ARM CPU may
    compute some of these nodes in FP16.

    Raises:
        EngineError: ONNX Runtime is missing, or refuses the graph.
    """

    def __init__(self, model: Path, precision: str, *, similarity: bool = False) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise MissingLibraryError("onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _cores()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            raise EngineError(f"ONNX Runtime cannot load {model}", got=error) from None
        self._names = ["logits", "similarity"] if similarity else ["logits"]
        shapes = {each.name: each.shape for each in self._session.get_inputs()}
        shapes |= {each.name: each.shape for each in self._session.get_outputs()}
        if not shapes.keys() >= {"image", *self._names}:
            raise EngineError(f"{model} is no PatchCT graph", got=", ".join(shapes))
        self.size, self.labels = (
            shapes[name][1] if isinstance(shapes[name][1], int) else -1
            for name in ("image", "logits")
        )
        self.record = EngineRecord(
            NAME,
            precision,
            _compute_precision(precision),
            f"onnxruntime {onnxruntime.__version__}",
            platform.processor() or platform.machine(),
            options.intra_op_num_threads,
        )

    def compute(self, images: ImageBatch) -> Outputs:
        found = self._session.run(self._names, {"image": images})
        return Outputs(found[0], found[1] if len(found) > 1 else None)

    def close(self) -> None:
        super().close()
        self._session = None


def _cores() -> int:
    """Count the physical cores that this process may run on; logical ones where none are told.

    ONNX Runtime takes as many by default, but counts those as well that are kept from the process.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    try:
        return len(
            {(TOPOLOGY / f"cpu{n}/topology/thread_siblings_list").read_text() for n in allowed}
        )
    except OSError:
        return len(allowed)


def _compute_precision(precision: str) -> str:
    if precision == "fp16":
        return "fp32" if platform.machine().lower() in X86 else "fp16+fp32"
    return "int8+fp32" if precision == "int8" else precision
