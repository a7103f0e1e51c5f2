"""Rows of images with captions, written as one PNG.

matplotlib's offset boxes measure and place everything. Subplots would resample the images to the
size of their axes; an offset image keeps its pixels.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import MissingLibraryError
from patchct_edge.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.offsetbox import OffsetBox

DPI = 100
POINTS_PER_PX = 72 / DPI
FIGURE_WIDTH_PX = 1684  # more where one image is wider
MIN_TILE_WIDTH_PX = 90  # room for a caption below a narrow image
TILE_GAP_PX = 12
ROW_GAP_PX = 24
LINE_GAP_PX = 4
SWATCH_GAP_PX = 7
TITLE_SIZE_PT, HEADING_SIZE_PT, TEXT_SIZE_PT = 16.0, 13.0, 10.5
NOTE_WIDTH_LETTERS = 160
LETTER_WIDTH_EM = 0.62  # of matplotlib's own font, a little more than its average


class CaptionLine(NamedTuple):
    """A line of a caption, behind a swatch if it has a color such as "#e69f00"."""

    text: str
    color: str | None = None


class Tile(NamedTuple):
    """An image, uint8 (height, width, 3), and the caption below it."""

    pixels: RGB
    caption: tuple[CaptionLine, ...]


class FigureRow(NamedTuple):
    """Images of the same size below a title."""

    title: str
    tiles: tuple[Tile, ...]


class Figure(NamedTuple):
    """A title, a note that explains the images, and rows of images; the rows are read once."""

    title: str
    note: str
    rows: Iterable[FigureRow]


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG with every image at its own resolution, all in memory at once.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    try:
        import matplotlib.offsetbox  # noqa: F401
    except ImportError:
        raise MissingLibraryError("matplotlib") from None
    note = textwrap.wrap(figure.note, NOTE_WIDTH_LETTERS)
    head = [_make_text(figure.title, TITLE_SIZE_PT), *map(_make_text, note)]
    rows = [_pack_down(_pack_row(row), TILE_GAP_PX) for row in figure.rows]
    content = _pack_down([_pack_down(head, LINE_GAP_PX), *rows], ROW_GAP_PX)
    write_atomically(path, images.encode(_render(content), "PNG"))


def _pack_row(row: FigureRow) -> Iterator[OffsetBox]:
    """Yield the title of a row, and its tiles in columns, each on as many lines as they need."""
    width = FIGURE_WIDTH_PX - 2 * TILE_GAP_PX  # a path can be far longer than a line
    for text in textwrap.wrap(row.title, _count_letters(width, HEADING_SIZE_PT)):
        yield _make_text(text, HEADING_SIZE_PT)
    column = max(MIN_TILE_WIDTH_PX, *(tile.pixels.shape[1] for tile in row.tiles))
    columns = max(1, (FIGURE_WIDTH_PX - 2 * TILE_GAP_PX) // (column + TILE_GAP_PX))
    tiles = iter(row.tiles)
    while tile_line := list(islice(tiles, columns)):
        yield _pack_across(map(_pack_tile, tile_line), TILE_GAP_PX, equal=True)


def _pack_tile(tile: Tile) -> OffsetBox:
    """Return an image above the lines of its caption."""
    from matplotlib.offsetbox import OffsetImage

    width = max(MIN_TILE_WIDTH_PX, tile.pixels.shape[1])
    image = OffsetImage(tile.pixels, dpi_cor=False, interpolation="nearest")
    caption = [box for line in tile.caption for box in _wrap_line(line, width)]
    return _pack_down([image, *caption], LINE_GAP_PX)


def _wrap_line(line: CaptionLine, width: int) -> Iterator[OffsetBox]:
    """Yield a line of a caption, broken where it is wider than `width` pixels."""
    from matplotlib.offsetbox import DrawingArea
    from matplotlib.patches import Rectangle

    side = 0 if line.color is None else TEXT_SIZE_PT * 0.8
    letters = _count_letters(width - side / POINTS_PER_PX, TEXT_SIZE_PT)
    for n, part in enumerate(textwrap.wrap(line.text, letters)):
        if line.color is None:
            yield _make_text(part)
        else:
            swatch = DrawingArea(side, side)
            color = line.color if n == 0 else "white"
            swatch.add_artist(Rectangle((0, 0), side, side, color=color))
            yield _pack_across([swatch, _make_text(part)], SWATCH_GAP_PX)


def _count_letters(width: float, size_pt: float) -> int:
    """Return how many letters of a size fit into `width` pixels."""
    return max(4, int(width * POINTS_PER_PX / (LETTER_WIDTH_EM * size_pt)))


def _make_text(text: str, size: float = TEXT_SIZE_PT) -> OffsetBox:
    from matplotlib.offsetbox import TextArea

    return TextArea(text, textprops={"size": size, "parse_math": False})


def _pack_down(boxes: Iterable[OffsetBox], gap_px: int) -> OffsetBox:
    from matplotlib.offsetbox import VPacker

    return VPacker(children=list(boxes), align="left", pad=0, sep=gap_px * POINTS_PER_PX)


def _pack_across(boxes: Iterable[OffsetBox], gap_px: int, equal: bool = False) -> OffsetBox:
    from matplotlib.offsetbox import HPacker

    return HPacker(
        children=list(boxes),
        align="top" if equal else "baseline",
        mode="equal" if equal else "fixed",
        pad=0,
        sep=gap_px * POINTS_PER_PX,
    )


def _render(content: OffsetBox) -> RGB:
    """Draw boxes on a white sheet that fits them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet  # not pyplot: a notebook keeps its own backend

    sheet = Sheet(dpi=DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(sheet)  # its methods have no types
    sheet.add_artist(content)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box stands there
        bounds = content.get_bbox(canvas.get_renderer())
        width = max(FIGURE_WIDTH_PX, math.ceil(bounds.width) + 2 * TILE_GAP_PX)
        height = math.ceil(bounds.height) + 2 * TILE_GAP_PX
        sheet.set_size_inches(width / DPI, height / DPI)
        content.set_offset((TILE_GAP_PX, height - TILE_GAP_PX - bounds.y1))
        canvas.draw()
    rgb: RGB = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    return rgb
