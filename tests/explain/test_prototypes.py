"""Prototypes: the strongest patches of each label, at most one from a photo, and their crops."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.explain import prototypes
from patchct_edge.explain.prototypes import KEPT, prototype_rows, strongest_patches
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
        yield lambda data, labels=LABELS, **more: strongest_patches(
            bundle, engine, data, labels, **more
        )


def data_set(*samples):
    return Dataset(samples, LABELS)


def test_the_strongest_patch_of_each_photo(find, colour_photo):
    shades = {0: (0, 1), 1: (1, 0), 2: (1, 1)}  # photo: its red patch
    data = data_set(
        *(
            Sample(colour_photo(f"{n}.png", DARK, {place: (200 + 20 * n, 0, 0)}), ("red",))
            for n, place in shades.items()
        )
    )
    places = find(data).places["red"]
    assert [(each.image, divmod(each.patch, 2)) for each in places] == [
        (2, (1, 1)),
        (1, (1, 0)),
        (0, (0, 1)),
    ]
    assert [each.similarity for each in places] == pytest.approx(
        [240 / 255, 220 / 255, 200 / 255], abs=1e-3
    )


def test_no_more_are_kept_than_are_shown(find, colour_photo):
    shades = np.random.default_rng(0).permutation(3 * KEPT)
    data = data_set(*(Sample(colour_photo(f"{n}.png", (n, 0, 0)), ("red",)) for n in shades))
    places = find(data, ["red"]).places
    assert list(places) == ["red"]
    found = [shades[each.image] for each in places["red"]]
    assert found == list(range(3 * KEPT - 1, 2 * KEPT - 1, -1))


def test_a_crop_says_whether_its_photo_has_the_label(find, bundle, colour_photo):
    data = data_set(
        Sample(colour_photo("has.png", (250, 0, 0)), ("red",)),
        Sample(colour_photo("lacks.png", (240, 0, 0)), ("blue",)),
        Sample(colour_photo("hard.png", (230, 0, 0)), ("red",), difficult=("red",)),
    )
    (row,) = prototype_rows(find(data, ["red"]), bundle, data)
    assert row.title == "red"
    assert [tile.caption[0].text for tile in row.tiles] == ["✓ 0.98", "✗ 0.94", "? 0.90"]
    edges = [tuple(tile.pixels[0, 0]) for tile in row.tiles]
    assert len(set(edges)) == 3
    assert {tile.pixels.shape for tile in row.tiles} == {(prototypes.SIDE, prototypes.SIDE, 3)}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8)])
def test_any_fit_and_shape_can_be_cropped(write_bundle, tmp_path, fit, shape):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", preprocessing=Preprocessing(8, fit)))
    images.save(np.full((*shape, 3), (250, 0, 0), np.uint8), tmp_path / "a.png")
    data = data_set(Sample(tmp_path / "a.png", ("red",)))
    with open_engine(bundle, EngineRequest(similarity=True)) as engine:
        found = strongest_patches(bundle, engine, data, LABELS)
    rows = list(prototype_rows(found, bundle, data))
    assert len(rows) == 3
    crop = rows[0].tiles[0].pixels
    assert (crop == (250, 0, 0)).all(-1).mean() > 0.5


def test_a_photo_that_cannot_be_read_is_named(find, colour_photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = Sample(tmp_path / "broken.png", ("red",))
    done = []
    good = Sample(colour_photo("a.png", (9, 0, 0)), ("red",))
    found = find(data_set(broken, good), progress=done.append)
    assert done == [1, 2]
    assert len(found.failed) == 1
    assert "broken.png" in found.failed[0]
    assert [each.image for each in found.places["red"]] == [1]
    with pytest.raises(UserError, match=r"(?s)no image.*could be read.*broken"):
        find(data_set(broken))
