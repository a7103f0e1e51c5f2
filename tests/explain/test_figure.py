"""Figures as PNG: every image at its own resolution, captions that do not overlap."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.errors import MissingLibraryError
from patchct_edge.explain.figure import CaptionLine, Figure, FigureRow, Tile, write_png

RED = (200, 30, 30)
HARD_TO_DRAW = ("<script>alert(1)</script>", "$x^2$", "$x_", "{{ 7 * 7 }}", '" onload="x', "犬")


def make_row(count=1, height=40, width=60, text="dog", color=None):
    tile = Tile(
        np.full((height, width, 3), RED, np.uint8),
        (CaptionLine(text, color), CaptionLine("similarity 0.61")),
    )
    return FigureRow(text, (tile,) * count)


@pytest.fixture
def draw(tmp_path):
    """Write rows as a PNG and return its pixels."""
    pytest.importorskip("matplotlib")

    def write(*rows, title="title", note="note"):
        write_png(Figure(title, note, rows), tmp_path / "a.png")
        return images.decode(tmp_path / "a.png")

    return write


def test_every_image_keeps_its_pixels(draw):
    pixels = draw(make_row(3), make_row(2, height=20))
    assert (pixels == RED).all(-1).sum() == 3 * 40 * 60 + 2 * 20 * 60


def test_an_image_is_drawn_bit_for_bit(draw):
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    pixels = draw(FigureRow("犬", (Tile(noise, (CaptionLine("a wide caption " * 3),)),)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (50, 70))
    assert (windows == noise[..., 0]).all((-2, -1)).sum() == 1


def test_tiles_that_do_not_fit_on_a_line_follow_below(draw):
    shapes = [draw(make_row(count, width=300)).shape for count in (1, 5, 6, 12)]
    heights = [shape[0] for shape in shapes]
    assert heights[0] == heights[1] < heights[2] < heights[3]
    assert len({shape[1] for shape in shapes}) == 1


def test_an_image_wider_than_the_figure_widens_it(draw):
    assert draw(make_row(width=3000), make_row()).shape[1] >= 3000


@pytest.mark.parametrize("text", ["motorbike", "W" * 30, "a name of many words in capitals"])
def test_captions_of_narrow_images_do_not_overlap(draw, text):
    blank = np.full((40, 3, 3), 255, np.uint8)
    one, two = (
        draw(FigureRow("", (Tile(blank, (CaptionLine(text),)),) * count), title="", note="")
        for count in (1, 2)
    )
    ink_of_one, ink_of_two = (int((255 - pixels.astype(int)).sum()) for pixels in (one, two))
    assert ink_of_two == pytest.approx(2 * ink_of_one, rel=0.02)


def test_no_text_is_cut_off_at_the_edge(draw):
    pixels = draw(make_row(16, width=90, text="W" * 30), note="a note in many words " * 50)
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()


def test_a_long_title_takes_several_lines_and_does_not_widen_the_figure(draw):
    row = make_row()
    short, long = (draw(row._replace(title=title)).shape for title in ("a", "folder/" * 500))
    assert long[1] == short[1]
    assert long[0] > short[0] + 200


def test_a_swatch_stands_before_its_line(draw):
    pixels = draw(make_row(color="#0000ff"))
    assert (pixels == (0, 0, 255)).all(-1).sum() > 20


@pytest.mark.parametrize("text", HARD_TO_DRAW)
def test_any_label_can_be_drawn(draw, text):
    assert draw(make_row(text=text), title=text, note=text).std() > 0


def test_dollar_signs_are_not_mathematics(draw):
    """As mathematics both texts would be the same narrow letters."""
    with_dollars, without = (
        int((draw(make_row(text=text), title=text) < 128).all(-1).sum()) for text in ("$x$", "x")
    )
    assert with_dollars > without * 1.02


def test_the_settings_of_matplotlib_stay(draw):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict.copy(matplotlib.rcParams)
    draw(make_row())
    assert dict.copy(matplotlib.rcParams) == before


def test_a_missing_matplotlib_is_named_with_the_install_command(tmp_path, monkeypatch):
    for module in ("matplotlib", "matplotlib.offsetbox"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=r"(?s)matplotlib.*pip install 'matplotlib>="):
        write_png(Figure("title", "note", [make_row()]), tmp_path / "a")
    assert not list(tmp_path.iterdir())
