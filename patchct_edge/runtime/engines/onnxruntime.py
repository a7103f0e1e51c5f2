"""ONNX Runtime on the CPU: the second engine, and the reference of the export's FP16 stage."""

from __future__ import annotations

import platform
from pathlib import Path

from patchct_edge.errors import EngineError, MissingExtra
from patchct_edge.runtime.engines.base import BlockingEngine, EngineRecord, Images, Outputs

NAME = "onnxruntime"


def missing() -> str | None:
    """Return why this engine cannot run here, or None."""
    try:
        import onnxruntime
    except ImportError:
        return "onnxruntime is not installed; pip install 'patchct-edge[onnxruntime]'"
    del onnxruntime
    return None


class ONNXRuntimeEngine(BlockingEngine):
    """An ONNX graph run as it stands: FP16 tensors are stored in FP16, INT8 products in INT8.

    Raises:
        EngineError: ONNX Runtime is missing, or refuses the graph.
    """

    def __init__(self, model: Path, precision: str, *, similarity: bool = False) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra("onnxruntime", "onnxruntime") from None
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            raise EngineError(f"ONNX Runtime cannot load {model}", got=error) from None
        self._names = ["logits", "similarity"] if similarity else ["logits"]
        self.record = EngineRecord(
            NAME, precision, "int8+fp32" if precision == "int8" else precision,
            f"onnxruntime {onnxruntime.__version__}", platform.processor() or platform.machine(),
        )  # fmt: skip

    def compute(self, images: Images) -> Outputs:
        found = self._session.run(self._names, {"image": images})
        return Outputs(found[0], found[1] if len(found) > 1 else None)
