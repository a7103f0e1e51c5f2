"""The pointing game on a model with known maps: similarity follows the color of a patch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset, ObjectBox, Sample
from patchct_edge.errors import UserError
from patchct_edge.evaluation.pointing import play_pointing_game
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

pytest.importorskip("openvino")
LEFT_TOP, RIGHT_BOTTOM = (0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)
WHOLE = (0, 0, 1, 1)


@pytest.fixture(scope="module")
def game(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    with open_engine(bundle, EngineRequest(precision="fp32", similarity=True)) as engine:

        def play(samples, boxes):
            dataset = Dataset(tuple(samples), bundle.labels)
            resolved = {path.resolve(): objects for path, objects in boxes.items()}
            return play_pointing_game(bundle, engine, dataset, resolved)

        yield play


@pytest.fixture
def photo(color_photo):
    """A gray photo with a red square at the top left."""
    return color_photo("a.png", (140, 140, 140), {(0, 0): (255, 0, 0)})


@pytest.mark.parametrize(
    ("box", "hit", "center"), [(LEFT_TOP, 1, 1), (RIGHT_BOTTOM, 0, 1), ((0.6, 0, 1, 0.4), 0, 0)]
)
def test_a_strongest_patch_in_a_box_is_a_hit(game, photo, box, hit, center):
    result = game([Sample(photo, ("red",))], {photo: [ObjectBox("red", *box)]})
    assert result.ordinary.cases == result.labels["red"].cases == 1
    assert (result.ordinary.pointing, result.ordinary.center) == (hit, center)
    assert (result.low, result.high) == (hit, hit)
    assert result.labels["blue"].cases == 0
    assert math.isnan(result.labels["blue"].pointing)


def test_energy_is_the_share_of_the_map_in_the_boxes(game, photo):
    similarity = np.array([255, 140, 140, 140]) / 255
    heat_map = np.exp(similarity / 0.1) / np.exp(similarity / 0.1).sum()
    boxes = [ObjectBox("red", 0, 0, 0.5, 0.5), ObjectBox("red", 0.5, 0, 1, 0.5)]
    result = game([Sample(photo, ("red",))], {photo: boxes})
    assert result.ordinary.energy == pytest.approx(heat_map[:2].sum(), rel=1e-4)


def test_labels_with_difficult_objects_only_are_counted_apart(game, photo, color_photo):
    other = color_photo("b.png", (140, 140, 140), {(1, 1): (0, 0, 255)})
    result = game(
        [Sample(photo, ("red",)), Sample(other, ("blue",))],
        {
            photo: [ObjectBox("red", *RIGHT_BOTTOM), ObjectBox("red", *LEFT_TOP, difficult=True)],
            other: [ObjectBox("blue", *LEFT_TOP, difficult=True)],
        },
    )
    assert (result.ordinary.cases, result.ordinary.pointing) == (1, 1)  # either box counts
    assert (result.difficult.cases, result.difficult.pointing) == (1, 0)


def test_labels_without_a_box_and_unreadable_images_are_no_cases(game, photo, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    samples = [Sample(photo, ("red", "green")), Sample(broken, ("red",))]
    boxes = {
        path: [ObjectBox("red", *WHOLE), ObjectBox("mouse", *WHOLE)] for path in (photo, broken)
    }
    assert game(samples, boxes).ordinary.cases == 1
    with pytest.raises(UserError, match="no image of the dataset has a box"):
        game(samples, {photo: [ObjectBox("green", *WHOLE, difficult=True)]})
