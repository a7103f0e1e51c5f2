"""Prototypes: the most similar patches of each label, at most one per photo, and their crops."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.explain.prototypes import (
    CROP_SIDE_PX,
    PATCHES_PER_LABEL,
    draw_prototype_figure,
    find_prototypes,
)
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

pytest.importorskip("openvino")
LABELS = ("red", "green", "blue")
DARK = (0, 0, 0)


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle(tiny_bundle)


@pytest.fixture(scope="module")
def find(bundle):
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        yield lambda dataset, labels=LABELS, **options: find_prototypes(
            bundle, engine, dataset, labels, **options
        )


def make_dataset(*samples):
    return Dataset(samples, LABELS)


def test_the_most_similar_patch_of_each_photo_comes_first(find, color_photo):
    shades = {0: (0, 1), 1: (1, 0), 2: (1, 1)}  # photo: its red patch
    dataset = make_dataset(
        *(
            Sample(color_photo(f"{n}.png", DARK, {place: (200 + 20 * n, 0, 0)}), ("red",))
            for n, place in shades.items()
        )
    )
    matches = find(dataset).matches["red"]
    assert [(match.sample, divmod(match.patch, 2)) for match in matches] == [
        (2, (1, 1)),
        (1, (1, 0)),
        (0, (0, 1)),
    ]
    assert [match.similarity for match in matches] == pytest.approx(
        [240 / 255, 220 / 255, 200 / 255], abs=1e-3
    )


def test_only_the_most_similar_patches_stay(find, color_photo):
    shades = np.random.default_rng(0).permutation(3 * PATCHES_PER_LABEL)
    dataset = make_dataset(*(Sample(color_photo(f"{n}.png", (n, 0, 0)), ("red",)) for n in shades))
    matches = find(dataset, ["red"]).matches
    assert list(matches) == ["red"]
    assert [shades[match.sample] for match in matches["red"]] == list(
        range(3 * PATCHES_PER_LABEL - 1, 2 * PATCHES_PER_LABEL - 1, -1)
    )


def test_a_crop_shows_whether_its_photo_has_the_label(find, bundle, color_photo):
    dataset = make_dataset(
        Sample(color_photo("has.png", (250, 0, 0)), ("red",)),
        Sample(color_photo("lacks.png", (240, 0, 0)), ("blue",)),
        Sample(color_photo("hard.png", (230, 0, 0)), ("red",), difficult=("red",)),
    )
    (row,) = draw_prototype_figure(find(dataset, ["red"]), bundle, dataset).rows
    assert row.title == "red"
    assert [tile.caption[0].text for tile in row.tiles] == ["✓ 0.98", "✗ 0.94", "? 0.90"]
    edges = [tuple(tile.pixels[0, 0]) for tile in row.tiles]
    assert len(set(edges)) == 3
    assert {tile.pixels.shape for tile in row.tiles} == {(CROP_SIDE_PX, CROP_SIDE_PX, 3)}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8)])
def test_crops_of_any_fit_and_shape(write_bundle, tmp_path, fit, shape):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", preprocessing=Preprocessing(8, fit)))
    images.save(np.full((*shape, 3), (250, 0, 0), np.uint8), tmp_path / "a.png")
    dataset = make_dataset(Sample(tmp_path / "a.png", ("red",)))
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        prototypes = find_prototypes(bundle, engine, dataset, LABELS)
    rows = list(draw_prototype_figure(prototypes, bundle, dataset).rows)
    assert len(rows) == 3
    crop = rows[0].tiles[0].pixels
    assert (crop == (250, 0, 0)).all(-1).mean() > 0.5


def test_a_photo_that_cannot_be_read_is_named(find, color_photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = Sample(tmp_path / "broken.png", ("red",))
    steps: list[int] = []
    good = Sample(color_photo("a.png", (9, 0, 0)), ("red",))
    prototypes = find(make_dataset(broken, good), advance=steps.append)
    assert steps == [1, 2]
    assert len(prototypes.unreadable) == 1
    assert "broken.png" in prototypes.unreadable[0]
    assert [match.sample for match in prototypes.matches["red"]] == [1]
    with pytest.raises(UserError, match=r"(?s)no image.*can be read.*broken"):
        find(make_dataset(broken))
