"""Heat maps: they find the square that a tag comes from, and can be drawn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.errors import ImageError, MissingExtra
from patchct_edge.report.explain import Explained, draw_sheet, explained, overlay
from patchct_edge.runtime.engines.select import open_engine
from patchct_edge.tagging import Tag

pytest.importorskip("openvino")
RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (140, 140, 140)


@pytest.fixture(scope="module")
def explain(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    with open_engine(bundle, similarity=True) as engine:
        yield lambda path: explained(bundle, engine, path)


@pytest.mark.parametrize(
    ("red", "blue"), [((0, 0), (1, 1)), ((1, 0), (0, 1)), ((0, 1), (0, 0)), ((1, 1), (1, 0))]
)
def test_a_map_is_strongest_where_its_square_is(explain, colour_photo, red, blue):
    found = explain(colour_photo("a.png", GREY, {red: RED, blue: BLUE}))
    assert {tag.label for tag in found.tags} == {"red", "blue"}
    assert found.maps.shape == (2, 2, 2)
    assert found.maps.dtype == np.float32
    np.testing.assert_allclose(found.maps.sum(axis=(1, 2)), 1, rtol=1e-5)
    for tag, heat in zip(found.tags, found.maps, strict=True):
        square, other = (red, blue) if tag.label == "red" else (blue, red)
        assert heat[square] == heat.max() > 0.9
        assert heat[other] == heat.min()


def test_a_map_is_the_backward_navigator_at_the_bundles_tau(write_bundle, tmp_path, colour_photo):
    photo = colour_photo("a.png", GREY, {(0, 0): RED})
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", tau=0.5))
    with open_engine(bundle, similarity=True) as engine:
        heat = explained(bundle, engine, photo).maps[0]
    similarity = np.array([[255, 140], [140, 140]]) / 255
    expected = np.exp(similarity / 0.5) / np.exp(similarity / 0.5).sum()
    np.testing.assert_allclose(heat, expected, rtol=1e-4)


def test_the_picture_is_what_the_engine_saw(explain, colour_photo):
    found = explain(colour_photo("a.png", RED))
    assert found.pixels.shape == (8, 8, 3)
    assert found.pixels.dtype == np.uint8
    assert (found.pixels == RED).all()


def test_no_tag_no_map(explain, colour_photo):
    found = explain(colour_photo("a.png", (0, 0, 0)))
    assert found.tags == ()
    assert found.maps.shape == (0, 2, 2)


def test_an_engine_without_similarity_is_a_mistake_of_the_caller(tiny_bundle, colour_photo):
    bundle = Bundle(tiny_bundle)
    with (
        open_engine(bundle) as engine,
        pytest.raises(ValueError, match="without similarity"),
    ):
        explained(bundle, engine, colour_photo("a.png", RED))


def test_a_picture_that_cannot_be_decoded(explain, tmp_path):
    with pytest.raises(ImageError, match="gone"):
        explain(tmp_path / "gone.jpg")


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 1)])
def test_an_overlay_is_bright_at_the_strongest_patch(place):
    heat = np.full((3, 4), 0.02, np.float32)
    heat[place] = 0.8
    pixels = np.full((30, 40, 3), 100, np.uint8)
    found = overlay(pixels, heat)
    assert found.shape == pixels.shape
    assert found.dtype == np.uint8
    warmth = found[..., 0].astype(float) - found[..., 2]  # red against blue: none is grey
    blocks = warmth.reshape(3, 10, 4, 10).mean(axis=(1, 3))
    assert np.unravel_index(blocks.argmax(), blocks.shape) == place
    assert blocks[place] > 50
    assert np.median(blocks) < 10


@pytest.mark.parametrize("value", [0, 0.25])
def test_an_even_map_is_drawn_evenly(value):
    found = overlay(np.full((8, 8, 3), 100, np.uint8), np.full((2, 2), value, np.float32))
    assert (found == found[0, 0]).all()


def test_a_sheet_is_a_picture_with_a_row_for_each(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    settings = dict.copy(matplotlib.rcParams)
    pixels, maps = np.full((8, 8, 3), 100, np.uint8), np.full((6, 2, 2), 0.25, np.float32)
    tags = tuple(Tag(f"label {m} $x_", 0.9) for m in range(6))
    untagged, tagged = Explained(pixels, (), maps[:0]), Explained(pixels, tags, maps)
    shapes = {}
    for name, pictures, columns in (
        ("none", [untagged], 4),
        ("one", [tagged], 1),
        ("four", [tagged], 4),
        ("rows", [tagged, untagged, tagged], 4),
    ):
        path = tmp_path / f"{name}.png"
        draw_sheet(pictures, path, columns=columns)
        assert path.read_bytes().startswith(b"\x89PNG")
        shapes[name] = images.decode(path).shape
    assert shapes["none"][1] < shapes["one"][1] < shapes["four"][1] == shapes["rows"][1]
    assert shapes["rows"][0] > 2 * shapes["four"][0]
    assert dict.copy(matplotlib.rcParams) == settings  # a notebook keeps its backend


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"(?s)matplotlib.*pip install 'patchct-edge\[report\]'"):
        draw_sheet([], tmp_path / "sheet.png")
