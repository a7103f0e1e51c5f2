"""What a person sees: messages, tables and progress. The only module that imports rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
# Without emoji: rich would turn a label such as ":cat:" into a picture.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def note(message: str) -> None:
    """Say something on stderr."""
    err.print(Text(message))


def journal(message: str) -> None:
    """Say something on stderr, if anybody still reads it: what runs for months outlives that."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # a terminal or a log that has gone
            print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Say something on stderr that a person should look into."""
    err.print(Text.assemble(("warning:", "yellow"), f" {message}"))


def error(message: str) -> None:
    """Say on stderr what went wrong."""
    err.print(Text.assemble(("error:", "bold red"), f" {message}"))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> None:
    """Print a table on stdout; the first `text` columns are aligned to the left, as text is."""
    found = Table(
        box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold"
    )
    for n, header in enumerate(headers):
        found.add_column(header, justify="left" if n < text else "right", overflow="fold")
    for row in rows:
        found.add_row(*map(Text, row))
    out.print(found)


def bar(text: str) -> Progress:
    """Return a progress bar on stderr, which shows only at a terminal."""
    columns: list[ProgressColumn] = [
        TextColumn(text + " {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def track(items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show how many have passed."""
    with bar(text) as progress:
        task = progress.add_task("", total=total)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def counting(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many of `total` are done."""
    with bar(text) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def phases(text: str) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows a phase, and how many of its steps are done."""
    with bar(text) as progress:
        task = progress.add_task("", total=None)
        yield lambda phase, done, steps: progress.update(
            task, description=phase, completed=done, total=steps
        )


def percent(share: float | None, digits: int = 2) -> str:
    """Return 0.8741 as "87.41"; what is undefined is a dash."""
    return "-" if share is None or share != share else f"{share * 100:.{digits}f}"
