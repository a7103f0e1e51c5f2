"""A process of its own that opens a bundle and tags photos: how long it takes, what it holds."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import EngineRecord

PHOTOS = 64  # that are tagged for the peak of memory
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class ColdStart:
    """Seconds from the start of a process to the tags of its first photo, and where they went.

    `starting` is Python and its imports. `peak_mb` is the most main memory (MiB) that the process
    held while it tagged 64 photos. What the engine's library caches from an earlier run was there.
    """

    first_tags: float
    starting: float
    opening: float
    first_inference: float
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_cold_start(
    bundle: Path, record: EngineRecord, photos: Sequence[Path], *, trust: bool = False
) -> ColdStart:
    """Start a process that tags photos with an engine.

    Raises:
        EngineError: it did not end well.
    """
    words = [str(bundle), record.engine, record.precision, "trust" if trust else "distrust"]
    names = [str(path) for path in photos[:PHOTOS]]
    began = time.time()
    try:
        said = subprocess.run(
            [sys.executable, "-m", __name__, *words, *names],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise EngineError(f"a new process could not tag with {record}", got=last) from None
    found = json.loads(said.stdout)
    return ColdStart(
        first_tags=found["tagged"] - began,
        starting=found["started"] - began,
        opening=found["opened"] - found["started"],
        first_inference=found["tagged"] - found["opened"],
        peak_mb=found["peak_mb"],
    )


def main(words: Sequence[str]) -> None:
    """Tag photos and print when each step was done, as JSON."""
    from patchct_edge.runtime.tagging.tagger import Tagger

    times = {"started": time.time()}
    bundle, engine, precision, trust, *photos = words
    with Tagger.open(
        bundle, engine=engine, precision=precision, latency=True, trust=trust == "trust"
    ) as tagger:
        times["opened"] = time.time()
        tagger.tag(photos[0])
        times["tagged"] = time.time()
        for _ in tagger.tag_files(map(Path, photos)):
            pass
    print(json.dumps({**times, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    """Return the most memory that this process held."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:  # not ru_maxrss: on Linux that begins at what the parent held
        kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    return kilobytes / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
