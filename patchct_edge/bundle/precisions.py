"""The precisions that a bundle may hold, their order, and the names of their graphs."""

from __future__ import annotations

from patchct_edge.errors import BundleError, did_you_mean

PRECISIONS = ("fp32", "fp16", "int8")  # most exact first
INT8_FP16_GRAPH = "int8-fp16"  # the INT8 graph with FP16 around it, which TensorRT compiles
# Fastest first (docs/lab/measurements.md). On a CPU, FP16 saves space but no time.
CPU_SPEED_ORDER = ("int8", "fp32", "fp16")
GPU_SPEED_ORDER = ("int8", "fp16", "fp32")


def graph_name(precision: str) -> str:
    """Return the file name of a precision's graph, or of `INT8_FP16_GRAPH`."""
    return f"model.{precision}.onnx"


def check_precision(name: str) -> str:
    """Return the name of a precision after checking it.

    Raises:
        BundleError: the name is not one of `PRECISIONS`; the error suggests the closest one.
    """
    if name not in PRECISIONS:
        raise BundleError("unknown precision", got=f"{name}, {did_you_mean(name, PRECISIONS)}")
    return name
