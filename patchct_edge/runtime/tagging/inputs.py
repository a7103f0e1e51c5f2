"""What the user names to the images that are meant: files, folders, patterns, a list on stdin."""

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
CHUNK = 65536  # bytes of a list taken at once


def find_images(inputs: Iterable[str], stdin: IO[bytes] | None = None) -> Iterator[Path]:
    """Yield the images that the inputs mean, in their order, while they are still being searched.

    Args:
        inputs: each one of
            a file, yielded whatever its suffix, even where it does not exist;
            a folder, searched for the suffixes of images in it and all folders below, in the order
            of their names; what is hidden is left out, a folder that cannot be read is yielded;
            a pattern with `*`, `?`, `[...]` or `**` (any depth, links not followed), matched
            against files;
            `-`, a list of paths on `stdin`, one a line (in LF or CR LF), or ended by NULs where
            there is one.
        stdin: the stream behind `-`, by default standard input.

    Raises:
        UserError: nothing was found in all inputs.
    """
    inputs = list(inputs)
    found = False
    for name in inputs:
        for path in _expand(name, stdin):
            found = True
            yield Path(path)
    if not found:
        if inputs == [STDIN]:
            raise UserError("the list on stdin is empty", expected="paths, one a line")
        raise UserError(
            "no image was found",
            got=", ".join(map(repr, inputs)),
            expected=f"images ({' '.join(sorted(IMAGE_SUFFIXES))}), folders of them, or patterns",
            fix="check the spelling; name a file itself to have it read whatever its suffix",
        )


def _expand(name: str, stdin: IO[bytes] | None) -> Iterator[str]:
    if name == STDIN:
        return _listed(sys.stdin.buffer if stdin is None else stdin)
    if _is_folder(_status(name)):
        return _walk(name)
    if WILDCARDS.intersection(name) and not os.path.lexists(name):
        return (path for path in sorted(_matches(name)) if _may_be_read(_status(path)))
    return iter([name])


def _matches(pattern: str) -> Iterator[str]:
    # `**` is a whole part or, as in a shell, no more than `*`.
    parts = tuple(re.sub(r"\*\*+", "*", p) if p != "**" else p for p in Path(pattern).parts)
    if parts[-1] == "**":
        parts += ("*",)
    first = parts.index("**") if "**" in parts else len(parts)
    # Path.glob takes no absolute pattern, and would match what is hidden; glob follows links below
    # `**`, through cycles as well.
    for start in glob.iglob(os.path.join(*parts[:first])) if first else ["."]:  # noqa: PTH207
        if first == len(parts):
            yield start
            continue
        with suppress(OSError):  # a folder that goes away meanwhile, a part that is too long
            for path in Path(start).glob("/".join(parts[first:])):
                below = set(path.relative_to(start).parts) - set(parts)
                if not any(part.startswith(".") for part in below):
                    yield str(path)


def _listed(stream: IO[bytes]) -> Iterator[str]:
    # What has arrived, without waiting for a full chunk; a raw stream reads like that by itself.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    separator, rest = b"\n", b""
    while chunk := read(CHUNK):
        rest += chunk
        if b"\0" in rest:
            separator = b"\0"
        *names, rest = rest.split(separator)
        yield from (_listed_name(name, separator) for name in names if name.strip())
    if rest.strip():
        yield _listed_name(rest, separator)


def _listed_name(name: bytes, separator: bytes) -> str:
    # Windows ends its lines in CR LF; a name with a CR of its own can be listed with NULs.
    return os.fsdecode(name.removesuffix(b"\r") if separator == b"\n" else name)


def _walk(folder: str) -> Iterator[str]:
    """Yield the images under a folder, each folder listed when its turn comes, and only once.

    Once whichever links lead to it: that ends cycles, and links among folders multiply nothing.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]  # the next one last
    while waiting:
        path = waiting.pop()
        status = _status(path)
        if status is not None and _is_folder(status):
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            try:
                names = sorted((entry.name for entry in os.scandir(path)), reverse=True)
            except OSError:
                yield path  # whoever opens it reports why it cannot be read
                continue
            waiting += [os.path.join(path, name) for name in names if not name.startswith(".")]
        elif Path(path).suffix.lower() in IMAGE_SUFFIXES and _may_be_read(status):
            yield path


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  (an empty Path is the current folder)
    except (OSError, ValueError):
        return None


def _is_folder(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISDIR(status.st_mode)


def _may_be_read(status: os.stat_result | None) -> bool:
    """Whether a path is a file, or a broken link to one: reading a pipe or a device may hang."""
    return status is None or stat.S_ISREG(status.st_mode)
