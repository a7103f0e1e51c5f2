"""What the readers share: text and records of a file, the file that is there, labels of objects."""

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


def read_text(path: Path, what: str) -> str:
    """Return the text of a UTF-8 file, its byte order mark left out; or of UTF-16 that has one.

    Raises:
        FaultsError: with the sentence `what`; the file cannot be read, or is neither.
    """
    try:
        data = path.read_bytes()
        # Excel's "Unicode text".
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        fault = Fault(str(path), None, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        row = error.object.count(b"\n", 0, error.start) + 1
        fault = Fault(str(path), row, "not UTF-8 text; save the file as UTF-8")
    raise FaultsError(what, [fault])


def csv_records(
    path: Path, what: str, required: Sequence[str], known: Sequence[str], faults: list[Fault]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns of a CSV and its (row, cells); what is wrong with either becomes a fault.

    Raises:
        FaultsError: with the sentence `what`; the file cannot be read, or lacks a required column.
    """
    records = _records(path, read_text(path, what), faults)
    row, header = next(records, (1, []))
    faults += [
        Fault(str(path), row, message) for message in _header_faults(header, required, known)
    ]
    if not set(header).issuperset(required):
        raise FaultsError(what, faults)
    return header, records


def _records(path: Path, text: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Yield (row, cells) of every record that is not blank; what is no CSV becomes a fault."""
    # newline="" keeps the line ends inside quoted cells as they are.
    stream = io.StringIO(text, newline="")
    first = stream.readline()
    named = re.fullmatch(r"sep=([^\r\n])\s*", first)  # Excel's own line before the header
    separator = named[1] if named else max(SEPARATORS, key=first.count)
    stream.seek(len(first) if named else 0)
    # Strict: otherwise a quote that is never closed swallows the rest of the file in silence.
    reader = csv.reader(stream, delimiter=separator, strict=True)
    while True:
        # A record stands where it begins: a quoted cell may run over several lines.
        row = reader.line_num + (2 if named else 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(Fault(str(path), row, f"not CSV: {error}"))
            continue
        if cells:
            yield row, cells


def _header_faults(
    header: Sequence[str], required: Iterable[str], known: Sequence[str]
) -> Iterator[str]:
    """Yield what is wrong with the columns of a CSV: missing, unknown, or named twice."""
    for name in required:
        if name not in header:
            yield f"no column '{name}'"
    for name in dict.fromkeys(header):
        if name not in known:
            yield f"unknown column '{name}': {did_you_mean(name, known)}"
        if header.count(name) > 1:
            yield f"column '{name}' stands {header.count(name)} times"


def file_problem(path: Path) -> str | None:
    """Return why a path is no regular file, or None where it is one."""
    # Not Path.is_file: it raises for a name that is too long or in a folder that may not be read.
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "not a regular file"


def first_file(candidates: Iterable[Path]) -> Path | None:
    """Return the first candidate that is a regular file, or None."""
    return next((path for path in candidates if file_problem(path) is None), None)


def labels_from_objects(
    objects: Iterable[tuple[str, bool]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (labels, difficult) of (label, is difficult) objects, in order of appearance.

    A label is difficult where every object of it is.
    """
    difficult: dict[str, bool] = {}
    for label, is_difficult in objects:
        difficult[label] = difficult.get(label, True) and is_difficult
    return tuple(difficult), tuple(label for label, flag in difficult.items() if flag)
