"""Rows and events as JSON lines, on standard output or in a file that is rotated."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError
from patchct_edge.logs import RecurringFailureFilter
from patchct_edge.runtime.stream.events import FrameRow, Message
from patchct_edge.runtime.stream.settings import JSONLSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.tagging.writers import encode_json_line

BYTES_PER_MB = 1_000_000
# O_CLOEXEC keeps the file from child processes; Windows has no such flag.
OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)

logger = logging.getLogger(__name__)
logger.addFilter(RecurringFailureFilter())


class JSONLSink(Sink):
    """One JSON object a line; a line has left this process when `deliver` returns.

    New lines are appended to a file. At `max_mb` megabytes it becomes `NAME.1`, `NAME.1` becomes
    `NAME.2`, and so on up to `keep_files`. If rotation fails, the file keeps growing and a warning
    is logged. A line that does not fit on the disk is removed again; later lines are still tried.

    Raises:
        UserError: the file cannot be written, or standard output is closed.
    """

    backpressure = True

    def __init__(self, settings: JSONLSettings) -> None:
        super().__init__()
        self._events_only = settings.events_only
        self._path = None if settings.path is None else Path(settings.path)
        self._max_bytes = round(settings.max_mb * BYTES_PER_MB)
        self._keep_files = settings.keep_files
        self.name = f"jsonl {settings.path or 'stdout'}"
        self._rotation_key = object()
        incomplete = self._path is not None and _has_incomplete_last_line(self._path)
        self._prefix = b"\n" if incomplete else b""  # of the first line
        self._file = self._open_file()

    def accepts(self, message: Message) -> bool:
        return not (self._events_only and isinstance(message, FrameRow))

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        line = encode_json_line(message.to_json())
        if self._path is not None and self._needs_rotation(len(line)):
            self._try_rotation(self._path)
        if self._file >= 0:
            _write_line(self._file, self._prefix + line)
            self._prefix = b""
        else:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    def close(self) -> int:
        if self._path is not None and self._file >= 0:
            os.close(self._file)
            self._file = -1
        return 0

    def _open_file(self) -> int:
        """Return a file descriptor, or -1 if standard output has none."""
        if self._path is None:
            if sys.stdout is None:
                raise UserError(
                    "cannot write to standard output", got="it is closed", fix="use -o FILE"
                )
            with suppress(OSError):
                return sys.stdout.fileno()
            return -1  # such as in a notebook
        try:
            return os.open(self._path, OPEN_FLAGS, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {self._path}", got=error.strerror) from None

    def _needs_rotation(self, line_bytes: int) -> bool:
        return 0 < os.fstat(self._file).st_size > self._max_bytes - line_bytes

    def _try_rotation(self, path: Path) -> None:
        try:
            self._rotate(path)
        except OSError as error:
            logger.warning(
                "%s: cannot be rotated and keeps growing: %s",
                self.name,
                self.describe(error),
                extra={"failure": self._rotation_key},
            )
        else:
            logger.warning("%s: rotated again", self.name, extra={"recovery": self._rotation_key})

    def _rotate(self, path: Path) -> None:
        full = path.with_name(f"{path.name}.full")
        os.replace(path, full)  # first: if this fails, the older files stay as they are
        for number in range(self._keep_files, 1, -1):
            newer = _numbered_path(path, number - 1)
            if newer.exists():
                os.replace(newer, _numbered_path(path, number))
        if self._keep_files == 0:
            full.unlink()
        else:
            os.replace(full, _numbered_path(path, 1))
        full_file, self._file = self._file, os.open(path, OPEN_FLAGS, 0o644)
        os.close(full_file)


def _numbered_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _has_incomplete_last_line(path: Path) -> bool:
    """Whether the last line of a file has no line end, such as after a power cut."""
    with suppress(OSError):  # missing, empty or unreadable
        if path.is_file():
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read() != b"\n"
    return False


def _write_line(file: int, line: bytes) -> None:
    """Write all of a line; if that fails, remove the part that was written."""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError:
        if len(rest) < len(line):
            with suppress(OSError):  # a pipe cannot be truncated
                os.ftruncate(file, os.fstat(file).st_size - (len(line) - len(rest)))
                os.lseek(file, 0, os.SEEK_END)
        raise
