"""Write the reference pages that are made from the code: the command line and the settings.

    python scripts/write_reference.py

`docs/reference/cli.md` is the `--help` of every command, `docs/reference/settings.md` lists the
settings of training and of streams. Both are committed, so that they can be read without building
the site; a test fails where they differ from the code.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
HELP_WIDTH = 100  # columns


def write_pages() -> None:
    """Write both pages."""
    for name, text in make_pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def make_pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {"cli.md": make_cli_page(), "settings.md": make_settings_page()}


def make_cli_page() -> str:
    """Return the page of the command line: the help of every command as it is printed."""
    from patchct_edge.cli.app import COMMANDS

    sections = ["# Command line\n\nThe `--help` of every command, as it is printed.\n"]
    for command in COMMANDS:
        sections.append(f"## patchct {command}\n\n```text\n{read_help(command)}\n```\n")
    return "\n".join(sections)


def read_help(command: str) -> str:
    """Return what `patchct COMMAND --help` prints."""
    from typer.testing import CliRunner

    from patchct_edge.cli.app import app

    environment = {"COLUMNS": str(HELP_WIDTH), "TERMINAL_WIDTH": str(HELP_WIDTH), "NO_COLOR": "1"}
    result = CliRunner().invoke(app, [command, "--help"], env=environment)
    return "\n".join(line.rstrip() for line in result.stdout.splitlines()).strip()


def make_settings_page() -> str:
    """Return the page of settings: those of training and those of a stream's file."""
    from patchct_edge.runtime.stream import settings as stream
    from patchct_edge.train import config as train

    stream_header = ("table", "setting", "default", "values", "meaning")
    return "\n".join(
        [
            "# Settings\n",
            "Terms are explained in the [glossary](../glossary.md).\n",
            "## Training\n",
            "Set with `patchct train --set NAME=VALUE`, or in a `config.json` with `--config`.\n",
            *make_table(("setting", "default", "values", "meaning"), train.list_settings()),
            "\n## Streams\n",
            "Tables of the TOML file that `patchct stream --config` reads.\n",
            *make_table(stream_header, stream.list_settings()),
        ]
    )


def make_table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(escape_cell(cell) for cell in row)} |"


def escape_cell(cell: object) -> str:
    """Return the text of a table's cell without what Markdown or HTML would take for its own."""
    return html.escape(str(cell), quote=False).replace("|", "&#124;")


if __name__ == "__main__":
    write_pages()
