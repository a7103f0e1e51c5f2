"""How fast an engine is on this GPU, beside PyTorch on the same GPU in the same run.

    python benchmarks/gpu.py [--models ti-224,s-224,b-224,b-448] [--batches 1,8,32,128]

For each ViT, with random weights: PyTorch eager and `torch.compile` in bf16, the bare TensorRT
engine in FP16 on pictures that lie on the GPU (replayed as a CUDA graph as well), the adapter from
host memory to host memory, and the copies alone. The rounds of a batch size are interleaved.
Prints a table, and one JSON line at the end. The ceiling is the best rate of large FP16 products.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_contestants
import numpy as np
import torch
from ceiling import flops_of_an_image
from gpu_models import MODELS, made
from gpu_timing import Timed, product_rate, timed

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
    "with",
    "p50 ms",
    "p99 ms",
    "images/s",
    "x torch.compile",
    "% of ceiling",
)


def main() -> None:
    """Read the arguments, time everything, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=_listed, default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--batches", type=_listed, default=["1", "8", "32", "128"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    try:
        where, trt = (
            query_device(),
            import_tensorrt(),
        )  # the driver is asked before TensorRT is touched
    except EngineError as error:
        parser.exit(3, f"{error}\n")
    batches = [int(batch) for batch in args.batches]
    ceiling = product_rate()
    rows: list[dict[str, Any]] = []
    for name in args.models:
        rows += of_model(trt, name, batches, args.rounds, ceiling)
    console.print_table(HEADERS, [_shown(row) for row in rows], text_columns=3)
    about = {"gpu": where.name, "driver": where.driver, "library": library_version(trt)}
    about |= {"torch": torch.__version__, "ceiling_flops": round(ceiling)}
    print(json.dumps({**about, "rows": rows}))


def of_model(
    trt: Any, name: str, batches: list[int], rounds: int, ceiling: float
) -> Iterator[dict[str, Any]]:
    """Yield a row for each contestant and batch size of one model."""
    with tempfile.TemporaryDirectory() as folder:
        model, onnx_graph = made(name, Path(folder))
        flops = flops_of_an_image(model, MODELS[name].size)
        plan = gpu_contestants.plan_of(trt, onnx_graph, max(batches))
    for batch in batches:
        shape = (batch, MODELS[name].size, MODELS[name].size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with gpu_contestants.opened(trt, plan, model, images) as field:
            found = timed(field, rounds)
        compiled = found[gpu_contestants.COMPILED].seconds_an_image
        for contestant, each in found.items():
            computes = contestant != gpu_contestants.COPIES
            yield {
                "model": name,
                "batch": batch,
                "with": contestant,
                "p50_ms": 1e3 * each.p50,
                "p99_ms": 1e3 * each.p99,
                "images_per_second": 1 / each.seconds_an_image,
                "times_compiled": compiled / each.seconds_an_image,
                "share_of_ceiling": _share(each, flops, ceiling) if computes else None,
            }


def _share(each: Timed, flops: int, ceiling: float) -> float:
    return flops / each.seconds_an_image / ceiling


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    share = row["share_of_ceiling"]
    return (
        row["model"],
        str(row["batch"]),
        row["with"],
        f"{row['p50_ms']:.3f}",
        f"{row['p99_ms']:.3f}",
        f"{row['images_per_second']:.0f}",
        f"{row['times_compiled']:.2f}",
        "" if share is None else f"{100 * share:.0f}",
    )


def _listed(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    main()
