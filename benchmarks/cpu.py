"""How fast tagging is on this CPU, beside what one would do without this product.

    python benchmarks/cpu.py [RUN X.patchct PHOTOS]

Everything in one run on the same photos. The rounds of all contestants are interleaved, after one
of each to warm up, and the median is shown. Prints a table, and one JSON line at the end. Without
arguments, a ViT-Ti of random weights is made first, in the folder `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import ceiling
import openvino
import stand_in
from contestants import Contestant, from_files, of_engines

from patchct_edge.bundle import Bundle
from patchct_edge.cli import console
from patchct_edge.export.graph import EngineGraph, compute_prototypes
from patchct_edge.runtime.tagging.inputs import find_images
from patchct_edge.train.checkpoint import load_model

LIBRARIES = ("torch", "transformers", "onnxruntime", "openvino", "pillow", "numpy")


def main() -> None:
    """Read the arguments, time everything, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("made", nargs="*", type=Path, metavar="RUN X.patchct PHOTOS")
    parser.add_argument("--photos", type=int, default=400, help="at most so many")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if len(args.made) not in (0, 3):
        parser.error("RUN, X.patchct and PHOTOS belong together")
    run, path, folder = args.made or stand_in.make(Path("bench"))
    bundle = Bundle(path)
    files = list(islice(find_images([str(folder)]), args.photos))
    model, state = load_model(run)
    graph = EngineGraph(model, state.preprocessing, compute_prototypes(model)).eval()
    flops = ceiling.flops_of_an_image(graph, state.preprocessing.size)
    with ExitStack() as stack:
        target = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tags.jsonl"
        field = [
            *of_engines(bundle, graph, files, stack),
            *from_files(bundle, run / "image_encoder", files, target, stack),
        ]
        rates = timed(field, args.rounds)
    products = ceiling.products_per_second()
    show(field, rates, flops, products)
    print(json.dumps(record(field, rates, flops, products, len(files))))


def timed(field: Sequence[Contestant], rounds: int) -> list[float]:
    """Return the images/s of each contestant, the median of interleaved rounds."""
    seconds: list[list[float]] = [[] for _ in field]
    for each in field:
        each.run()
    for _ in range(rounds):
        for each, found in zip(field, seconds, strict=True):
            began = time.perf_counter()
            each.run()
            found.append(time.perf_counter() - began)
    return [each.count / statistics.median(s) for each, s in zip(field, seconds, strict=True)]


def show(
    field: Sequence[Contestant], rates: Sequence[float], flops: int, products: dict[str, float]
) -> None:
    """Print the table, with each rate as a multiple of its group's slowest at the same batch."""
    rows = []
    for each, rate in zip(field, rates, strict=True):
        rivals = [r for c, r in zip(field, rates, strict=True) if c.group == each.group]
        gigaflops = "" if each.group == "decode" else f"{rate * flops / 1e9:.0f}"
        times = f"{rate / min(rivals):.2f}"
        rows.append((each.group, each.name, str(each.batch), f"{rate:.1f}", times, gigaflops))
    console.print_table(("what", "with", "batch", "images/s", "x slowest", "GFLOP/s"), rows, text=2)
    limits = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in products.items())
    console.out.print(
        f"{flops / 1e9:.2f} GFLOP an image; ceiling of large matrix products, GFLOP/s: {limits}"
    )


def record(
    field: Sequence[Contestant],
    rates: Sequence[float],
    flops: int,
    products: dict[str, float],
    photos: int,
) -> dict[str, Any]:
    """Return everything as one JSON object."""
    return {
        "cpu": str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "cores": os.cpu_count(),
        "photos": photos,
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "flops_an_image": flops,
        "ceiling_flops": {name: round(rate) for name, rate in products.items()},
        "images_per_second": [
            {"what": each.group, "with": each.name, "batch": each.batch, "rate": round(rate, 1)}
            for each, rate in zip(field, rates, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
