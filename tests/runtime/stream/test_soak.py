"""Memory, threads and file descriptors of a long stream. `make soak` takes 100,000 frames.

Tags `test://pattern` with the fake engine and writes rows to files that rotate. Resources are
sampled ten times a second, and every frame is accounted for.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from patchct_edge.runtime.stream.run import Summary, run_stream
from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings

FRAMES = int(os.environ.get("PATCHCT_SOAK_FRAMES", "4000"))
PATTERN_FPS = 2000
SAMPLE_INTERVAL_S = 0.1
WARM_UP_SHARE = 0.1  # of the run, before which memory is not measured
MAX_MEMORY_GROWTH = 0.02


class Resources(NamedTuple):
    """What a process holds at one moment."""

    resident_bytes: int
    threads: int
    descriptors: int


@pytest.mark.timeout(3600)
def test_no_resource_grows_and_no_frame_is_lost(tiny_bundle, tmp_path, capsys):
    report = soak(tiny_bundle, tmp_path, FRAMES)
    with capsys.disabled():
        print(json.dumps(report), end=" ")
    assert report["tagged"] == FRAMES
    assert report["faults"] == []


def soak(model: Path, folder: Path, frames: int) -> dict[str, object]:
    """Tag `frames` frames; return the measurements, with `faults` in words."""
    settings = StreamSettings(
        model=str(model),
        cameras=(
            CameraSettings(source=f"test://pattern?fps={PATTERN_FPS}&size=64x48", name="pattern"),
        ),
        sinks=(JSONLSettings(path=str(folder / "rows.jsonl"), max_mb=1, keep_files=2),),
        engine="fake",
        smoothing=0.1,
        min_duration=0.1,
    )
    samples: list[Resources] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_INTERVAL_S):
            samples.append(measure_resources())

    threading.Thread(target=sample, daemon=True).start()
    start = time.monotonic()
    summary = run_stream(settings, max_frames=frames)
    seconds = time.monotonic() - start
    over.set()
    steady = samples[int(WARM_UP_SHARE * len(samples)) : -2]  # the last ones see the end
    return {"seconds": round(seconds, 1), **summarize(summary, steady)}


def summarize(summary: Summary, steady: Sequence[Resources]) -> dict[str, object]:
    """Compare the first and the last tenth of the samples."""
    counts = summary.cameras["pattern"]
    resident = np.array([sample.resident_bytes for sample in steady])
    tenth = max(1, len(steady) // 10)
    first, last = np.median(resident[:tenth]), np.median(resident[-tenth:])
    growth = float(last / first - 1)
    faults = [f"memory grew by {100 * growth:.1f} %"] if growth > MAX_MEMORY_GROWTH else []
    for name in ("threads", "descriptors"):
        values = [getattr(sample, name) for sample in steady]
        if max(values) - min(values) > 1:  # one: a file that is about to rotate, or /proc itself
            faults.append(f"{name}: {min(values)} to {max(values)}")
    if counts.captured != counts.tagged + counts.dropped:
        faults.append(f"frames are unaccounted for: {counts}")
    return {
        **counts.to_json(),
        "memory_mb": round(last / 1e6, 1),
        "growth_percent": round(100 * growth, 2),
        "threads": steady[-1].threads,
        "descriptors": steady[-1].descriptors,
        "p99_ms": round(1000 * float(np.percentile(np.array(summary.latencies), 99)), 2),
        "faults": faults,
    }


def measure_resources() -> Resources:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads, descriptors = (
        len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("task", "fd")
    )
    return Resources(pages * os.sysconf("SC_PAGE_SIZE"), threads, descriptors)
