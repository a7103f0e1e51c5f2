"""The preprocessing: where a photo lands in the input square."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.bundle import Preprocessing
from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.errors import UserError
from patchct_edge.images import INTERPOLATIONS

GRAY = 128


def make_quarters(height, width):
    """A photo whose quarters are red, green, blue and white, in reading order."""
    rgb = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    rgb[:top, :left], rgb[:top, left:] = (255, 0, 0), (0, 255, 0)
    rgb[top:, :left], rgb[top:, left:] = (0, 0, 255), (255, 255, 255)
    return rgb


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 24),
    st.sampled_from(FITS),
    st.sampled_from(sorted(INTERPOLATIONS)),
)
def test_any_photo_fills_the_square(height, width, size, fit, interpolation):
    out = Preprocessing(size, fit, interpolation).apply(np.full((height, width, 3), 7, np.uint8))
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8
    assert set(np.unique(out)) <= ({7, GRAY} if fit == "pad" else {7})


@pytest.mark.parametrize("shape", [(32, 32), (32, 64), (64, 32)])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_quarters_stay_quarters(shape, fit):
    out = Preprocessing(16, fit, "nearest").apply(make_quarters(*shape))
    np.testing.assert_array_equal(out, make_quarters(16, 16))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((32, 64), slice(4, 12), slice(0, 16)), ((64, 32), slice(0, 16), slice(4, 12))],
)
def test_pad_keeps_the_aspect_between_gray_bars(shape, rows, columns):
    out = Preprocessing(16, "pad", "nearest").apply(make_quarters(*shape))
    expected = np.full((16, 16, 3), GRAY, np.uint8)
    inner = expected[rows, columns]
    inner[:] = make_quarters(*inner.shape[:2])
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("fit", "place"),
    [
        ("squash", (slice(8, 12), slice(0, 2))),  # of (16, 16): a marker of 4 x 2 cells
        ("pad", (slice(8, 10), slice(0, 2))),
        ("crop", None),  # the marker lies outside the center square
    ],
)
def test_a_marker_lands_in_its_place(fit, place):
    rgb = np.zeros((40, 80, 3), np.uint8)
    rgb[20:30, 0:10] = (0, 0, 255)
    blue = Preprocessing(16, fit, "nearest").apply(rgb)[:, :, 2] == 255
    expected = np.zeros((16, 16), bool)
    if place:
        expected[place] = True
    np.testing.assert_array_equal(blue, expected)


def test_a_box_gives_the_same_as_the_cropped_photo():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for fit in FITS:
        preprocessing = Preprocessing(16, fit, "nearest")
        cut = preprocessing.apply(rgb, (10, 4, 38, 25))  # no sample falls between two pixels
        np.testing.assert_array_equal(cut, preprocessing.apply(rgb[4:25, 10:38]))
        whole = preprocessing.apply(rgb, (0, 0, 60, 40))
        np.testing.assert_array_equal(whole, preprocessing.apply(rgb))


def test_shrinking_averages_and_does_not_skip():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    out = Preprocessing(8, "squash", "bilinear").apply(stripes)
    assert np.abs(out.astype(int) - 127).max() <= 6


def test_the_photo_is_not_changed():
    rgb = make_quarters(20, 30)
    for fit in FITS:
        Preprocessing(8, fit).apply(rgb)
    np.testing.assert_array_equal(rgb, make_quarters(20, 30))


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(224), Preprocessing(8, "pad", "bicubic", (0.1, 0.2, 1 / 3), (1, 0.7, 0.5))],
)
def test_json_is_read_back(preprocessing):
    read = Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json())))
    assert read == preprocessing
    assert hash(read) == hash(preprocessing)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fit": "stretch"}, "unknown fit(.|\n)*stretch(.|\n)*squash or crop or pad"),
        ({"interpolation": "magic"}, "unknown interpolation(.|\n)*magic"),
        ({"size": 0}, "must be positive"),
        ({"std": (0.5, 0, 0.5)}, "must be positive"),
    ],
)
def test_an_impossible_preprocessing_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Preprocessing(**{"size": 8, **fields})
