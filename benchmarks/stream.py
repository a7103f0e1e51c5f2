"""Measure what a stream costs beside its engine alone, and how late its tags are.

    python benchmarks/stream.py X.patchct [--seconds 8] [--rounds 5]

In turn, `rounds` times: the engine alone on one fitted image; the same with fitting a frame each
time, as `patchct tag` does; a stream whose camera delivers more than can be tagged; one camera of
30 frames per second; four such cameras. Streams run as `patchct stream` does, with rows to a file.
Prints one JSON line each, medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np

from patchct_edge.runtime.stream.loop import Control
from patchct_edge.runtime.stream.run import run_stream
from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings
from patchct_edge.runtime.tagging.tagger import Tagger

WARM_UP_SHARE = 0.1  # of a run, which is not counted
ENGINE, FITTING, SATURATED = "engine alone", "fitting and engine", "more than can be tagged"
FAST_CAMERA, CAMERA = "test://pattern?fps=200", "test://pattern?fps=30"  # 640 x 480
SOURCES_BY_RUN = {
    SATURATED: [FAST_CAMERA],
    "30 per second": [CAMERA],
    "four cameras of 30 per second": [CAMERA] * 4,
}
Figures = dict[str, float]


def main() -> None:
    """Read the arguments, measure everything in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rounds_by_run: dict[str, list[Figures]] = defaultdict(list)
    for _ in range(args.rounds):
        rounds_by_run[ENGINE].append(measure_engine(args.model, args.seconds, fitting=False))
        rounds_by_run[FITTING].append(measure_engine(args.model, args.seconds, fitting=True))
        for run, sources in SOURCES_BY_RUN.items():
            rounds_by_run[run].append(measure_stream(args.model, sources, args.seconds))
    for run, rounds in rounds_by_run.items():
        medians = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
        print(json.dumps({"run": run, **{key: round(v, 2) for key, v in medians.items()}}))
    for base in (ENGINE, FITTING):
        overhead = compute_overhead(rounds_by_run[base], rounds_by_run[SATURATED])
        print(json.dumps({"overhead_percent": round(overhead, 1), "of": SATURATED, "over": base}))


def compute_overhead(base_rounds: list[Figures], stream_rounds: list[Figures]) -> float:
    """Return by how many percent the base is faster: the median over pairs of rounds."""
    return statistics.median(
        100 * (base["frames_per_second"] / stream["frames_per_second"] - 1)
        for base, stream in zip(base_rounds, stream_rounds, strict=True)
    )


def measure_engine(model: Path, seconds: float, *, fitting: bool) -> Figures:
    """Run the engine on one frame again and again, fitted once or each time."""
    with Tagger.open(model, latency=True) as tagger:
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        preprocessing = tagger.bundle.preprocessing
        pixels = preprocessing.apply(frame)
        durations = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            start = time.perf_counter()
            if fitting:
                pixels = preprocessing.apply(frame)
            tagger.score(pixels[None])
            durations.append(time.perf_counter() - start)
    durations = durations[int(WARM_UP_SHARE * len(durations)) :]
    p50, p99 = 1000 * np.percentile(durations, (50, 99))
    return {"frames_per_second": 1 / statistics.mean(durations), "p50_ms": p50, "p99_ms": p99}


def measure_stream(model: Path, sources: list[str], seconds: float) -> Figures:
    """Run a stream for some seconds; return its rate and latency after the warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        settings = StreamSettings(
            model=str(model),
            cameras=tuple(
                CameraSettings(source=source, name=f"c{n}") for n, source in enumerate(sources)
            ),
            sinks=(JSONLSettings(path=str(path)),),
        )
        control = Control()
        threading.Timer(seconds, control.stop_requested.set).start()
        summary = run_stream(settings, control)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["type"] == "frame"]
    rows = rows[int(WARM_UP_SHARE * len(rows)) :]
    times = [datetime.fromisoformat(row["time"]).timestamp() for row in rows]
    p50, p99 = np.percentile([row["latency_ms"] for row in rows], (50, 99))
    captured = sum(counts.captured for counts in summary.cameras.values())
    dropped = sum(counts.dropped for counts in summary.cameras.values())
    return {
        "frames_per_second": (len(rows) - 1) / (max(times) - min(times)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "dropped_percent": 100 * dropped / captured,
    }


if __name__ == "__main__":
    main()
