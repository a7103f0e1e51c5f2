"""Measure how fast this CPU tags, beside what one would do without this product.

    python benchmarks/cpu.py [RUN X.patchct PHOTOS]

Everything runs on the same photos in one process. The rounds of all contestants are interleaved,
after one warm-up round, and each figure is a median. Prints a table, then one JSON line. Without
arguments, a ViT-Ti with random weights is made first, in the folder `bench`.
"""

from __future__ import annotations

import argparse
import json
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
import random_model
from cpu_contestants import DECODE, Contestant, engine_contestants, file_contestants

from patchct_edge.bundle import Bundle
from patchct_edge.cli import console
from patchct_edge.export.graph import EngineGraph, compute_prototypes
from patchct_edge.parallel import count_workers
from patchct_edge.runtime.tagging.inputs import find_images
from patchct_edge.train.checkpoint import load_model

LIBRARIES = ("torch", "transformers", "onnxruntime", "openvino", "pillow", "numpy")
HEADERS = ("task", "contestant", "batch", "images/s", "x slowest", "GFLOP/s")


def main() -> None:
    """Parse the arguments, time everything, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="*", type=Path, metavar="RUN X.patchct PHOTOS")
    parser.add_argument("--photos", type=int, default=400, help="number of photos, at most")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if len(args.model) not in (0, 3):
        parser.error("give RUN, X.patchct and PHOTOS, or none of them")
    run, bundle_path, photo_folder = args.model or random_model.make_model(Path("bench"))
    bundle = Bundle(bundle_path)
    photos = list(islice(find_images([str(photo_folder)]), args.photos))
    model, state = load_model(run)
    graph = EngineGraph(model, state.preprocessing, compute_prototypes(model)).eval()
    image_flops = ceiling.count_image_flops(graph, state.preprocessing.size)
    with ExitStack() as stack:
        output = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tags.jsonl"
        contestants = [
            *engine_contestants(bundle, graph, photos, stack),
            *file_contestants(bundle, run / "image_encoder", photos, output, stack),
        ]
        rates = measure_rates(contestants, args.rounds)
    ceilings = ceiling.measure_cpu_ceilings()
    print_rates(contestants, rates, image_flops, ceilings)
    print(json.dumps(to_json(contestants, rates, image_flops, ceilings, len(photos))))


def measure_rates(contestants: Sequence[Contestant], rounds: int) -> list[float]:
    """Return the images/s of each contestant, the median of interleaved rounds."""
    durations_s: list[list[float]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant.run()
    for _ in range(rounds):
        for contestant, durations in zip(contestants, durations_s, strict=True):
            start = time.perf_counter()
            contestant.run()
            durations.append(time.perf_counter() - start)
    return [
        contestant.images / statistics.median(durations)
        for contestant, durations in zip(contestants, durations_s, strict=True)
    ]


def print_rates(
    contestants: Sequence[Contestant],
    rates: Sequence[float],
    image_flops: int,
    ceilings: dict[str, float],
) -> None:
    """Print a table of the rates; "x slowest" compares with the slowest contestant of the task."""
    rows = []
    for contestant, rate in zip(contestants, rates, strict=True):
        slowest = min(
            other_rate
            for other, other_rate in zip(contestants, rates, strict=True)
            if other.task == contestant.task
        )
        gflops = "" if contestant.task == DECODE else f"{rate * image_flops / 1e9:.0f}"
        rows.append(
            (
                contestant.task,
                contestant.name,
                str(contestant.batch),
                f"{rate:.1f}",
                f"{rate / slowest:.2f}",
                gflops,
            )
        )
    console.print_table(HEADERS, rows, text_columns=2)
    limits = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in ceilings.items())
    console.out.print(
        f"An image takes {image_flops / 1e9:.2f} GFLOP. "
        f"Large matrix products reach these GFLOP/s: {limits}."
    )


def to_json(
    contestants: Sequence[Contestant],
    rates: Sequence[float],
    image_flops: int,
    ceilings: dict[str, float],
    photos: int,
) -> dict[str, Any]:
    """Return all figures as one JSON object."""
    return {
        "cpu": str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "logical_cores": count_workers(),
        "photos": photos,
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "flops_per_image": image_flops,
        "ceilings_flops_per_s": {name: round(rate) for name, rate in ceilings.items()},
        "rates": [
            {
                "task": contestant.task,
                "contestant": contestant.name,
                "batch": contestant.batch,
                "images_per_s": round(rate, 1),
            }
            for contestant, rate in zip(contestants, rates, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
