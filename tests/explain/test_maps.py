"""Maps as numbers: they find the square that a tag comes from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.errors import ImageError
from patchct_edge.explain.maps import explain_photo, label_maps
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

pytest.importorskip("openvino")
RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (140, 140, 140)


@pytest.fixture(scope="module")
def explain(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        yield lambda path, labels=(): explain_photo(bundle, engine, path, labels)


@pytest.mark.parametrize(
    ("red", "blue"), [((0, 0), (1, 1)), ((1, 0), (0, 1)), ((0, 1), (0, 0)), ((1, 1), (1, 0))]
)
def test_a_map_is_strongest_where_its_square_is(explain, colour_photo, red, blue):
    found = explain(colour_photo("a.png", GREY, {red: RED, blue: BLUE}))
    assert {each.label for each in found.maps} == {"red", "blue"}
    for each in found.maps:
        square, other = (red, blue) if each.label == "red" else (blue, red)
        assert each.is_tag
        assert each.backward.dtype == each.forward.dtype == np.float32
        assert each.backward.sum() == pytest.approx(1, rel=1e-5)
        assert each.backward[square] == each.backward.max() > 0.9
        assert each.backward[other] == each.backward.min()
        assert each.strongest == square
        assert each.peak == pytest.approx(1)
        assert each.forward[square] > 0.99 > 0.01 > each.forward[other]


def test_a_map_is_the_backward_navigator_at_the_bundles_tau(write_bundle, tmp_path, colour_photo):
    photo = colour_photo("a.png", GREY, {(0, 0): RED})
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", tau=0.5))
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        heat = explain_photo(bundle, engine, photo).maps[0].backward
    similarity = np.array([[255, 140], [140, 140]]) / 255
    expected = np.exp(similarity / 0.5) / np.exp(similarity / 0.5).sum()
    np.testing.assert_allclose(heat, expected, rtol=1e-4)


def test_the_photo_keeps_its_shape(explain, tmp_path):
    images.save(np.full((20, 50, 3), RED, np.uint8), tmp_path / "wide.png")
    found = explain(tmp_path / "wide.png")
    assert found.photo.shape == (20, 50, 3)
    assert (found.photo == RED).all()
    assert found.similarity.shape == (3, 2, 2)


def test_no_tag_no_map(explain, colour_photo):
    assert explain(colour_photo("a.png", (0, 0, 0))).maps == ()


def test_a_label_that_is_asked_for_is_mapped_tag_or_not(explain, colour_photo):
    found = explain(colour_photo("a.png", RED, {(1, 0): BLUE}), ["blue", "red"])
    red, blue = found.maps
    assert (red.label, red.is_tag, blue.label, blue.is_tag) == ("red", True, "blue", False)
    assert red.score > 0.5 > blue.score
    assert blue.strongest == (1, 0)


def test_the_forward_maps_of_all_labels_sum_to_one(explain, colour_photo):
    found = explain(colour_photo("a.png", GREY, {(0, 1): RED}), ["red", "green", "blue"])
    np.testing.assert_allclose(sum(each.forward for each in found.maps), np.ones((2, 2)), rtol=1e-5)


def test_scores_that_are_all_0_still_give_maps():
    similarity = np.array([[0.5, 0.1], [0.1, 0.5]], np.float32)
    backward, forward = label_maps(similarity, np.zeros(2, np.float32), 0.1)
    assert np.isfinite(backward).all()
    np.testing.assert_allclose(forward.sum(0), 1, rtol=1e-5)


def test_json_rounds_and_keeps_rows(explain, colour_photo):
    (found,) = explain(colour_photo("a.png", (0, 0, 0), {(0, 1): RED}), ["red"]).maps
    said = json.loads(json.dumps(found.to_json()))
    assert (said["label"], said["tag"]) == ("red", False)
    assert said["strongest"] == {"patch": [0, 1], "similarity": 1.0}
    assert said["similarity"] == [[0, 1], [0, 0]]
    assert np.array(said["backward"]).shape == np.array(said["forward"]).shape == (2, 2)


def test_an_engine_without_similarity_is_a_mistake_of_the_caller(tiny_bundle, colour_photo):
    bundle = Bundle(tiny_bundle)
    with (
        open_engine(bundle) as engine,
        pytest.raises(ValueError, match="without similarity"),
    ):
        explain_photo(bundle, engine, colour_photo("a.png", RED))


def test_a_picture_that_cannot_be_decoded(explain, tmp_path):
    with pytest.raises(ImageError, match="gone"):
        explain(tmp_path / "gone.jpg")
