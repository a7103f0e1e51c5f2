"""The arithmetic ceiling of this machine, and how much arithmetic an image takes."""

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

SIDE = 1024  # of the square matrices: large enough to keep every core busy
PRODUCTS = 8  # in a chain, so that one call is long


def products_per_second(rounds: int = 9) -> dict[str, float]:
    """Return FLOP/s (or integer operations/s) of large matrix products, the best of the rounds."""
    rates = {
        "fp32": _torch_rate(torch.float32, rounds),
        "bf16": _torch_rate(torch.bfloat16, rounds),
    }
    return {**rates, "int8": _int8_rate(rounds)}


def flops_of_an_image(graph: EngineGraph, size: int) -> int:
    """Count the floating-point operations of one image, a multiply-add as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        graph(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops())


def _best(run: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return PRODUCTS * 2 * SIDE**3 / min(seconds)


def _torch_rate(dtype: torch.dtype, rounds: int) -> float:
    a = torch.randn(SIDE, SIDE).to(dtype)
    return _best(lambda: [a @ a for _ in range(PRODUCTS)], rounds)


def _int8_rate(rounds: int) -> float:
    """Time a chain of INT8 products in OpenVINO, as the QDQ graphs of a bundle hold them."""
    make, kind = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    constants = {"scale": np.float32(0.01), "zero": np.int8(0)}
    nodes, last = [], "x"
    for n in range(PRODUCTS):
        constants[f"w{n}"] = rng.integers(-128, 128, (SIDE, SIDE), dtype=np.int8)
        nodes += [
            make.make_node("QuantizeLinear", [last, "scale", "zero"], [f"q{n}"]),
            make.make_node("DequantizeLinear", [f"q{n}", "scale", "zero"], [f"d{n}"]),
            make.make_node("DequantizeLinear", [f"w{n}", "scale", "zero"], [f"v{n}"]),
            make.make_node("MatMul", [f"d{n}", f"v{n}"], [f"y{n}"]),
        ]
        last = f"y{n}"
    shape = [SIDE, SIDE]
    graph = make.make_graph(
        nodes,
        "products",
        [make.make_tensor_value_info("x", kind.FLOAT, shape)],
        [make.make_tensor_value_info(last, kind.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.onnx"
        onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 20)]), path)
        compiled = ov.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    x = rng.standard_normal(shape).astype(np.float32)
    return _best(lambda: compiled(x), rounds)
