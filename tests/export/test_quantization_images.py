"""The pictures of an export: what calibrates, what judges, and that they do not mix."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import read_dataset, split_off_validation
from patchct_edge.errors import UserError
from patchct_edge.export import quantization_images
from patchct_edge.export.quantization_images import PhotoSources, read_export_images

RECIPE = Preprocessing(8)
LABELS = ("even", "odd")


@pytest.fixture
def source(tmp_path):
    """Write a CSV whose n-th picture is of the gray n, with `splits` as (split, count)."""

    def write(*splits):
        lines, n = ["image,labels,split"], 0
        for split, count in splits:
            for _ in range(count):
                images.save(np.full((8, 8, 3), n, np.uint8), tmp_path / f"{n:03}.png")
                lines.append(f"{n:03}.png,{LABELS[n % 2]},{split}")
                n += 1
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "labels.csv"

    return write


def grays(pixels):
    """Return which pictures these are; all pixels of each are one number."""
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (8, 8, 3)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def read(source, split=None, comparison=None):
    return read_export_images(PhotoSources(source, comparison, split), LABELS, RECIPE)


def test_train_calibrates_and_val_judges(source):
    found = read(source(("train", 30), ("val", 20), ("test", 10)))
    assert grays(found.calibration) == list(range(30))
    shown = grays(found.parity.images)
    assert shown == list(range(30, 50))
    odd = np.array(shown) % 2 == 1
    np.testing.assert_array_equal(found.parity.targets, np.stack([~odd, odd], 1))
    assert not found.parity.ignored.any()


def test_another_split_judges_where_asked(source):
    path = source(("train", 30), ("val", 20), ("test", 10))
    found = read(path, "test")
    assert grays(found.calibration) == list(range(30))
    assert grays(found.parity.images) == list(range(50, 60))
    with pytest.raises(UserError, match="no split of that name"):
        read(path, "tset")


@pytest.mark.parametrize(
    ("splits", "split", "judges"),
    [
        ([("val", 40)], None, range(40)),
        ([("val", 40), ("test", 20)], None, range(40)),
        ([("val", 40), ("test", 20)], "test", range(40, 60)),
    ],
)
def test_without_a_train_split_nothing_calibrates(source, splits, split, judges):
    """The val split is for judging alone, even where there is nothing else."""
    found = read(source(*splits), split)
    assert found.calibration is None
    assert grays(found.parity.images) == list(judges)


@pytest.mark.parametrize("splits", [[("", 50)], [("train", 50)], [("train", 50), ("test", 20)]])
def test_what_has_no_val_split_is_divided_as_in_training(source, splits):
    """What `patchct train` holds out judges; what it trains on calibrates."""
    path = source(*splits)
    trained, held_out = split_off_validation(
        read_dataset(path, split="train" if splits[0][0] else "all")
    )
    found = read(path)
    calibrates, judges = grays(found.calibration), grays(found.parity.images)
    assert calibrates == [int(p.stem) for p in trained.paths]
    assert judges == [int(p.stem) for p in held_out.paths]
    odd = np.array(judges) % 2 == 1
    np.testing.assert_array_equal(found.parity.targets[:, 1], odd)


def test_a_test_split_never_calibrates(source):
    path = source(("test", 20))
    with pytest.raises(UserError, match="no split of that name"):
        read(path)
    found = read(path, "test")
    assert (found.calibration, len(found.parity.images)) == (None, 20)


@pytest.mark.parametrize(
    "splits", [[("", 20)], [("train", 20), ("val", 9)], [("val", 9)], "folder"]
)
def test_another_data_set_judges(source, tmp_path, splits):
    other = source(("val", 6)).rename(tmp_path / "other.csv")
    path = source(*([("", 20)] if splits == "folder" else splits))
    if splits == "folder":
        path.unlink()
        path = tmp_path
    found = read(path, comparison=other)
    assert grays(found.parity.images) == list(range(6))
    assert found.parity.targets is not None
    calibrates = None if found.calibration is None else grays(found.calibration)
    assert calibrates == (None if splits == [("val", 9)] else list(range(20)))


def test_a_split_that_is_asked_for_is_never_left_aside(source):
    path = source(("train", 40), ("test", 20))
    found = read(path, "test")
    assert grays(found.calibration) == list(range(40))
    assert grays(found.parity.images) == list(range(40, 60))


def test_a_plain_folder_is_divided_and_has_no_labels(source, tmp_path):
    source(("", 40)).unlink()
    found = read(tmp_path)
    calibrates, judges = grays(found.calibration), grays(found.parity.images)
    assert sorted(calibrates + judges) == list(range(40))
    assert len(calibrates) == 20
    assert (found.parity.targets, found.parity.ignored, found.fingerprint) == (None, None, None)


def test_a_tiny_folder_serves_both_purposes(source, tmp_path):
    source(("", 31)).unlink()
    found = read(tmp_path)
    assert sorted(grays(found.calibration)) == list(range(31))
    assert grays(found.parity.images) == grays(found.calibration)


def test_large_sets_are_drawn_from(source, monkeypatch):
    monkeypatch.setattr(quantization_images, "CALIBRATION_IMAGES", 7)
    monkeypatch.setattr(quantization_images, "PARITY_IMAGES", 5)
    found = read(source(("train", 30), ("val", 20)))
    calibrates, judges = grays(found.calibration), grays(found.parity.images)
    assert (len(calibrates), len(judges)) == (7, 5)
    assert max(calibrates) < 30 <= min(judges)
    assert calibrates != list(range(7))


def test_without_a_source_the_pictures_are_noise():
    found = read(None)
    assert (found.calibration, found.fingerprint, found.parity.targets) == (None, None, None)
    noise = found.parity.images
    assert (noise.dtype, noise.shape) == (np.uint8, (32, 8, 8, 3))
    assert noise.std() > 30
    np.testing.assert_array_equal(noise, read(None).parity.images)


def test_the_record_of_the_data_is_its_fingerprint(source):
    path = source(("train", 30), ("val", 20))
    assert read(path).fingerprint == read_dataset(path).fingerprint()
    assert read(path, "train").fingerprint == read(path).fingerprint


def test_pictures_are_prepared_as_the_recipe_says(source, tmp_path):
    source(("", 4))
    (tmp_path / "labels.csv").unlink()
    found = read_export_images(PhotoSources(tmp_path), LABELS, Preprocessing(5))
    assert found.calibration.shape == (4, 5, 5, 3)


@pytest.mark.parametrize("folder", [True, False])
def test_a_photo_that_cannot_be_read_is_named(source, tmp_path, folder):
    path = source(("train", 20), ("val", 20))
    (tmp_path / "007.png").write_bytes(b"no picture")
    if folder:
        path.unlink()
        path = tmp_path
    with pytest.raises(UserError, match=r"007\.png"):
        read(path)


def test_a_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no images found"):
        read(tmp_path)
