"""Files that are written whole or not at all, their hashes, and the folders of this package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APP_NAME = "patchct-edge"
CHUNK_BYTES = 1 << 20


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write; if the block succeeds, that file replaces `path`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file aside and rename it, so that the old content stays until the new is whole."""
    with write_aside(path) as aside:
        aside.write_bytes(data)


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return this package's cache folder, which may not exist yet.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_cache_path

    return _check_home(user_cache_path(APP_NAME, appauthor=False))


def state_folder() -> Path:
    """Return the folder of what this package remembers between runs; it may not exist yet.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_state_path

    return _check_home(user_state_path(APP_NAME, appauthor=False))


def _check_home(folder: Path) -> Path:
    """Refuse a folder below "~", which some versions of platformdirs return without a home."""
    if folder.parts[0].startswith("~"):
        raise RuntimeError(f"the user has no home folder: {folder}")
    return folder
