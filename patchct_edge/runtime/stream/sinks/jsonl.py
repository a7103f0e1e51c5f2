"""Rows and events as JSON lines: on standard output, or in files that rotate."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.settings import JSONLSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.trouble import Trouble
from patchct_edge.runtime.tagging.writers import encode_json_line

MEGABYTE = 1_000_000
WRITING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class JSONLSink(Sink):
    """One JSON object a line; a line has left this process when `deliver` returns.

    A file is continued; at `max_mb` it becomes `NAME.1`, that one `NAME.2`, up to `keep`. A line
    that the disk had no room for is cut off again, and the next one is tried.

    Raises:
        UserError: the file cannot be written, or standard output is closed.
    """

    patient = True

    def __init__(self, given: JSONLSettings) -> None:
        super().__init__()
        self._events_only = given.events_only
        self._path = None if given.path is None else Path(given.path)
        self._limit, self._keep = round(given.max_mb * MEGABYTE), given.keep_files
        self.name = f"jsonl {given.path or 'stdout'}"
        self._rotation = Trouble(lambda text: self.say(text))
        torn = self._path is not None and _is_torn(self._path)
        self._lead = b"\n" if torn else b""  # before the first line
        self._file = self._opened()

    def wants(self, message: Message) -> bool:
        return not (self._events_only and isinstance(message, FrameRow))

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        line = encode_json_line(message.to_json())
        if self._path is not None and self._is_full(len(line)):
            try:
                self._rotate(self._path)
            except OSError as error:
                self._rotation.failed(f"{self.name} is not rotated and grows: {error}")
        if self._file >= 0:
            _write(self._file, self._lead + line)
            self._lead = b""
        else:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    def close(self) -> int:
        if self._path is not None and self._file >= 0:
            os.close(self._file)
            self._file = -1
        return 0

    def _opened(self) -> int:
        if self._path is None:
            if sys.stdout is None:
                raise UserError("cannot write standard output", got="it is closed", fix="-o FILE")
            with suppress(OSError):
                return sys.stdout.fileno()
            return -1  # as in a notebook
        try:
            return os.open(self._path, WRITING, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {self._path}", got=error.strerror) from None

    def _is_full(self, more: int) -> bool:
        return 0 < os.fstat(self._file).st_size > self._limit - more

    def _rotate(self, path: Path) -> None:
        full = path.with_name(f"{path.name}.full")
        os.replace(path, full)  # the first: where this fails the older ones stay what they are
        for n in range(self._keep, 1, -1):
            newer = _numbered(path, n - 1)
            if newer.exists():
                os.replace(newer, _numbered(path, n))
        if self._keep == 0:
            full.unlink()
        else:
            os.replace(full, _numbered(path, 1))
        before, self._file = self._file, os.open(path, WRITING, 0o644)
        os.close(before)


def _numbered(path: Path, n: int) -> Path:
    return path.with_name(f"{path.name}.{n}")


def _is_torn(path: Path) -> bool:
    """Whether the last line of a file has no end, as after a power cut."""
    with suppress(OSError):  # none there, an empty one, or one that may not be read
        if path.is_file():
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read() != b"\n"
    return False


def _write(file: int, line: bytes) -> None:
    """Write all of a line; where that fails, take back what the file already has of it."""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError:
        if len(rest) < len(line):
            with suppress(OSError):  # a pipe
                os.ftruncate(file, os.fstat(file).st_size - (len(line) - len(rest)))
                os.lseek(file, 0, os.SEEK_END)
        raise
