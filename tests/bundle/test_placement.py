"""Placement: photo and engine input, patches included, are laid over each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.bundle import Placement, Preprocessing
from patchct_edge.bundle.preprocessing import FITS

SIDES = st.integers(1, 5000)
GRIDS = st.tuples(st.integers(1, 32), st.integers(1, 32))


@st.composite
def placements(draw):
    preprocessing = Preprocessing(draw(st.integers(8, 512)), draw(st.sampled_from(FITS)))
    left, top = draw(st.integers(0, 100)), draw(st.integers(0, 100))
    return preprocessing.place((left, top, left + draw(SIDES), top + draw(SIDES)))


@pytest.mark.parametrize(
    ("fit", "source", "target"),
    [
        ("squash", (0, 0, 80, 40), (0, 0, 16, 16)),
        ("crop", (20, 0, 60, 40), (0, 0, 16, 16)),
        ("pad", (0, 0, 80, 40), (0, 4, 16, 12)),
    ],
)
def test_the_source_fills_the_target(fit, source, target):
    preprocessing = Preprocessing(16, fit)
    assert preprocessing.place((0, 0, 80, 40)) == Placement(source, target, 16)
    moved = preprocessing.place((5, 7, 85, 47))
    assert moved.source == tuple(edge + move for edge, move in zip(source, (5, 7) * 2, strict=True))
    assert moved.target == target


@given(placement=placements())
def test_the_corners_of_the_target_are_those_of_the_source(placement):
    corners = np.reshape(placement.target, (2, 2)).astype(float)
    expected = np.reshape(placement.source, (2, 2))
    np.testing.assert_allclose(placement.to_photo(corners), expected, rtol=1e-12, atol=1e-9)


@given(placement=placements(), grid=GRIDS)
def test_the_patches_tile_the_input(placement, grid):
    """Neighbors share an edge; together they are the input square, whose target is the source."""
    rows, columns = grid
    boxes = np.array(
        [
            [placement.patch_box((row, column), grid) for column in range(columns)]
            for row in range(rows)
        ]
    )
    np.testing.assert_array_equal(boxes[:, :-1, 2], boxes[:, 1:, 0])
    np.testing.assert_array_equal(boxes[:-1, :, 3], boxes[1:, :, 1])
    assert (boxes[..., 0] < boxes[..., 2]).all()
    assert (boxes[..., 1] < boxes[..., 3]).all()
    square = placement.to_photo(np.array([[0, 0], [placement.size, placement.size]]))
    outer = [[boxes[0, 0, 0], boxes[0, 0, 1]], [boxes[-1, -1, 2], boxes[-1, -1, 3]]]
    np.testing.assert_allclose(outer, square, rtol=1e-12, atol=1e-9)


@given(placement=placements(), grid=GRIDS)
def test_a_center_lies_in_the_middle_of_its_patch(placement, grid):
    boxes = np.array([placement.patch_box(patch, grid) for patch in np.ndindex(*grid)])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    centers = placement.patch_centers(grid)
    assert centers.dtype == np.float64
    np.testing.assert_allclose(centers, middles, rtol=1e-9, atol=1e-6)


@given(placement=placements(), grid=GRIDS)
def test_the_target_in_patches_is_the_target_scaled(placement, grid):
    rows, columns = grid
    left, top, right, bottom = placement.target_in_patches(grid)
    edges = np.array([[left, top], [right, bottom]]) * placement.size / (columns, rows)
    np.testing.assert_allclose(edges, np.reshape(placement.target, (2, 2)), rtol=1e-12)
    assert 0 <= left < right <= columns * (1 + 1e-12)
    assert 0 <= top < bottom <= rows * (1 + 1e-12)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(160, 80), (80, 160), (120, 120)])
def test_a_spot_at_a_center_is_brightest_in_its_patch(fit, width, height):
    preprocessing, grid = Preprocessing(32, fit), (4, 4)
    centers = preprocessing.place((0, 0, width, height)).patch_centers(grid)
    for n, (x, y) in enumerate(centers):
        if not (0 < x < width and 0 < y < height):
            continue
        rgb = np.zeros((height, width, 3), np.uint8)
        column, row = int(x), int(y)
        rgb[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 255
        patches = preprocessing.apply(rgb)[:, :, 0].astype(float).reshape(4, 8, 4, 8).mean((1, 3))
        if fit == "pad":
            patches[preprocessing.apply(rgb * 0)[:, :, 0].reshape(4, 8, 4, 8).mean((1, 3)) > 0] = 0
        assert patches.argmax() == n
