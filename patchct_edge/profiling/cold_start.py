"""The cold start: a new process that opens a bundle and tags photos; its time and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import EngineRecord

MAX_PHOTOS = 64  # tagged while the peak memory is measured
TIMEOUT_S = 120.0
PROCESS_STATUS = Path("/proc/self/status")  # Linux only


@dataclass(frozen=True)
class ColdStart:
    """Seconds from the start of a process to the tags of its first photo, and its peak memory.

    What the engine's library cached in an earlier run was there.

    Args:
        first_tags_s: the sum of the three below.
        import_s: Python and its imports.
        load_s: opening the bundle and the engine.
        first_inference_s: the first photo, from file to tags.
        peak_mb: most main memory (MiB) that the process used while it tagged `MAX_PHOTOS` photos.
    """

    first_tags_s: float
    import_s: float
    load_s: float
    first_inference_s: float
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_cold_start(
    bundle: Path, record: EngineRecord, photos: Sequence[Path], *, trust: bool = False
) -> ColdStart:
    """Start a process that tags photos with an engine.

    Raises:
        EngineError: the process failed or took too long.
    """
    arguments = [str(bundle), record.engine, record.precision, "trust" if trust else "distrust"]
    names = [str(path) for path in photos[:MAX_PHOTOS]]
    start = time.time()
    try:
        process = subprocess.run(
            [sys.executable, "-m", __name__, *arguments, *names],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        last_line = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise EngineError(f"a new process could not tag with {record}", got=last_line) from None
    times = json.loads(process.stdout)
    return ColdStart(
        first_tags_s=times["tagged"] - start,
        import_s=times["imported"] - start,
        load_s=times["loaded"] - times["imported"],
        first_inference_s=times["tagged"] - times["loaded"],
        peak_mb=times["peak_mb"],
    )


def main(arguments: Sequence[str]) -> None:
    """Tag photos; print the time at the end of each step, and the peak memory, as JSON."""
    from patchct_edge.runtime.tagging.tagger import Tagger

    times = {"imported": time.time()}
    bundle, engine, precision, trust, *photos = arguments
    with Tagger.open(
        bundle, engine=engine, precision=precision, latency=True, trust=trust == "trust"
    ) as tagger:
        times["loaded"] = time.time()
        tagger.tag(photos[0])
        times["tagged"] = time.time()
        for _ in tagger.tag_files(map(Path, photos)):
            pass
    print(json.dumps({**times, "peak_mb": measure_peak_mb()}))


def measure_peak_mb() -> float:
    """Return the most main memory that this process has used, in MiB.

    On macOS, which keeps no such figure for psutil, the memory that it uses now.
    """
    if PROCESS_STATUS.exists():
        # Not resource's ru_maxrss: on Linux it starts at what the parent process used.
        return int(PROCESS_STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import psutil

    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss)) / 2**20


if __name__ == "__main__":
    main(sys.argv[1:])
