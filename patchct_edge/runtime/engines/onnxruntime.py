"""ONNX Runtime on the CPU: the second engine, and the reference for the FP16 stage of export."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from patchct_edge.arrays import ImageBatch
from patchct_edge.errors import EngineError, MissingLibraryError
from patchct_edge.runtime.engines.base import BlockingEngine, EngineRecord, Outputs

NAME = "onnxruntime"
X86_MACHINES = ("x86_64", "amd64")
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")  # tells which logical cores share a physical one


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
    """Run an ONNX graph on the CPU: INT8 products in INT8, everything else in float32.

    An x86 CPU has no arithmetic for FP16 nodes: ONNX Runtime computes them in float32 and drops the
    casts between them, so only the rounding of the weights remains of FP16. An ARM CPU may compute
    some of these nodes in FP16.

    Args:
        graph: the ONNX file.
        precision: of the graph: fp32, fp16 or int8.
        similarity: also return the patch-label similarity.

    Raises:
        MissingLibraryError: ONNX Runtime is not installed.
        EngineError: ONNX Runtime cannot load the graph.
    """

    def __init__(self, graph: Path, precision: str, *, similarity: bool = False) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise MissingLibraryError("onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _count_cores()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            raise EngineError(f"ONNX Runtime cannot load {graph}", got=error) from None
        self._output_names = ["logits", "similarity"] if similarity else ["logits"]
        tensors = [*self._session.get_inputs(), *self._session.get_outputs()]
        shapes = {tensor.name: tensor.shape for tensor in tensors}
        names = ["image", *self._output_names]
        if not shapes.keys() >= set(names):
            raise EngineError(
                f"{graph} is not a PatchCT graph",
                got=f"inputs and outputs {', '.join(shapes)}",
                expected=", ".join(names),
            )
        self.size, self.label_count = (
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
        logits, *similarity = self._session.run(self._output_names, {"image": images})
        return Outputs(logits, similarity[0] if similarity else None)

    def close(self) -> None:
        super().close()
        self._session = None


def _count_cores() -> int:
    """Count the physical cores that this process may use; logical ones if Linux does not tell.

    ONNX Runtime's own default also counts the cores that this process may not use.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed_cores = os.sched_getaffinity(0)
    try:
        siblings = {
            (CPU_TOPOLOGY / f"cpu{core}/topology/thread_siblings_list").read_text()
            for core in allowed_cores
        }
    except OSError:
        return len(allowed_cores)
    return len(siblings)  # one text per physical core


def _compute_precision(precision: str) -> str:
    if precision == "fp16":
        return "fp32" if platform.machine().lower() in X86_MACHINES else "fp16+fp32"
    return "int8+fp32" if precision == "int8" else precision
