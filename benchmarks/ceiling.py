"""Measure the arithmetic ceiling of this CPU, and count the arithmetic of an image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchct_edge.export.graph import EngineGraph

MATRIX_SIDE = 1024  # large enough to keep every core busy
PRODUCTS_PER_CALL = 8  # chained, so that one call is long


def measure_cpu_ceilings(rounds: int = 9) -> dict[str, float]:
    """Return the operations/s of large matrix products by type, each the best of the rounds."""
    return {
        "fp32": _measure_torch(torch.float32, rounds),
        "bf16": _measure_torch(torch.bfloat16, rounds),
        "int8": _measure_int8(rounds),
    }


def count_image_flops(graph: EngineGraph, size: int) -> int:
    """Count the floating-point operations of one image, counting a multiply-add as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        graph(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops())


def _measure_best_rate(run: Callable[[], object], rounds: int) -> float:
    durations_s = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        durations_s.append(time.perf_counter() - start)
    return PRODUCTS_PER_CALL * 2 * MATRIX_SIDE**3 / min(durations_s)


def _measure_torch(dtype: torch.dtype, rounds: int) -> float:
    matrix = torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(dtype)
    return _measure_best_rate(lambda: [matrix @ matrix for _ in range(PRODUCTS_PER_CALL)], rounds)


def _measure_int8(rounds: int) -> float:
    """Measure a chain of INT8 products in OpenVINO, written as in the QDQ graphs of a bundle."""
    make, fp32 = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    constants = {"scale": np.float32(0.01), "zero": np.int8(0)}
    nodes, last = [], "x"
    for n in range(PRODUCTS_PER_CALL):
        constants[f"w{n}"] = rng.integers(-128, 128, (MATRIX_SIDE, MATRIX_SIDE), dtype=np.int8)
        nodes += [
            make.make_node("QuantizeLinear", [last, "scale", "zero"], [f"q{n}"]),
            make.make_node("DequantizeLinear", [f"q{n}", "scale", "zero"], [f"d{n}"]),
            make.make_node("DequantizeLinear", [f"w{n}", "scale", "zero"], [f"v{n}"]),
            make.make_node("MatMul", [f"d{n}", f"v{n}"], [f"y{n}"]),
        ]
        last = f"y{n}"
    shape = [MATRIX_SIDE, MATRIX_SIDE]
    graph = make.make_graph(
        nodes,
        "products",
        [make.make_tensor_value_info("x", fp32, shape)],
        [make.make_tensor_value_info(last, fp32, shape)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.onnx"
        onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 20)]), path)
        compiled = ov.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    x = rng.standard_normal(shape).astype(np.float32)
    return _measure_best_rate(lambda: compiled(x), rounds)
