"""Figures as HTML: texts stay texts, nothing is loaded from elsewhere, memory stays flat."""

from __future__ import annotations

import re
import sys
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest

from patchct_edge.errors import MissingLibraryError
from patchct_edge.explain.figure import CaptionLine, Figure, FigureRow, Tile
from patchct_edge.explain.page import write_html

MARKUP = ("<script>alert(1)</script>", "$x^2$", "$x_", "{{ 7 * 7 }}", '" onload="x', "犬")


def make_row(count=1, text="dog", color=None):
    tile = Tile(
        np.full((40, 60, 3), 128, np.uint8),
        (CaptionLine(text, color), CaptionLine("similarity 0.61")),
    )
    return FigureRow(text, (tile,) * count)


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


@pytest.fixture
def target(tmp_path):
    pytest.importorskip("jinja2")
    return tmp_path / "a.html"


@pytest.mark.parametrize("text", MARKUP)
def test_texts_of_a_page_stay_texts(target, text):
    write_html(Figure(text, text, [make_row(text=text, color="#e69f00")]), target)
    page = Page(target)
    assert page.texts.count(text) == 5  # title, heading, note, row, line
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_a_page_loads_nothing_from_elsewhere(target):
    write_html(Figure("title", "note", (make_row(2) for _ in range(3))), target)
    text = target.read_text(encoding="utf-8")
    page = Page(target)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 6
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert all(image["alt"] == "dog, similarity 0.61" for image in images)
    assert not re.search(r"https?:|url\(|@import|<link", text)
    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_memory_does_not_grow_with_the_rows(target):
    def make_rows(count):
        for _ in range(count):
            noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
            yield FigureRow("noise", (Tile(noise, ()),))

    peaks = []
    for count in (3, 60):
        tracemalloc.start()
        write_html(Figure("title", "note", make_rows(count)), target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000  # 57 more rows are 7 million bytes of pixels


def test_a_page_that_fails_leaves_the_file_that_was_there(target):
    target.write_text("old")

    def rows():
        yield make_row()
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        write_html(Figure("title", "note", rows()), target)
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_missing_jinja2_is_named_with_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingLibraryError, match=r"(?s)jinja2.*pip install 'jinja2>="):
        write_html(Figure("title", "note", [make_row()]), tmp_path / "a")
    assert not list(tmp_path.iterdir())
