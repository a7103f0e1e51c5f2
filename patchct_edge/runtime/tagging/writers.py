"""Write rows of tags as JSONL or CSV, whole rows only."""

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

SCORE_DIGITS = 4  # decimals; more would be noise


@dataclass(frozen=True)
class TagRow:
    """The result for one image: its tags, or the (type, message) of an error."""

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
        return {
            "path": self.path,
            "tags": [{"label": label, "score": score} for label, score in self.round_scores()],
        }

    def round_scores(self) -> list[tuple[str, float]]:
        """Return the (label, score) of every tag, with the score rounded as it is written."""
        return [(tag.label, round(tag.score, SCORE_DIGITS)) for tag in self.tags or ()]


class RowWriter(Closeable):
    """Write rows to a stream; when `write` returns, the row has left this process.

    Args:
        target: the stream.
        head: whole lines to write before the rows.
        path: of the file behind `target`, if this writer owns it: it then closes the file, and cuts
            it to whole rows after a failed write.
    """

    def __init__(self, target: BinaryIO, head: bytes, path: Path | None) -> None:
        self._target, self._path = target, path
        self._complete_rows = self._complete_bytes = 0
        self._write_lines(head)

    @abstractmethod
    def encode(self, row: TagRow) -> bytes:
        """Encode a row as whole lines."""

    def write(self, row: TagRow) -> None:
        """Write one row.

        Raises:
            UserError: the row cannot be written; the disk may be full.
            BrokenPipeError: the reader of the target is gone.
        """
        self._write_lines(self.encode(row))
        self._complete_rows += 1

    def close(self) -> None:
        """Close the file if this writer owns it; calling it twice is harmless.

        Raises:
            UserError: the file system reports a failed write only now.
        """
        if self._path is not None:
            with self._convert_errors():
                self._target.close()

    def _write_lines(self, lines: bytes) -> None:
        rest = memoryview(lines)
        with self._convert_errors():
            while rest:  # an unbuffered file may take only a part
                rest = rest[self._target.write(rest) :]
            self._target.flush()
        self._complete_bytes += len(lines)

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        """Turn an OSError into a UserError, after cutting the file to whole rows."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._path is not None:
                with suppress(OSError, ValueError):  # not a regular file, or already closed
                    self._target.truncate(self._complete_bytes)
                with suppress(OSError):
                    self._target.close()
            raise UserError(
                f"cannot write {self._path or 'standard output'}: {error.strerror or error}",
                got=f"{self._complete_rows} complete rows written",
                fix="free some space, or write to another disk with -o",
            ) from None


class JSONLWriter(RowWriter):
    """Write one JSON object a line in UTF-8; the first is `header`, if there is one.

    A byte of a path that is not UTF-8 is written as a surrogate escape (`"\\udcff"`), which
    `os.fsencode` turns back into the byte.
    """

    def __init__(
        self, target: BinaryIO, header: dict[str, Any] | None = None, *, path: Path | None = None
    ) -> None:
        super().__init__(target, b"" if header is None else encode_json_line(header), path)

    def encode(self, row: TagRow) -> bytes:
        return encode_json_line(row.to_json())


class CSVWriter(RowWriter):
    """Write the columns path, tags (`a|b`), scores (`0.97|0.51`), error; line ends as in RFC 4180.

    With `all_scores` the columns are path, one for the score of each label, error. A path that is
    not UTF-8 keeps its bytes: read the file with `errors="surrogateescape"`.
    """

    def __init__(
        self,
        target: BinaryIO,
        labels: Sequence[str] = (),
        all_scores: bool = False,
        *,
        path: Path | None = None,
    ) -> None:
        self._labels = labels if all_scores else None
        columns = ("tags", "scores") if self._labels is None else self._labels
        super().__init__(target, _encode_csv_line(["path", *columns, "error"]), path)

    def encode(self, row: TagRow) -> bytes:
        scores = dict(row.round_scores())
        if self._labels is None:
            cells = ["|".join(scores), "|".join(map(str, scores.values()))]
        else:
            cells = [str(scores.get(label, "")) for label in self._labels]
        return _encode_csv_line([row.path, *cells, ": ".join(row.error or ())])


def open_writer(
    output: Path | None,
    format: Literal["jsonl", "csv"],
    *,
    header: dict[str, Any] | None = None,
    labels: Sequence[str] = (),
    all_scores: bool = False,
) -> RowWriter:
    """Open a writer to a file, or to standard output if `output` is None.

    Args:
        output: an existing file is overwritten.
        header: the first line of JSONL.
        labels: the columns of CSV with `all_scores`.

    Raises:
        UserError: the file cannot be written, or standard output is closed.
    """
    target = _open_standard_output() if output is None else _create_file(output)
    if format == "csv":
        return CSVWriter(target, labels, all_scores, path=output)
    return JSONLWriter(target, header, path=output)


def _open_standard_output() -> BinaryIO:
    if sys.stdout is None:  # the process was started with `>&-`
        raise UserError(
            "cannot write standard output", got="it is closed", fix="name a file: -o tags.jsonl"
        )
    return sys.stdout.buffer


def _create_file(output: Path) -> BinaryIO:
    try:
        # Unbuffered, so that a killed process leaves whole rows.
        return open(output, "wb", buffering=0)
    except FileNotFoundError:
        folder = str(output.parent)
        raise UserError(
            f"cannot write {output}", got=f"no folder {folder}", fix=f"mkdir -p {quote(folder)}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write {output}", got=error.strerror) from None


def encode_json_line(fields: dict[str, Any]) -> bytes:
    """Encode a JSON object as one line of UTF-8.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"
    # UTF-8 cannot encode surrogates; "backslashreplace" writes them as their JSON escapes.
    return text.encode("utf-8", "backslashreplace")


def _encode_csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")
