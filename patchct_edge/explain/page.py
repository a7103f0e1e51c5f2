"""A figure as one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from patchct_edge.explain.figure import Figure
from patchct_edge.explain.templating import load_templates
from patchct_edge.files import write_aside


def write_html(figure: Figure, path: Path) -> None:
    """Write a figure as a page, row by row, so that memory does not grow with the rows.

    Raises:
        MissingLibraryError: jinja2 is not installed.
    """
    template = load_templates("patchct_edge.explain").get_template("page.html")
    page = template.generate(title=figure.title, note=figure.note, rows=figure.rows)
    with write_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(page)
