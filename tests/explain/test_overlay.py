"""Maps over photos: patches lie where the engine saw them, colors follow scores and labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.bundle import Preprocessing
from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.explain.maps import LabelMap
from patchct_edge.explain.overlay import (
    draw_heat_map,
    draw_outline,
    draw_regions,
    spread_over_photo,
)

PHOTO = np.full((60, 80, 3), 100, np.uint8)
SQUASH = Preprocessing(32)


def make_label_map(similarity, score=1.0, forward=None):
    """Return a map whose navigators follow a grid of similarities."""
    similarity = np.asarray(similarity, np.float32)
    backward = np.exp(similarity / 0.1)
    backward /= backward.sum()
    forward = np.full_like(similarity, 1) if forward is None else np.asarray(forward, np.float32)
    return LabelMap("dog", score, score >= 0.5, similarity, backward, forward)


def mark_patch(grid, patch):
    cells = np.zeros(grid, np.uint8)
    cells[patch] = 255
    return cells


@pytest.mark.parametrize(
    ("fit", "shape", "box"),
    [
        ("squash", (40, 80), (60, 10, 80, 20)),
        ("crop", (40, 80), (50, 10, 60, 20)),
        ("crop", (80, 40), (30, 30, 40, 40)),
        ("pad", (40, 80), (60, 0, 80, 20)),
        ("pad", (80, 40), (40, 20, 60, 40)),  # a patch of the bar to the right
    ],
)
def test_a_patch_lands_where_the_engine_saw_it(fit, shape, box):
    preprocessing, grid, patch = Preprocessing(32, fit), (4, 4), (1, 3)
    height, width = shape
    placement = preprocessing.place((0, 0, width, height))
    assert placement.patch_box(patch, grid) == pytest.approx(box)
    expected = np.zeros(shape, np.uint8)
    left, top, right, bottom = box
    expected[top:bottom, left:right] = 255
    pixels = spread_over_photo(mark_patch(grid, patch), preprocessing, width, height, "nearest")
    np.testing.assert_array_equal(pixels, expected)


@given(
    fit=st.sampled_from(FITS),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(8, 64),
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    data=st.data(),
)
def test_a_patch_covers_its_box_in_any_photo(fit, width, height, size, grid, data):
    patch = data.draw(st.tuples(*(st.integers(0, count - 1) for count in grid)))
    preprocessing = Preprocessing(size, fit)
    pixels = spread_over_photo(mark_patch(grid, patch), preprocessing, width, height, "nearest")
    assert pixels.shape == (height, width)
    placement = preprocessing.place((0, 0, width, height))
    left, top, right, bottom = placement.patch_box(patch, grid)
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if rows.size:  # within a pixel, which half a pixel of the cut may become
        assert left - 1 <= columns[0] <= columns[-1] + 1 <= right + 1
        assert top - 1 <= rows[0] <= rows[-1] + 1 <= bottom + 1
    elif right - left >= 2 and bottom - top >= 2:
        assert fit == "pad"  # a patch of a bar, or of its edge
        assert min(right, width) - max(left, 0) < 2 or min(bottom, height) - max(top, 0) < 2


@given(
    fit=st.sampled_from(FITS),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    interpolation=st.sampled_from(["nearest", "bilinear"]),
)
def test_an_even_grid_covers_what_the_engine_saw(fit, width, height, interpolation):
    pixels = spread_over_photo(
        np.full((3, 4), 200, np.uint8), Preprocessing(24, fit), width, height, interpolation
    )
    seen = min(width, height) ** 2 if fit == "crop" else width * height
    assert (pixels == 200).sum() == seen
    assert (pixels == 0).sum() == width * height - seen


def measure_warmth(pixels):
    """Return red minus blue of each of 3 x 4 patches: 0 where an image is gray."""
    difference = pixels[..., 0].astype(float) - pixels[..., 2]
    return difference.reshape(3, 20, 4, 20).mean(axis=(1, 3))


@pytest.mark.parametrize("patch", [(0, 0), (1, 2), (2, 1)])
def test_a_heat_map_is_warm_at_the_strongest_patch(patch):
    similarity = np.zeros((3, 4))
    similarity[patch] = 0.6
    pixels = draw_heat_map(PHOTO, SQUASH, make_label_map(similarity))
    assert pixels.shape == PHOTO.shape
    assert pixels.dtype == np.uint8
    warmth = measure_warmth(pixels)
    assert np.unravel_index(warmth.argmax(), warmth.shape) == patch
    assert warmth[patch] > 50
    assert np.median(warmth) < 10
    assert (pixels == 255).all(-1).any()  # the outline


def test_a_label_of_low_score_has_a_pale_map():
    similarity = np.zeros((3, 4))
    similarity[1, 1] = 0.6
    strong, weak = (
        measure_warmth(draw_heat_map(PHOTO, SQUASH, make_label_map(similarity, score)))
        for score in (0.9, 0.03)
    )
    assert strong[1, 1] > 50
    assert weak.max() < 5


def test_a_region_has_the_color_of_the_label_that_its_patch_goes_to():
    left = make_label_map([[0.6, 0, 0]], forward=[[0.99, 0.5, 0.01]])
    right = make_label_map([[0, 0, 0.6]], forward=[[0.01, 0.4, 0.99]])
    photo = np.full((20, 60, 3), 128, np.uint8)
    pixels = draw_regions(photo, Preprocessing(24), [left, right]).astype(int)
    first, none, second = (pixels[10, x] for x in (10, 30, 50))
    assert first[0] > first[2] + 80  # orange
    assert second[2] > second[0] + 80  # sky blue
    assert (none == none[0]).all()  # neither label reaches a uniform share there


def test_a_uniform_map_is_one_region():
    pixels = draw_regions(PHOTO, SQUASH, [make_label_map(np.full((2, 2), 0.4))])
    assert (pixels == pixels[0, 0]).all()
    assert pixels[0, 0, 0] > pixels[0, 0, 2]


@pytest.mark.parametrize(
    "box", [(-5, -5, 3, 3), (76, 50, 95, 70), (-9, -9, -2, -2), (90, 90, 99, 99), (5, 5, 5, 5)]
)
def test_an_outline_at_the_edge_stays_in_the_image(box):
    before = PHOTO.copy()
    outlined = draw_outline(PHOTO, box)
    assert outlined.shape == PHOTO.shape
    np.testing.assert_array_equal(PHOTO, before)


def test_an_outline_leaves_the_pixels_inside():
    outlined = draw_outline(PHOTO, (20, 10, 40, 30))
    assert (outlined[10, 20:40] == 255).all()
    assert (outlined[12:28, 22:38] == 100).all()
    assert (outlined[:9] == 100).all()
