"""User errors, which name the problem, what was got, what was expected and the fix; exit codes.

The user can solve a `UserError`, so it is shown without a traceback. Any other exception is a bug
of this package and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `patchct` command."""

    OK = 0
    SOME_INPUTS_FAILED = 1
    USAGE = 2
    DOES_NOT_FIT = 3
    GATE_FAILED = 4
    INTERRUPTED = 130


class UserError(Exception):
    """An error that the user can solve.

    Args:
        problem: one sentence that says what went wrong.
        got: the value or state that caused it.
        expected: what would have been right.
        fix: what to do, a command if there is one.
    """

    exit_code = ExitCode.USAGE

    def __init__(
        self,
        problem: str,
        *,
        got: object | None = None,
        expected: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem = problem
        lines = [problem]
        for name, value in (("got", got), ("expected", expected), ("fix", fix)):
            if value is not None:
                lines.append(f"  {name + ':':<10}{value}")
        super().__init__("\n".join(lines))


class ImageError(UserError):
    """A file that cannot be decoded into an image."""


class BundleError(UserError):
    """A bundle that is missing, was altered or has another format version."""


class EngineError(UserError):
    """A bundle or engine that does not fit this machine."""

    exit_code = ExitCode.DOES_NOT_FIT


class GateError(UserError):
    """A measured figure that lies outside the limit of its gate."""

    exit_code = ExitCode.GATE_FAILED


class MissingLibraryError(EngineError):
    """An optional library that is not installed.

    Args:
        package: its name on the package index.
    """

    def __init__(self, package: str) -> None:
        from patchct_edge.requirements import install_command  # reads metadata: 10 ms

        super().__init__(f"{package} is not installed", fix=install_command(package))


@dataclass(frozen=True)
class Fault:
    """One fault of what a person wrote.

    Args:
        file: None if it is not in a file, such as an option.
        row: line of the file, counted from 1 (the header is 1), or None if the file has no rows.
    """

    file: str | None
    row: int | None
    message: str

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{place}: {self.message}"


class FaultsError(UserError):
    """All faults of a dataset or a configuration, listed together."""

    MAX_LISTED = 50

    def __init__(self, problem: str, faults: Iterable[Fault], *, fix: str | None = None) -> None:
        self.faults = list(faults)
        count = "1 error" if len(self.faults) == 1 else f"{len(self.faults)} errors"
        lines = [f"  {fault}" for fault in self.faults[: self.MAX_LISTED]]
        if len(self.faults) > self.MAX_LISTED:
            lines.append(f"  ... and {len(self.faults) - self.MAX_LISTED} more")
        super().__init__("\n".join([f"{problem} ({count})", *lines]), fix=fix)


def join_lines(error: object) -> str:
    """Return a message of several lines as one line, for a row or a log."""
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"did you mean 'x'?"` for the closest known word, else a list of the known words."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(known)}"
