"""The command line: one file a command; errors become messages and exit codes here."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer

from patchct_edge import __version__
from patchct_edge.cli import console
from patchct_edge.cli.calibrate import calibrate
from patchct_edge.cli.compile import compile_
from patchct_edge.cli.demo import demo
from patchct_edge.cli.doctor import GPU_LIBRARIES, LIBRARIES, doctor
from patchct_edge.cli.eval import evaluate
from patchct_edge.cli.explain import explain
from patchct_edge.cli.export import export
from patchct_edge.cli.report import report
from patchct_edge.cli.show import show
from patchct_edge.cli.stream import stream
from patchct_edge.cli.tag import tag
from patchct_edge.cli.train import train
from patchct_edge.errors import ExitCode, MissingLibraryError, UserError

app = typer.Typer(
    name="patchct",
    help="Train multi-label image taggers, compile them, run them on the edge.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "train": train,
    "export": export,
    "compile": compile_,
    "tag": tag,
    "stream": stream,
    "eval": evaluate,
    "calibrate": calibrate,
    "report": report,
    "explain": explain,
    "show": show,
    "doctor": doctor,
}
EXTRAS = {library.module: library for library in (*LIBRARIES, *GPU_LIBRARIES) if library.extra}
FULL = (errno.ENOSPC, errno.EDQUOT)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a user's errors and interrupts into a message and the documented exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except KeyboardInterrupt:
            console.note("interrupted; what was done so far is kept")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:  # the reader, such as `head`, has gone
            code = ExitCode.OK
        except Exception as error:
            solvable = _solvable(error)
            if solvable is None:
                raise
            console.error(str(solvable))
            code = solvable.exit_code
        _drop_what_stdout_cannot_take()
        raise typer.Exit(int(code or ExitCode.OK))

    return run


def _solvable(error: Exception) -> UserError | None:
    """Return what a user can do about an exception, or None where it is a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        library = EXTRAS.get((error.name or "").partition(".")[0])
        return MissingLibraryError(library.name, library.extra) if library else None
    if isinstance(error, OSError) and error.errno in FULL:
        where = error.filename or "the output"
        return UserError(f"cannot write {where}: {error.strerror}", fix="make room there")
    return None


def _drop_what_stdout_cannot_take() -> None:
    """Leave nothing for Python to flush at exit: it would print a traceback where that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


for _name, _command in COMMANDS.items():
    app.command(_name)(guarded(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"patchct {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train multi-label image taggers, compile them, run them on the edge."""


def main() -> None:
    """Entry point of `patchct`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: end, keep what is done
    app()
