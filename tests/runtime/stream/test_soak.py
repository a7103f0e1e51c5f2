"""Does a stream that runs for long hold what it needs? `make soak` takes 100,000 frames.

Tags `test://pattern` with the fake engine, rows to files that rotate; memory, threads and file
descriptors are looked at ten times a second, and every frame is accounted for.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.runtime.stream.loop import Control
from patchct_edge.runtime.stream.run import run_stream
from patchct_edge.runtime.stream.settings import CameraSettings, JSONLSettings, StreamSettings

FRAMES = int(os.environ.get("PATCHCT_SOAK_FRAMES", "4000"))
RATE = 2000  # frames a second that the pattern delivers
WARM = 0.1  # share of the run after which memory is looked at
GROWTH = 0.02  # of memory, that is allowed


@pytest.mark.timeout(3600)
def test_nothing_grows_and_no_frame_is_lost(tiny_bundle, tmp_path, capsys):
    found = soak(tiny_bundle, tmp_path, FRAMES)
    with capsys.disabled():
        print(json.dumps(found), end=" ")
    assert found["tagged"] == FRAMES
    assert found["faults"] == []


def soak(model: Path, folder: Path, frames: int) -> dict[str, object]:
    """Tag `frames` frames; return what was seen, with `faults` in words."""
    given = StreamSettings(
        model=str(model),
        cameras=(CameraSettings(source=f"test://pattern?fps={RATE}&size=64x48", name="pattern"),),
        sinks=(JSONLSettings(path=str(folder / "rows.jsonl"), max_mb=1, keep_files=2),),
        engine="fake",
        smoothing=0.1,
        min_duration=0.1,
    )
    samples: list[tuple[int, int, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            samples.append(_held())

    threading.Thread(target=watch, daemon=True).start()
    began = time.monotonic()
    summary = run_stream(given, Control(), again=lambda: given, note=print, frames=frames)
    seconds = time.monotonic() - began
    over.set()
    counts = summary.cameras["pattern"]
    steady = np.array(samples[int(WARM * len(samples)) : -2])  # the last ones see the end
    tenth = max(1, len(steady) // 10)
    first, last = np.median(steady[:tenth, 0]), np.median(steady[-tenth:, 0])
    growth = float(last / first - 1)
    faults = [f"memory grew by {100 * growth:.1f} %"] if growth > GROWTH else []
    for name, column in (("threads", 1), ("file descriptors", 2)):
        low, high = int(steady[:, column].min()), int(steady[:, column].max())
        if high - low > 1:  # one: a file that is about to rotate, or /proc itself
            faults.append(f"{name}: {low} to {high}")
    if counts.captured != counts.tagged + counts.dropped:
        faults.append(f"frames are unaccounted: {counts}")
    return {
        "seconds": round(seconds, 1),
        **counts.to_json(),
        "memory_mb": round(last / 1e6, 1),
        "growth_percent": round(100 * growth, 2),
        "threads": int(steady[-1, 1]),
        "descriptors": int(steady[-1, 2]),
        "p99_ms": _p99(summary.latencies),
        "faults": faults,
    }


def _held() -> tuple[int, int, int]:
    """Return resident bytes, threads and open file descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks, files = (len(list(Path(f"/proc/self/{each}").iterdir())) for each in ("task", "fd"))
    return pages * os.sysconf("SC_PAGE_SIZE"), tasks, files


def _p99(latencies: object) -> float:
    return round(1000 * float(np.percentile(np.array(latencies), 99)), 2)
