"""Sheets: rows of pictures as one PNG and as one page; texts stay texts."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.errors import MissingLibraryError
from patchct_edge.explain.figure import FigureRow, Line, Tile, write_html, write_png

NASTY = ("<script>alert(1)</script>", "$x^2$", "$x_", "{{ 7 * 7 }}", '" onload="x', "犬")


def row(count=1, height=40, width=60, text="dog", colour=None):
    pixels = np.full((height, width, 3), (200, 30, 30), np.uint8)
    return FigureRow(text, (Tile(pixels, (Line(text, colour), Line("similarity 0.61"))),) * count)


class Page(HTMLParser):
    """The texts, tags and attributes of a page."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.tags = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_a_png_has_every_picture(tmp_path):
    pytest.importorskip("matplotlib")
    write_png("title", "note", [row(3), row(2, height=20)], tmp_path / "a.png")
    found = images.decode(tmp_path / "a.png")
    red = (found == (200, 30, 30)).all(-1)
    assert red.sum() == 3 * 40 * 60 + 2 * 20 * 60


def test_more_pictures_than_a_line_holds_go_on_below(tmp_path):
    pytest.importorskip("matplotlib")
    for count in (1, 5, 6, 12):
        write_png("title", "note", [row(count, width=300)], tmp_path / f"{count}.png")
    shapes = [images.decode(tmp_path / f"{count}.png").shape for count in (1, 5, 6, 12)]
    heights = [shape[0] for shape in shapes]
    assert heights[0] == heights[1] < heights[2] < heights[3]
    assert len({shape[1] for shape in shapes}) == 1


def test_a_picture_wider_than_the_sheet_widens_it(tmp_path):
    pytest.importorskip("matplotlib")
    write_png("title", "note", [row(width=3000), row()], tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png").shape[1] >= 3000


def test_captions_of_narrow_pictures_do_not_overlap(tmp_path):
    pytest.importorskip("matplotlib")
    blank = np.full((40, 3, 3), 255, np.uint8)
    for count in (1, 2):
        tiles = (Tile(blank, (Line("motorbike"),)),) * count
        write_png("", "", [FigureRow("", tiles)], tmp_path / f"{count}.png")
    once, twice = (images.decode(tmp_path / f"{n}.png").astype(int) for n in (1, 2))
    assert (255 - twice).sum() == pytest.approx(2 * (255 - once).sum(), rel=0.02)


def test_a_square_of_colour_stands_before_its_line(tmp_path):
    pytest.importorskip("matplotlib")
    write_png("title", "", [row(colour="#0000ff")], tmp_path / "a.png")
    found = images.decode(tmp_path / "a.png")
    assert (found == (0, 0, 255)).all(-1).sum() > 20


@pytest.mark.parametrize("text", NASTY)
def test_any_label_can_be_drawn(tmp_path, text):
    pytest.importorskip("matplotlib")
    write_png(text, text, [row(text=text)], tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png").std() > 0


def test_mathematics_is_not_set(tmp_path):
    """Set as mathematics, both of these would be the same narrow letters."""
    pytest.importorskip("matplotlib")
    found = []
    for text in ("$x$", "x"):
        write_png(text, "", [row(text=text)], tmp_path / "a.png")
        found.append((images.decode(tmp_path / "a.png") < 128).all(-1).sum())
    assert found[0] > found[1] * 1.02


def test_the_settings_of_matplotlib_stay(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict.copy(matplotlib.rcParams)
    write_png("title", "note", [row()], tmp_path / "a.png")
    assert dict.copy(matplotlib.rcParams) == before


@pytest.mark.parametrize("text", NASTY)
def test_texts_of_a_page_stay_texts(tmp_path, text):
    pytest.importorskip("jinja2")
    write_html(text, text, [row(text=text, colour="#e69f00")], tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    assert page.texts.count(text) == 5  # title, heading, note, row, line
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert not any(name.startswith("on") for _, found in page.tags for name in found)


def test_a_page_needs_no_other(tmp_path):
    pytest.importorskip("jinja2")
    write_html("title", "note", (row(2) for _ in range(3)), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(tmp_path / "a.html")
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 6
    assert all(found["src"].startswith("data:image/jpeg;base64,") for found in pictures)
    assert all(found["alt"] == "dog, similarity 0.61" for found in pictures)
    assert not re.search(r"https?:|url\(|@import|<link", text)
    policy = [found["content"] for tag, found in page.tags if "http-equiv" in found]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_a_page_that_fails_leaves_what_stood_there(tmp_path):
    pytest.importorskip("jinja2")
    target = tmp_path / "a.html"
    target.write_text("old")

    def rows():
        yield row()
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        write_html("title", "note", rows(), target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("write", "modules", "library"),
    [
        (write_png, ("matplotlib", "matplotlib.figure"), "matplotlib"),
        (write_html, ("jinja2",), "jinja2"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, write, modules, library):
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingLibraryError, match=rf"(?s){library}.*pip install 'patchct-edge\[report\]'"
    ):
        write("title", "note", [row()], tmp_path / "a")
    assert not list(tmp_path.iterdir())
