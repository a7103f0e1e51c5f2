"""What a person sees: log messages, tables and progress. The only module that imports rich."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from patchct_edge.progress import Advance, Progress

T = TypeVar("T")
PACKAGE = "patchct_edge"  # the root of the names of this package's loggers
# Without emoji: rich would turn a label such as ":cat:" into a picture.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
PREFIXES = {
    logging.DEBUG: ("debug", "dim"),
    logging.WARNING: ("warning", "yellow"),
    logging.ERROR: ("error", "bold red"),
    logging.CRITICAL: ("error", "bold red"),
}


class LogFormat(str, Enum):
    """Format of the messages on stderr."""

    TEXT = "text"
    JSON = "json"


class StderrHandler(logging.Handler):
    """Write log records to stderr, as it is at that moment, and nothing if it was closed.

    A stream runs for months and outlives the terminal or the file that its messages went to.
    """

    def __init__(self, show_libraries: bool) -> None:
        """Show the warnings of other libraries, or their errors only."""
        super().__init__()
        self._min_library_level = logging.WARNING if show_libraries else logging.ERROR

        self.addFilter(self._is_shown)

    def _is_shown(self, record: logging.LogRecord) -> bool:
        is_own = record.name.partition(".")[0] == PACKAGE
        return is_own or record.levelno >= self._min_library_level

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
        except Exception:  # a library's record whose arguments do not fit its message
            self.handleError(record)
            return
        text = Text(message)
        if self.formatter is None and record.levelno in PREFIXES:
            name, style = PREFIXES[record.levelno]
            text = Text.assemble((f"{name}:", style), " ", text)
        with suppress(OSError, ValueError):  # stderr was closed
            if self.formatter is None and _stderr_is_terminal():
                err.print(text)  # above a progress bar
            elif sys.stderr is not None:
                print(text.plain, file=sys.stderr, flush=True)


def set_up_logging(
    verbose: bool = False, quiet: bool = False, log_format: LogFormat = LogFormat.TEXT
) -> None:
    """Send log records to stderr.

    Args:
        verbose: show debug messages, and the warnings of other libraries.
        quiet: show warnings and errors only.
        log_format: text for people, or one JSON object a line for services.
    """
    handler = StderrHandler(show_libraries=verbose)
    if log_format is LogFormat.JSON:
        from patchct_edge.logs import JsonFormatter

        handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.getLogger(PACKAGE).setLevel(level)


def print_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1
) -> None:
    """Print a table on stdout; the first `text_columns` are aligned left, numbers right."""
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold"
    )
    for column, header in enumerate(headers):
        justify = "left" if column < text_columns else "right"
        table.add_column(header, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the stages of a task as a bar on stderr, at a terminal only; it goes when they end."""
    with _bar() as bar:
        yield _ProgressBar(bar)


def track(items: Iterable[T], name: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show how many have passed; `total` is None where nobody knows."""
    with _bar() as bar:
        task = bar.add_task(name, total=total, detail="")
        for item in items:
            yield item
            bar.advance(task)


def percent(share: float | None, digits: int = 2) -> str:
    """Format a share: 0.8741 as "87.41"; None and NaN as a dash."""
    return "-" if share is None or share != share else f"{share * 100:.{digits}f}"


class _ProgressBar:
    """Shows one stage at a time on a bar; see `patchct_edge.progress.Progress`."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, visible=False, detail="")

    def stage(self, name: str, total: int) -> Advance:
        self._bar.reset(self._task, total=total, visible=True, description=name, detail="")

        def advance(done: int, detail: str = "") -> None:
            self._bar.update(self._task, completed=done, detail=detail)

        return advance


def _bar() -> RichProgress:
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    ]
    return RichProgress(*columns, console=err, transient=True, disable=not _stderr_is_terminal())


def _stderr_is_terminal() -> bool:
    with suppress(OSError, ValueError, AttributeError):  # closed, or None
        return sys.stderr.isatty()
    return False
