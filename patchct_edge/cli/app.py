"""The command line: one file a command; errors become messages and exit codes here."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from patchct_edge.cli import console
from patchct_edge.cli.calibrate import calibrate
from patchct_edge.cli.compile import compile_
from patchct_edge.cli.demo import demo
from patchct_edge.cli.doctor import GPU_LIBRARIES, LIBRARIES, doctor
from patchct_edge.cli.eval import evaluate
from patchct_edge.cli.explain import explain
from patchct_edge.cli.export import export
from patchct_edge.cli.help import Command, Group
from patchct_edge.cli.report import report
from patchct_edge.cli.show import show
from patchct_edge.cli.stream import stream
from patchct_edge.cli.tag import tag
from patchct_edge.cli.train import train
from patchct_edge.errors import ExitCode, MissingLibraryError, UserError
from patchct_edge.version import __version__

app = typer.Typer(
    name="patchct",
    cls=Group,
    help="Train multi-label image taggers, compile them, and run them on edge devices.",
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
OPTIONAL_LIBRARIES = {
    library.module: library for library in (*LIBRARIES, *GPU_LIBRARIES) if library.extra
}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)

MESSAGES_PANEL = "Messages"
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Show debug messages as well.", rich_help_panel=MESSAGES_PANEL
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Show warnings and errors only.", rich_help_panel=MESSAGES_PANEL
    ),
]
LogFormat = Annotated[
    console.LogFormat,
    typer.Option(
        "--log-format",
        help="Format on stderr: text for people, json (one object per line) for services.",
        rich_help_panel=MESSAGES_PANEL,
    ),
]


def make_command(function: Callable[..., Any]) -> Callable[..., None]:
    """Wrap a command's function: add the options of its messages, turn errors into exit codes.

    An error that the user can solve, or an interrupt, becomes a message and the documented exit
    code; a bug of this package shows its traceback.
    """

    @functools.wraps(function)
    def command(
        *args: Any, verbose: bool, quiet: bool, log_format: console.LogFormat, **kwargs: Any
    ) -> None:
        console.set_up_logging(verbose, quiet, log_format)
        try:
            code = function(*args, **kwargs)
        except KeyboardInterrupt:
            logger.info("interrupted; everything finished so far is kept")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:  # the reader, such as `head`, has gone
            code = ExitCode.OK
        except Exception as error:
            user_error = _as_user_error(error)
            if user_error is None:
                raise
            logger.error("%s", user_error)
            code = user_error.exit_code
        _flush_stdout()
        raise typer.Exit(int(code or ExitCode.OK))

    command.__doc__ = _unwrap_paragraphs(inspect.getdoc(function) or "")
    _add_options(
        command,
        function,
        {
            "verbose": (Verbose, False),
            "quiet": (Quiet, False),
            "log_format": (LogFormat, console.LogFormat.TEXT),
        },
    )
    return command


def _unwrap_paragraphs(text: str) -> str:
    """Put each paragraph on one line: the help is wrapped to the width of the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _add_options(
    command: Callable[..., None],
    function: Callable[..., Any],
    options: dict[str, tuple[Any, object]],
) -> None:
    """Give a command the parameters of its function and `options` (type, default) after them."""
    signature = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in options.items()
    ]
    parameters = [*signature.parameters.values(), *more]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _as_user_error(error: Exception) -> UserError | None:
    """Return the error that a user can solve, or None where the exception is a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        library = OPTIONAL_LIBRARIES.get((error.name or "").partition(".")[0])
        return MissingLibraryError(library.name) if library else None
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        target = error.filename or "the output"
        return UserError(f"cannot write {target}: {error.strerror}", fix="free some space there")
    return None


def _flush_stdout() -> None:
    """Flush stdout, and drop what it cannot take: Python would print a traceback at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


for _name, _function in COMMANDS.items():
    app.command(_name, cls=Command)(make_command(_function))


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"patchct {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train multi-label image taggers, compile them, and run them on edge devices."""


def main() -> None:
    """Entry point of `patchct`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: stop, keep results
    app()
