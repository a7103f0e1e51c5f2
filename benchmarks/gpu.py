"""Measure how fast this GPU runs an engine, beside PyTorch on the same GPU in the same process.

    python benchmarks/gpu.py [--models ti-224,s-224,b-224,b-448] [--batches 1,8,32,128]

For each ViT, with random weights: PyTorch eager and `torch.compile` in bf16, the bare TensorRT
engine in FP16 on images that are on the GPU (also replayed as a CUDA graph), the adapter from host
memory to host memory, and the copies alone. The rounds of a batch size are interleaved. Prints a
table, then one JSON line. The ceiling is the best rate of large FP16 matrix products.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gpu_contestants
import numpy as np
import torch
from ceiling import count_image_flops
from gpu_models import MODELS, make_model
from gpu_timing import measure_gpu_ceiling, time_contestants

from patchct_edge.cli import console
from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.tensorrt.library import (
    import_tensorrt,
    library_version,
    query_device,
)

HEADERS = (
    "model",
    "batch",
    "contestant",
    "p50, ms",
    "p99, ms",
    "images/s",
    "x torch.compile",
    "% of ceiling",
)


def main() -> None:
    """Parse the arguments, time everything, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=_split, default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--batches", type=_split, default=["1", "8", "32", "128"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    try:
        device = query_device()  # before any TensorRT object exists
        trt = import_tensorrt()
    except EngineError as error:
        parser.exit(3, f"{error}\n")
    batches = [int(batch) for batch in args.batches]
    ceiling = measure_gpu_ceiling()
    rows: list[dict[str, Any]] = []
    for name in args.models:
        rows += measure_model(trt, name, batches, args.rounds, ceiling)
    console.print_table(HEADERS, [_table_row(row) for row in rows], text_columns=3)
    machine = {
        "gpu": device.name,
        "driver": device.driver,
        "library": library_version(trt),
        "torch": torch.__version__,
        "ceiling_flops_per_s": round(ceiling),
    }
    print(json.dumps({**machine, "rows": rows}))


def measure_model(
    trt: ModuleType, name: str, batches: list[int], rounds: int, ceiling: float
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each contestant and batch size for one model.

    Args:
        ceiling: FLOP/s of large matrix products.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, onnx_path = make_model(name, Path(folder))
        image_flops = count_image_flops(model, MODELS[name].size)
        plan = gpu_contestants.build_plan(trt, onnx_path, max(batches))
    for batch in batches:
        shape = (batch, MODELS[name].size, MODELS[name].size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with gpu_contestants.open_contestants(trt, plan, model, images) as contestants:
            timings = time_contestants(contestants, rounds)
        torch_image_s = timings[gpu_contestants.TORCH_COMPILE].image_s
        for contestant, timing in timings.items():
            flops_per_s = image_flops / timing.image_s
            computes = contestant != gpu_contestants.COPIES
            yield {
                "model": name,
                "batch": batch,
                "contestant": contestant,
                "p50_ms": 1e3 * timing.p50_s,
                "p99_ms": 1e3 * timing.p99_s,
                "images_per_s": 1 / timing.image_s,
                "speedup_over_torch_compile": torch_image_s / timing.image_s,
                "share_of_ceiling": flops_per_s / ceiling if computes else None,
            }


def _table_row(row: dict[str, Any]) -> tuple[str, ...]:
    share = row["share_of_ceiling"]
    return (
        row["model"],
        str(row["batch"]),
        row["contestant"],
        f"{row['p50_ms']:.3f}",
        f"{row['p99_ms']:.3f}",
        f"{row['images_per_s']:.0f}",
        f"{row['speedup_over_torch_compile']:.2f}",
        "" if share is None else f"{100 * share:.0f}",
    )


def _split(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    main()
