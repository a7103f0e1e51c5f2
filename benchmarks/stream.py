"""Measure what a stream costs beside its bare engine, and the latency of its tags.

    python benchmarks/stream.py X.patchct [--seconds 8] [--rounds 5]

In turn, `rounds` times: the bare engine on one preprocessed frame; the same with preprocessing each
time, as `patchct tag` does; a stream whose camera delivers more frames than can be tagged; one
camera of 30 frames a second; four such cameras. Each stream runs as `patchct stream` does, with
rows to a file. Prints a table and one JSON line, medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from patchct_edge.cli import console
from patchct_edge.runtime.stream.loop import Control
from patchct_edge.runtime.stream.run import run_stream
from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings
from patchct_edge.runtime.tagging.tagger import Tagger

BARE, PREPROCESSING = "bare engine", "preprocessing and engine"
SATURATED = "stream, more frames than can be tagged"
FAST_CAMERA, CAMERA = "test://pattern?fps=200", "test://pattern?fps=30"  # 640 x 480 pixels
STREAMS = {
    SATURATED: [FAST_CAMERA],
    "stream, one camera of 30 fps": [CAMERA],
    "stream, four cameras of 30 fps": [CAMERA] * 4,
}
WARM_UP_FRACTION = 0.1  # of each run, ignored
HEADERS = ("run", "frames/s", "p50, ms", "p99, ms", "dropped, %")


def main() -> None:
    """Parse the arguments, run everything in turn, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each run")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(args.rounds):
        rounds[BARE].append(measure_engine(args.bundle, args.seconds, preprocess=False))
        rounds[PREPROCESSING].append(measure_engine(args.bundle, args.seconds, preprocess=True))
        for name, sources in STREAMS.items():
            rounds[name].append(measure_stream(args.bundle, sources, args.seconds))
    medians = {name: compute_medians(figures) for name, figures in rounds.items()}
    overheads = {
        base: compute_overhead_percent(rounds[base], rounds[SATURATED])
        for base in (BARE, PREPROCESSING)
    }
    print_figures(medians, overheads)
    print(json.dumps({"runs": medians, "overhead_percent": overheads}))


def measure_engine(bundle: Path, duration_s: float, *, preprocess: bool) -> dict[str, float]:
    """Run the engine on one frame for a time; with `preprocess`, preprocess it for every run."""
    with Tagger.open(bundle, latency=True) as tagger:
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        preprocessing = tagger.bundle.preprocessing
        pixels = preprocessing.apply(frame)
        latencies_s = []
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            start = time.perf_counter()
            if preprocess:
                pixels = preprocessing.apply(frame)
            tagger.score(pixels[None])
            latencies_s.append(time.perf_counter() - start)
    latencies_s = latencies_s[int(len(latencies_s) * WARM_UP_FRACTION) :]
    p50, p99 = 1000 * np.percentile(latencies_s, (50, 99))
    return {
        "frames_per_s": 1 / statistics.mean(latencies_s),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
    }


def measure_stream(bundle: Path, sources: list[str], duration_s: float) -> dict[str, float]:
    """Run a stream for a time; return its rate, latency and share of dropped frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        settings = StreamSettings(
            model=str(bundle),
            cameras=tuple(
                CameraSettings(source=source, name=f"camera{n}") for n, source in enumerate(sources)
            ),
            sinks=(JSONLSettings(path=str(path)),),
        )
        control = Control()
        threading.Timer(duration_s, control.stop_requested.set).start()
        summary = run_stream(settings, control)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [line for line in lines if line["type"] == "frame"]
    rows = rows[int(len(rows) * WARM_UP_FRACTION) :]
    times = [datetime.fromisoformat(row["time"]).timestamp() for row in rows]
    p50, p99 = np.percentile([row["latency_ms"] for row in rows], (50, 99))
    counts = summary.cameras.values()
    captured, dropped = sum(c.captured for c in counts), sum(c.dropped for c in counts)
    return {
        "frames_per_s": (len(rows) - 1) / (max(times) - min(times)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "dropped_percent": 100 * dropped / captured,
    }


def compute_medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {
        name: round(statistics.median(figures[name] for figures in rounds), 2) for name in rounds[0]
    }


def compute_overhead_percent(
    base_rounds: Sequence[dict[str, float]], stream_rounds: Sequence[dict[str, float]]
) -> float:
    """Return how much longer the stream takes for a frame, the median over paired rounds."""
    ratios = [
        base["frames_per_s"] / stream["frames_per_s"]
        for base, stream in zip(base_rounds, stream_rounds, strict=True)
    ]
    return round(100 * (statistics.median(ratios) - 1), 1)


def print_figures(medians: dict[str, dict[str, float]], overheads: dict[str, float]) -> None:
    """Print a table of the medians, and the overhead of the stream."""
    rows = [
        (
            name,
            f"{figures['frames_per_s']:.1f}",
            f"{figures['p50_ms']:.2f}",
            f"{figures['p99_ms']:.2f}",
            f"{figures['dropped_percent']:.1f}" if "dropped_percent" in figures else "",
        )
        for name, figures in medians.items()
    ]
    console.print_table(HEADERS, rows)
    for base, percent in overheads.items():
        console.out.print(
            f"Overhead of the saturated stream over {base}: {percent:.1f} % per frame"
        )


if __name__ == "__main__":
    main()
