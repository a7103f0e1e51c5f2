"""What was compiled for this machine, kept for the next start and checked before it is used.

    $XDG_CACHE_HOME/patchct-edge/openvino/GRAPH/*.blob, sha256.json

One folder a graph, named by its hash. The library loads a damaged file without a word, and scores
with it: so a file without its recorded hash is thrown away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from patchct_edge.files import cache_folder, sha256, write_atomically

GRAPHS = 8  # kept, those used last
SEAL = "sha256.json"


@contextmanager
def compile_cache(model: Path) -> Iterator[Path | None]:
    """Give the folder for what is compiled of a graph, all in it checked; seal it afterwards.

    None where there can be no such folder: a service often has no home, or one that is read-only.
    """
    with ExitStack() as stack:
        folder = _opened(model, stack)
        yield folder
        if folder is not None:
            with suppress(OSError):  # unsealed it is compiled anew
                _seal(folder)


def _opened(model: Path, stack: ExitStack) -> Path | None:
    from filelock import FileLock  # 20 ms

    try:
        folder = cache_folder() / "openvino" / sha256(model)[:16]
        folder.mkdir(parents=True, exist_ok=True)
        folder.touch()
        # Other processes wait: to them, what this one is compiling would look damaged.
        stack.enter_context(FileLock(folder / "lock"))
        _forget_old(folder.parent)
        sealed = _sealed(folder)
        for blob in folder.glob("*.blob"):
            if sealed.get(blob.name) != sha256(blob):
                blob.unlink()
    except (OSError, RuntimeError):  # RuntimeError: no home, or a file system without locks
        return None
    return folder


def _sealed(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / SEAL).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _seal(folder: Path) -> None:
    hashes = {blob.name: sha256(blob) for blob in folder.glob("*.blob")}
    if hashes != _sealed(folder):
        write_atomically(folder / SEAL, json.dumps(hashes).encode())


def _forget_old(cache: Path) -> None:
    newest_first = sorted(cache.iterdir(), key=lambda path: -path.stat().st_mtime)
    for old in newest_first[GRAPHS:]:
        shutil.rmtree(old, ignore_errors=True)
