"""What a stream costs beside its bare engine, and how late its tags are.

    python benchmarks/stream.py X.patchct [--seconds 8] [--rounds 5]

In turn, `rounds` times: the bare engine on one picture that is ready; the same after fitting a
frame each time, as `patchct tag` does; a stream whose camera delivers more than can be tagged; one
at 30 frames a second; four such cameras; each by the path of `patchct stream`, with rows to a file.
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

BARE, FITTED, FLOODED = "bare engine", "fitting and engine", "more than can be tagged"
FLOOD, CAMERA = "test://pattern?fps=200", "test://pattern?fps=30"  # 640 x 480
STREAMS = {
    FLOODED: [FLOOD],
    "30 a second": [CAMERA],
    "four cameras of 30 a second": [CAMERA] * 4,
}


def main() -> None:
    """Read the arguments, run everything in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(args.rounds):
        found[BARE].append(alone(args.model, args.seconds, fitting=False))
        found[FITTED].append(alone(args.model, args.seconds, fitting=True))
        for name, sources in STREAMS.items():
            found[name].append(streamed(args.model, sources, args.seconds))
    for name, rounds in found.items():
        medians = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        print(json.dumps({"what": name, **{k: round(v, 2) for k, v in medians.items()}}))
    for base in (BARE, FITTED):
        pairs = zip(found[base], found[FLOODED], strict=True)
        overheads = [100 * (a["frames_a_second"] / b["frames_a_second"] - 1) for a, b in pairs]
        found_over = round(statistics.median(overheads), 1)
        print(json.dumps({"overhead_percent": found_over, "of": FLOODED, "over": base}))


def alone(model: Path, seconds: float, *, fitting: bool) -> dict[str, float]:
    """Run the engine on one picture again and again, which is fitted anew each time or never."""
    with Tagger.open(model, latency=True) as tagger:
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        preprocessing = tagger.bundle.preprocessing
        pixels = preprocessing.apply(frame)
        took = []
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            start = time.perf_counter()
            if fitting:
                pixels = preprocessing.apply(frame)
            tagger.score(pixels[None])
            took.append(time.perf_counter() - start)
    took = took[len(took) // 10 :]  # the first ones warm up
    p50, p99 = 1000 * np.percentile(took, (50, 99))
    return {"frames_a_second": 1 / statistics.mean(took), "p50_ms": p50, "p99_ms": p99}


def streamed(model: Path, sources: list[str], seconds: float) -> dict[str, float]:
    """Run a stream for so long; return rate and latency, the first tenth of its rows left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        cameras = tuple(CameraSettings(source=each, name=f"c{n}") for n, each in enumerate(sources))
        settings = StreamSettings(
            model=str(model), cameras=cameras, sinks=(JSONLSettings(path=str(path)),)
        )
        control = Control()
        threading.Timer(seconds, control.stop_requested.set).start()
        summary = run_stream(settings, control)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["type"] == "frame"]
    rows = rows[len(rows) // 10 :]
    times = [datetime.fromisoformat(row["time"]).timestamp() for row in rows]
    p50, p99 = np.percentile([row["latency_ms"] for row in rows], (50, 99))
    captured = sum(each.captured for each in summary.cameras.values())
    dropped = sum(each.dropped for each in summary.cameras.values())
    return {
        "frames_a_second": (len(rows) - 1) / (max(times) - min(times)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "dropped_percent": 100 * dropped / captured,
    }


if __name__ == "__main__":
    main()
