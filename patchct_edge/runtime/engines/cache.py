"""Cache what OpenVINO compiled for this machine, and check it before the next start uses it.

    $XDG_CACHE_HOME/patchct-edge/openvino/GRAPH/*.blob, sha256.json

Each graph has one folder, named by its hash. OpenVINO loads a damaged file without an error and
computes wrong scores with it, so a file that does not match its recorded hash is deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from patchct_edge.files import cache_folder, sha256, write_atomically

MAX_GRAPHS = 8  # the most recently used ones stay
HASHES_NAME = "sha256.json"


@contextmanager
def compile_cache(graph: Path) -> Iterator[Path | None]:
    """Yield the folder for what is compiled from a graph; record its file hashes at the end.

    Every file in the folder has been checked. None if there can be no folder: a service often has
    no home, or a read-only one.
    """
    with ExitStack() as stack:
        folder = _open_folder(graph, stack)
        yield folder
        if folder is not None:
            with suppress(OSError):  # without a recorded hash, the next start compiles again
                _record_hashes(folder)


def _open_folder(graph: Path, stack: ExitStack) -> Path | None:
    from filelock import FileLock  # 20 ms

    try:
        folder = cache_folder() / "openvino" / sha256(graph)[:16]
        folder.mkdir(parents=True, exist_ok=True)
        folder.touch()  # the time of the last use
        # Other processes must wait: to them, the file that this one is writing looks damaged.
        stack.enter_context(FileLock(folder / "lock"))
        _delete_old_folders(folder.parent)
        hashes = _read_hashes(folder)
        for blob in folder.glob("*.blob"):
            if hashes.get(blob.name) != sha256(blob):
                blob.unlink()
    except (OSError, RuntimeError):  # RuntimeError: no home, or a file system without locks
        return None
    return folder


def _read_hashes(folder: Path) -> dict[str, str]:
    try:
        hashes = json.loads((folder / HASHES_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return hashes if isinstance(hashes, dict) else {}


def _record_hashes(folder: Path) -> None:
    hashes = {blob.name: sha256(blob) for blob in folder.glob("*.blob")}
    if hashes != _read_hashes(folder):
        write_atomically(folder / HASHES_NAME, json.dumps(hashes).encode())


def _delete_old_folders(cache: Path) -> None:
    newest_first = sorted(cache.iterdir(), key=lambda path: -path.stat().st_mtime)
    for folder in newest_first[MAX_GRAPHS:]:
        shutil.rmtree(folder, ignore_errors=True)
