"""Hooks of the documentation site: pages made from the code, and formulas as MathML.

`reference/cli.md` is the `--help` of every command, `reference/settings.md` lists the settings of
training and of streams. Formulas become MathML when the site is built, so that no page loads a
script for them from elsewhere.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
HELP_WIDTH = 100  # columns


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code."""
    pages = {"reference/cli.md": write_cli_page(), "reference/settings.md": write_settings_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(page_html: str, **_: Any) -> str:
    """Turn every formula of a page into MathML."""
    return FORMULA.sub(formula_to_mathml, page_html)


def formula_to_mathml(match: re.Match[str]) -> str:
    """Return the MathML of one formula; `\\[...\\]` stands on a line of its own."""
    formula = html.unescape(match[3])
    if match[2] == "(":
        return str(convert(formula, display="inline"))
    return f'<div class="formula">{convert(formula, display="block")}</div>'


def write_cli_page() -> str:
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


def write_settings_page() -> str:
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
            *write_table(("setting", "default", "values", "meaning"), train.list_settings()),
            "\n## Streams\n",
            "Tables of the TOML file that `patchct stream --config` reads.\n",
            *write_table(stream_header, stream.list_settings()),
        ]
    )


def write_table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(escape_cell(cell) for cell in row)} |"


def escape_cell(cell: object) -> str:
    """Return the text of a table's cell without what Markdown or HTML would take for its own."""
    return html.escape(str(cell), quote=False).replace("|", "&#124;")
