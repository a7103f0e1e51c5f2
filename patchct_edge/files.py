"""Files that are whole or not there, and the folders that a user's files belong in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOMES = {
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "state": ("XDG_STATE_HOME", ".local/state"),
}


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write; that file takes its place when the block ends well."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: what stood there is lost only when the new one is whole."""
    with write_aside(path) as aside:
        aside.write_bytes(data)


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def user_folder(kind: str) -> Path:
    """Return this package's folder of a kind of `HOMES`; it may not be there yet.

    Raises:
        RuntimeError: no home is known.
    """
    variable, below_home = HOMES[kind]
    return Path(os.environ.get(variable) or Path.home() / below_home) / "patchct-edge"
