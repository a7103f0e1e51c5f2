"""Rows of pictures with captions, written as one PNG or as one page of HTML that needs no other."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import MissingLibraryError
from patchct_edge.explain.templating import template_environment
from patchct_edge.files import write_aside, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 1672  # px of a sheet, where one picture is not wider
GAP = 12  # px around pictures
NARROWEST = 90  # px that a caption has
DPI = 100
TITLE, TEXT = 13, 10.5  # points
LEADING = 1.45  # line height, in font sizes


class Line(NamedTuple):
    """A line of a caption, maybe behind a square of a colour such as "#e69f00"."""

    text: str
    colour: str | None = None


class Tile(NamedTuple):
    """A picture, uint8 (height, width, 3), and what stands below it."""

    pixels: RGB
    caption: tuple[Line, ...]


class FigureRow(NamedTuple):
    """Pictures of one size with a title."""

    title: str
    tiles: tuple[Tile, ...]


def write_png(title: str, note: str, rows: Iterable[FigureRow], path: Path) -> None:
    """Write a sheet as a picture; it is whole in memory.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    head = _texts(WIDTH, title, textwrap.wrap(note, 200))
    write_atomically(path, images.encode(_stacked([head, *map(_drawn, rows)]), "PNG"))


def write_html(title: str, note: str, rows: Iterable[FigureRow], path: Path) -> None:
    """Write a sheet as a page, row by row; memory does not grow with their number.

    Raises:
        MissingLibraryError: jinja2 is not installed.
    """
    page = (
        template_environment("patchct_edge.explain")
        .get_template("figure.html")
        .generate(title=title, note=note, rows=rows)
    )
    with write_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(page)


def _drawn(row: FigureRow) -> RGB:
    """Return a row as it stands on a sheet, with as many lines of pictures as it needs."""
    parts = [_texts(WIDTH, row.title, [])] if row.title else []
    column = _column(row.tiles[0])
    for line in _batches(row.tiles, max(1, (WIDTH - GAP) // column)):
        parts.append(_line_of_tiles(line, max(WIDTH, column + GAP)))
    return _stacked(parts)


def _stacked(parts: Sequence[RGB]) -> RGB:
    """Put pictures below each other, white to the right of those that are less wide."""
    width = max(part.shape[1] for part in parts)
    rest = [((0, 0), (0, width - part.shape[1]), (0, 0)) for part in parts]
    return np.vstack([np.pad(*p, constant_values=255) for p in zip(parts, rest, strict=True)])


def _column(tile: Tile) -> int:
    """Return the width of a picture, or of the caption below a narrow one, with the gap."""
    width: int = tile.pixels.shape[1]
    return max(width, NARROWEST) + GAP


def _batches(tiles: Sequence[Tile], size: int) -> Iterator[list[Tile]]:
    rest = iter(tiles)
    while batch := list(islice(rest, size)):
        yield batch


def _line_of_tiles(tiles: Sequence[Tile], width: int) -> RGB:
    high, wide = tiles[0].pixels.shape[:2]
    leading = TEXT * LEADING * DPI / 72
    column = _column(tiles[0])
    captions = [_wrapped(tile.caption, column - GAP) for tile in tiles]
    height = round(high + max(map(len, captions)) * leading + 2 * GAP)
    figure = _figure(width, height)
    for n, lines in enumerate(captions):
        left = GAP + n * column
        for k, line in enumerate(lines):
            baseline = high + (k + 0.75) * leading
            indent = 0
            if line.colour is not None:
                _text(figure, left, baseline, "■", TEXT, line.colour)
                indent = 18
            _text(figure, left + indent, baseline, line.text, TEXT)
    rendered = _rendered(figure)
    for n, tile in enumerate(tiles):
        left = GAP + n * column
        rendered[:high, left : left + wide] = tile.pixels
    return rendered


def _wrapped(caption: Iterable[Line], width: int) -> list[Line]:
    """Break lines that are wider than a picture; a letter is about 0.6 of the font's size wide."""
    letters = max(4, int(width / (0.62 * TEXT * DPI / 72)))
    return [
        Line(part, line.colour if n == 0 else None)
        for line in caption
        for n, part in enumerate(textwrap.wrap(line.text, letters - 3 * (line.colour is not None)))
    ]


def _texts(width: int, title: str, lines: Sequence[str]) -> RGB:
    """Return a title with lines below it."""
    sizes = [TITLE, *[TEXT] * len(lines)]
    steps = np.cumsum([size * LEADING * DPI / 72 for size in sizes])
    figure = _figure(width, round(steps[-1] + GAP))
    for size, step, line in zip(sizes, steps, [title, *lines], strict=True):
        _text(figure, GAP, step, line, size)
    return _rendered(figure)


def _figure(width: int, height: int) -> Figure:
    try:
        from matplotlib.figure import Figure  # not pyplot: a notebook keeps its own backend
    except ImportError:
        raise MissingLibraryError("matplotlib", "report") from None
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def _text(
    figure: Figure, left: float, baseline: float, text: str, size: float, colour: str = "black"
) -> None:
    """Write on a figure, at pixels from its left and its top."""
    width, height = figure.get_size_inches() * DPI
    place = left / width, 1 - baseline / height
    figure.text(*place, text, size=size, color=colour, va="baseline", parse_math=False)


def _rendered(figure: Figure) -> RGB:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks: a box is drawn
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
