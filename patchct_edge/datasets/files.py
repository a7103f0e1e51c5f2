"""What the readers share: text and CSV records of files, checks of paths, labels of objects."""

from __future__ import annotations

import codecs
import csv
import io
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from patchct_edge.errors import Fault, FaultsError, did_you_mean

SEPARATORS = ",;\t"


def read_text(path: Path, problem: str) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark; the mark is dropped.

    Args:
        problem: first sentence of the error.

    Raises:
        FaultsError: the file cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
        # UTF-16: what Excel saves as "Unicode text"
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        fault = Fault(str(path), None, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        row = error.object.count(b"\n", 0, error.start) + 1
        fault = Fault(str(path), row, "not UTF-8 text; save the file as UTF-8")
    raise FaultsError(problem, [fault])


def read_csv_records(
    path: Path, problem: str, required: Sequence[str], known: Sequence[str], faults: list[Fault]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns of a CSV and an iterator over its (row, cells).

    Args:
        problem: first sentence of the error.
        required: columns that the file must have.
        known: all columns that it may have.
        faults: what is wrong with the header or a record is added here.

    Raises:
        FaultsError: the file cannot be read, or lacks a required column.
    """
    records = _iter_records(path, read_text(path, problem), faults)
    row, header = next(records, (1, []))
    faults += [
        Fault(str(path), row, message) for message in _find_header_faults(header, required, known)
    ]
    if not set(header).issuperset(required):
        raise FaultsError(problem, faults)
    return header, records


def _iter_records(path: Path, text: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Yield (row, cells) of every record that is not blank; add what is not CSV to the faults."""
    # newline="" keeps the line ends inside quoted cells as they are.
    stream = io.StringIO(text, newline="")
    first = stream.readline()
    separator_line = re.fullmatch(r"sep=([^\r\n])\s*", first)  # Excel writes it above the header
    separator = separator_line[1] if separator_line else max(SEPARATORS, key=first.count)
    stream.seek(len(first) if separator_line else 0)
    # Strict: otherwise a quote that is never closed silently swallows the rest of the file.
    reader = csv.reader(stream, delimiter=separator, strict=True)
    while True:
        # The row where the record begins: a quoted cell may span several lines.
        row = reader.line_num + (2 if separator_line else 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(Fault(str(path), row, f"not CSV: {error}"))
            continue
        if cells:
            yield row, cells


def _find_header_faults(
    header: Sequence[str], required: Iterable[str], known: Sequence[str]
) -> Iterator[str]:
    """Yield the faults of a CSV header: columns that are missing, unknown, or occur twice."""
    for name in required:
        if name not in header:
            yield f"no column '{name}'"
    for name in dict.fromkeys(header):
        if name not in known:
            yield f"unknown column '{name}': {did_you_mean(name, known)}"
        if header.count(name) > 1:
            yield f"column '{name}' occurs {header.count(name)} times"


def describe_file_problem(path: Path) -> str | None:
    """Return why a path is not a regular file, or None if it is one."""
    # Not Path.is_file: it raises for a name that is too long or in a folder without permission.
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "not a regular file"


def find_first_file(candidates: Iterable[Path]) -> Path | None:
    """Return the first candidate that is a regular file, or None."""
    return next((path for path in candidates if describe_file_problem(path) is None), None)


def collect_labels(
    objects: Iterable[tuple[str, bool]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (labels, difficult labels) of (label, is difficult) objects, in order of appearance.

    A label is difficult if all of its objects are.
    """
    difficult: dict[str, bool] = {}
    for label, is_difficult in objects:
        difficult[label] = difficult.get(label, True) and is_difficult
    return tuple(difficult), tuple(label for label, flag in difficult.items() if flag)
