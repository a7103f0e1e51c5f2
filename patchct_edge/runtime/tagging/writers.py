"""Rows of tags and where they are written: JSONL or CSV, whole lines only."""

from __future__ import annotations

import csv
import io
import json
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, Literal

from patchct_edge.bundle import Tag
from patchct_edge.closeable import Closeable
from patchct_edge.errors import UserError

DIGITS = 4  # of a score; more would be noise


@dataclass(frozen=True)
class TagRow:
    """What became of one image: its tags, or the (type, message) of the error."""

    path: str
    tags: list[Tag] | None = None
    error: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if (self.tags is None) == (self.error is None):
            raise ValueError("a row has either tags or an error")

    def to_json(self) -> dict[str, Any]:
        """Return `{"path": ..., "tags": [{"label": ..., "score": ...}]}`, or path and error."""
        if self.error is not None:
            kind, message = self.error
            return {"path": self.path, "error": {"type": kind, "message": message}}
        return {"path": self.path, "tags": [{"label": n, "score": s} for n, s in self.rounded()]}

    def rounded(self) -> list[tuple[str, float]]:
        """Return (label, score) of every tag, the score as it is written."""
        return [(tag.label, round(tag.score, DIGITS)) for tag in self.tags or ()]


class RowWriter(Closeable):
    """Where rows are written; when `write` returns, the row has left this process.

    Args:
        target: takes the rows.
        head: what comes before them, whole lines.
        path: the file that `target` is, where it belongs to the sink: closed with it, and cut to
            whole rows when it cannot be written further.
    """

    def __init__(self, target: BinaryIO, head: bytes, path: Path | None) -> None:
        self._target, self._path = target, path
        self._rows = self._size = 0  # written whole
        self._put(head)

    @abstractmethod
    def encode(self, row: TagRow) -> bytes:
        """Return the whole lines of a row."""

    def write(self, row: TagRow) -> None:
        """Write one row.

        Raises:
            UserError: the target cannot be written, such as a disk that is full.
            BrokenPipeError: nobody reads the target any more.
        """
        self._put(self.encode(row))
        self._rows += 1

    def close(self) -> None:
        """Close a file; calling it twice is harmless.

        Raises:
            UserError: the file system reports only now that it could not write.
        """
        if self._path is not None:
            with self._failures():
                self._target.close()

    def _put(self, lines: bytes) -> None:
        rest = memoryview(lines)
        with self._failures():
            while rest:  # an unbuffered file may take a part
                rest = rest[self._target.write(rest) :]
            self._target.flush()
        self._size += len(lines)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._path is not None:
                with suppress(OSError, ValueError):  # no file that can be cut, or closed by now
                    self._target.truncate(self._size)
                with suppress(OSError):
                    self._target.close()
            raise UserError(
                f"cannot write {self._path or 'standard output'}: {error.strerror or error}",
                got=f"{self._rows} rows written whole",
                fix="make room, or write to another disk with -o",
            ) from None


class JSONLWriter(RowWriter):
    """One JSON object a line, in UTF-8; `header` is the first, where there is one.

    What is not UTF-8 in a path is a surrogate escape (`"\\udcff"`), which `os.fsencode` turns back.
    """

    def __init__(
        self, target: BinaryIO, header: dict[str, Any] | None = None, *, path: Path | None = None
    ) -> None:
        super().__init__(target, b"" if header is None else encode_json_line(header), path)

    def encode(self, row: TagRow) -> bytes:
        return encode_json_line(row.to_json())


class CSVWriter(RowWriter):
    """The columns path, tags (`a|b`), scores (`0.97|0.51`), error; line ends as in RFC 4180.

    With `every_score` the columns are path, one of scores for each label, error. A path that is not
    UTF-8 keeps its bytes: read the file with `errors="surrogateescape"`.
    """

    def __init__(
        self,
        target: BinaryIO,
        labels: Sequence[str] = (),
        every_score: bool = False,
        *,
        path: Path | None = None,
    ) -> None:
        self._labels = labels if every_score else None
        columns = ("tags", "scores") if self._labels is None else self._labels
        super().__init__(target, _csv_line(["path", *columns, "error"]), path)

    def encode(self, row: TagRow) -> bytes:
        scores = dict(row.rounded())
        if self._labels is None:
            cells = ["|".join(scores), "|".join(map(str, scores.values()))]
        else:
            cells = [str(scores.get(label, "")) for label in self._labels]
        return _csv_line([row.path, *cells, ": ".join(row.error or ())])


def open_writer(
    output: Path | None,
    format: Literal["jsonl", "csv"],
    *,
    header: dict[str, Any] | None = None,
    labels: Sequence[str] = (),
    every_score: bool = False,
) -> RowWriter:
    """Return the sink that writes a file, or standard output where `output` is None.

    Args:
        output: written from its start; what it held is lost.
        header: the first line of JSONL.
        labels: the columns of CSV with `every_score`.

    Raises:
        UserError: the file cannot be written, or standard output is closed.
    """
    target = _standard_output() if output is None else _create(output)
    if format == "csv":
        return CSVWriter(target, labels, every_score, path=output)
    return JSONLWriter(target, header, path=output)


def _standard_output() -> BinaryIO:
    if sys.stdout is None:  # as of a process that was started with `>&-`
        raise UserError("cannot write standard output", got="it is closed", fix="-o tags.jsonl")
    return sys.stdout.buffer


def _create(output: Path) -> BinaryIO:
    try:
        # Unbuffered: a process that is killed leaves whole rows.
        return open(output, "wb", buffering=0)
    except FileNotFoundError:
        folder = str(output.parent)
        raise UserError(
            f"cannot write {output}", got=f"no folder {folder}", fix=f"mkdir -p {quote(folder)}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write {output}", got=error.strerror) from None


def encode_json_line(fields: dict[str, Any]) -> bytes:
    """Return one JSON object as a line of UTF-8."""
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"
    # UTF-8 refuses nothing but surrogates, and this replacement is their JSON escape.
    return text.encode("utf-8", "backslashreplace")


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")
