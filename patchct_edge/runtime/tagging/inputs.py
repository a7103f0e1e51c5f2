"""Find the images that a user names: files, folders, patterns, and a list on stdin."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from patchct_edge.errors import UserError
from patchct_edge.images import IMAGE_SUFFIXES

STDIN = "-"
WILDCARDS = frozenset("*?[")
STDIN_CHUNK_BYTES = 65536


def find_images(inputs: Iterable[str], stdin: IO[bytes] | None = None) -> Iterator[Path]:
    """Yield the images that the inputs name, in their order, while the search goes on.

    Args:
        inputs: each one is
            a file: yielded whatever its suffix, even if it does not exist;
            a folder: searched with all folders below for files with the suffix of an image, sorted
            by name; hidden files and folders are skipped, an unreadable folder is yielded;
            a pattern with `*`, `?`, `[...]` or `**` (any depth, links not followed): matched
            against files;
            `-`: a list of paths on `stdin`, one a line (LF or CR LF), or ended by NUL bytes if it
            contains any.
        stdin: the stream behind `-`, standard input by default.

    Raises:
        UserError: the inputs name no image at all.
    """
    inputs = list(inputs)
    any_image = False
    for text in inputs:
        for path in _expand(text, stdin):
            any_image = True
            yield Path(path)
    if not any_image:
        if inputs == [STDIN]:
            raise UserError("the list on stdin is empty", expected="paths, one per line")
        raise UserError(
            "no images found",
            got=", ".join(map(repr, inputs)),
            expected=f"images ({' '.join(sorted(IMAGE_SUFFIXES))}), folders of them, or patterns",
            fix="check the spelling; to read a file with another suffix, name the file itself",
        )


def _expand(text: str, stdin: IO[bytes] | None) -> Iterator[str]:
    if text == STDIN:
        return _read_list(_standard_input() if stdin is None else stdin)
    if _is_folder(_stat(text)):
        return _walk(text)
    if WILDCARDS.intersection(text) and not os.path.lexists(text):
        return (path for path in sorted(_match_pattern(text)) if _is_safe_to_read(_stat(path)))
    return iter([text])


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:  # the process was started with `<&-`
        raise UserError(
            "cannot read the list on standard input",
            got="it is closed",
            expected="paths, one a line",
        )
    return sys.stdin.buffer


def _match_pattern(pattern: str) -> Iterator[str]:
    # `**` is a whole part of a path; elsewhere it means no more than `*`, as in a shell.
    parts = tuple(re.sub(r"\*\*+", "*", p) if p != "**" else p for p in Path(pattern).parts)
    if parts[-1] == "**":
        parts += ("*",)
    split = parts.index("**") if "**" in parts else len(parts)
    # Path.glob takes no absolute pattern and matches hidden files. The glob module follows links
    # below `**`, even through cycles.
    for start in glob.iglob(os.path.join(*parts[:split])) if split else ["."]:  # noqa: PTH207
        if split == len(parts):
            yield start
            continue
        with suppress(OSError):  # the folder was removed meanwhile, or a part is too long
            for path in Path(start).glob("/".join(parts[split:])):
                unnamed_parts = set(path.relative_to(start).parts) - set(parts)
                if not any(part.startswith(".") for part in unnamed_parts):
                    yield str(path)


def _read_list(stream: IO[bytes]) -> Iterator[str]:
    # read1 returns what has arrived without waiting for a full chunk; a raw stream's read does too.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    separator, rest = b"\n", b""
    while chunk := read(STDIN_CHUNK_BYTES):
        rest += chunk
        if b"\0" in rest:
            separator = b"\0"
        *names, rest = rest.split(separator)
        yield from (_decode_name(name, separator) for name in names if name.strip())
    if rest.strip():
        yield _decode_name(rest, separator)


def _decode_name(name: bytes, separator: bytes) -> str:
    # Windows ends lines with CR LF. A name that itself ends with CR can be listed with NULs.
    return os.fsdecode(name.removesuffix(b"\r") if separator == b"\n" else name)


def _walk(folder: str) -> Iterator[str]:
    """Yield the images under a folder; list each folder only when its turn comes, and only once.

    Once, whichever links lead to it: so cycles end, and links between folders multiply nothing.
    """
    visited: set[tuple[int, int]] = set()
    pending = [folder]  # the next path is the last
    while pending:
        path = pending.pop()
        status = _stat(path)
        if status is not None and _is_folder(status):
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            try:
                names = sorted((entry.name for entry in os.scandir(path)), reverse=True)
            except OSError:
                yield path  # whoever opens it reports why it cannot be read
                continue
            pending += [os.path.join(path, name) for name in names if not name.startswith(".")]
        elif Path(path).suffix.lower() in IMAGE_SUFFIXES and _is_safe_to_read(status):
            yield path


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  (an empty Path is the current folder)
    except (OSError, ValueError):
        return None


def _is_folder(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISDIR(status.st_mode)


def _is_safe_to_read(status: os.stat_result | None) -> bool:
    """Return whether a path is a file or a broken link; reading a pipe or a device may hang."""
    return status is None or stat.S_ISREG(status.st_mode)
