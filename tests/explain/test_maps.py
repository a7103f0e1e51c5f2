"""Label maps as numbers: the square that a tag comes from is the strongest patch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.errors import ImageError
from patchct_edge.explain.maps import compute_navigators, explain_photo
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

pytest.importorskip("openvino")
RED, BLUE, GRAY = (255, 0, 0), (0, 0, 255), (140, 140, 140)


@pytest.fixture(scope="module")
def explain(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        yield lambda path, labels=(): explain_photo(bundle, engine, path, labels)


@pytest.mark.parametrize(
    ("red", "blue"), [((0, 0), (1, 1)), ((1, 0), (0, 1)), ((0, 1), (0, 0)), ((1, 1), (1, 0))]
)
def test_a_map_is_strongest_at_the_square_of_its_label(explain, color_photo, red, blue):
    explanation = explain(color_photo("a.png", GRAY, {red: RED, blue: BLUE}))
    assert {label_map.label for label_map in explanation.maps} == {"red", "blue"}
    for label_map in explanation.maps:
        square, other = (red, blue) if label_map.label == "red" else (blue, red)
        assert label_map.is_tag
        assert label_map.backward.dtype == label_map.forward.dtype == np.float32
        assert label_map.backward.sum() == pytest.approx(1, rel=1e-5)
        assert label_map.backward[square] == label_map.backward.max() > 0.9
        assert label_map.backward[other] == label_map.backward.min()
        assert label_map.strongest_patch == square
        assert label_map.peak_similarity == pytest.approx(1)
        assert label_map.forward[square] > 0.99 > 0.01 > label_map.forward[other]


def test_a_map_is_the_backward_navigator_with_the_tau_of_the_bundle(
    write_bundle, tmp_path, color_photo
):
    photo = color_photo("a.png", GRAY, {(0, 0): RED})
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", tau=0.5))
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        backward = explain_photo(bundle, engine, photo).maps[0].backward
    similarity = np.array([[255, 140], [140, 140]]) / 255
    expected = np.exp(similarity / 0.5) / np.exp(similarity / 0.5).sum()
    np.testing.assert_allclose(backward, expected, rtol=1e-4)


def test_the_photo_keeps_its_shape(explain, tmp_path):
    images.save(np.full((20, 50, 3), RED, np.uint8), tmp_path / "wide.png")
    explanation = explain(tmp_path / "wide.png")
    assert explanation.photo.shape == (20, 50, 3)
    assert (explanation.photo == RED).all()
    assert explanation.similarity.shape == (3, 2, 2)


def test_a_photo_without_tags_has_no_maps(explain, color_photo):
    assert explain(color_photo("a.png", (0, 0, 0))).maps == ()


def test_a_requested_label_is_mapped_whether_or_not_it_is_a_tag(explain, color_photo):
    red, blue = explain(color_photo("a.png", RED, {(1, 0): BLUE}), ["blue", "red"]).maps
    assert (red.label, red.is_tag, blue.label, blue.is_tag) == ("red", True, "blue", False)
    assert red.score > 0.5 > blue.score
    assert blue.strongest_patch == (1, 0)


def test_the_forward_maps_of_all_labels_sum_to_one(explain, color_photo):
    maps = explain(color_photo("a.png", GRAY, {(0, 1): RED}), ["red", "green", "blue"]).maps
    total = sum(label_map.forward for label_map in maps)
    np.testing.assert_allclose(total, np.ones((2, 2)), rtol=1e-5)


def test_scores_that_are_all_zero_still_give_maps():
    similarity = np.array([[0.5, 0.1], [0.1, 0.5]], np.float32)
    backward, forward = compute_navigators(similarity, np.zeros(2, np.float32), 0.1)
    assert np.isfinite(backward).all()
    np.testing.assert_allclose(forward.sum(0), 1, rtol=1e-5)


def test_json_holds_the_rows_of_the_grids(explain, color_photo):
    (red,) = explain(color_photo("a.png", (0, 0, 0), {(0, 1): RED}), ["red"]).maps
    fields = json.loads(json.dumps(red.to_json()))
    assert (fields["label"], fields["tag"]) == ("red", False)
    assert fields["strongest"] == {"patch": [0, 1], "similarity": 1.0}
    assert fields["similarity"] == [[0, 1], [0, 0]]
    assert np.array(fields["backward"]).shape == np.array(fields["forward"]).shape == (2, 2)


def test_an_engine_without_similarity_is_refused(tiny_bundle, color_photo):
    bundle = Bundle(tiny_bundle)
    with (
        open_engine(bundle) as engine,
        pytest.raises(ValueError, match="without similarity"),
    ):
        explain_photo(bundle, engine, color_photo("a.png", RED))


def test_a_photo_that_cannot_be_decoded_is_an_image_error(explain, tmp_path):
    with pytest.raises(ImageError, match="gone"):
        explain(tmp_path / "gone.jpg")
