"""The images of an export: which quantize, which compare, and that they do not mix."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import read_dataset, split_off_validation
from patchct_edge.errors import UserError
from patchct_edge.export import quantization_images
from patchct_edge.export.quantization_images import PhotoSources, read_export_images

PREPROCESSING = Preprocessing(8)
LABELS = ("even", "odd")


@pytest.fixture
def source(tmp_path):
    """Write a CSV whose n-th image is filled with the gray n; `splits` are (split, count)."""

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


def image_numbers(pixels):
    """Return the numbers of the images, which all of their pixels hold."""
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (8, 8, 3)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def read(source, split=None, parity=None):
    return read_export_images(PhotoSources(source, parity, split), LABELS, PREPROCESSING)


def test_train_quantizes_and_val_compares(source):
    export_images = read(source(("train", 30), ("val", 20), ("test", 10)))
    assert image_numbers(export_images.quantization) == list(range(30))
    numbers = image_numbers(export_images.parity.images)
    assert numbers == list(range(30, 50))
    odd = np.array(numbers) % 2 == 1
    np.testing.assert_array_equal(export_images.parity.targets, np.stack([~odd, odd], 1))
    assert not export_images.parity.ignored.any()


def test_another_split_compares_on_request(source):
    path = source(("train", 30), ("val", 20), ("test", 10))
    export_images = read(path, "test")
    assert image_numbers(export_images.quantization) == list(range(30))
    assert image_numbers(export_images.parity.images) == list(range(50, 60))
    with pytest.raises(UserError, match="no such split"):
        read(path, "tset")


@pytest.mark.parametrize(
    ("splits", "split", "compares"),
    [
        ([("val", 40)], None, range(40)),
        ([("val", 40), ("test", 20)], None, range(40)),
        ([("val", 40), ("test", 20)], "test", range(40, 60)),
    ],
)
def test_without_a_train_split_nothing_quantizes(source, splits, split, compares):
    """The val split only compares, even if there is nothing else."""
    export_images = read(source(*splits), split)
    assert export_images.quantization is None
    assert image_numbers(export_images.parity.images) == list(compares)


@pytest.mark.parametrize("splits", [[("", 50)], [("train", 50)], [("train", 50), ("test", 20)]])
def test_a_dataset_without_val_split_is_divided_as_in_training(source, splits):
    """The images that `patchct train` holds out compare; those it trains on quantize."""
    path = source(*splits)
    trained, held_out = split_off_validation(
        read_dataset(path, split="train" if splits[0][0] else "all")
    )
    export_images = read(path)
    quantizes, compares = (
        image_numbers(export_images.quantization),
        image_numbers(export_images.parity.images),
    )
    assert quantizes == [int(p.stem) for p in trained.paths]
    assert compares == [int(p.stem) for p in held_out.paths]
    odd = np.array(compares) % 2 == 1
    np.testing.assert_array_equal(export_images.parity.targets[:, 1], odd)


def test_a_test_split_never_quantizes(source):
    path = source(("test", 20))
    with pytest.raises(UserError, match="no such split"):
        read(path)
    export_images = read(path, "test")
    assert (export_images.quantization, len(export_images.parity.images)) == (None, 20)


@pytest.mark.parametrize(
    "splits", [[("", 20)], [("train", 20), ("val", 9)], [("val", 9)], "folder"]
)
def test_another_dataset_compares(source, tmp_path, splits):
    other = source(("val", 6)).rename(tmp_path / "other.csv")
    path = source(*([("", 20)] if splits == "folder" else splits))
    if splits == "folder":
        path.unlink()
        path = tmp_path
    export_images = read(path, parity=other)
    assert image_numbers(export_images.parity.images) == list(range(6))
    assert export_images.parity.targets is not None
    quantizes = (
        None if export_images.quantization is None else image_numbers(export_images.quantization)
    )
    assert quantizes == (None if splits == [("val", 9)] else list(range(20)))


def test_a_requested_split_is_always_used(source):
    path = source(("train", 40), ("test", 20))
    export_images = read(path, "test")
    assert image_numbers(export_images.quantization) == list(range(40))
    assert image_numbers(export_images.parity.images) == list(range(40, 60))


def test_a_plain_folder_is_divided_and_has_no_labels(source, tmp_path):
    source(("", 40)).unlink()
    export_images = read(tmp_path)
    quantizes, compares = (
        image_numbers(export_images.quantization),
        image_numbers(export_images.parity.images),
    )
    assert sorted(quantizes + compares) == list(range(40))
    assert len(quantizes) == 20
    assert (
        export_images.parity.targets,
        export_images.parity.ignored,
        export_images.fingerprint,
    ) == (None, None, None)


def test_a_tiny_folder_serves_both_purposes(source, tmp_path):
    source(("", 31)).unlink()
    export_images = read(tmp_path)
    assert sorted(image_numbers(export_images.quantization)) == list(range(31))
    assert image_numbers(export_images.parity.images) == image_numbers(export_images.quantization)


def test_large_datasets_are_sampled(source, monkeypatch):
    monkeypatch.setattr(quantization_images, "MAX_QUANTIZATION_IMAGES", 7)
    monkeypatch.setattr(quantization_images, "MAX_PARITY_IMAGES", 5)
    export_images = read(source(("train", 30), ("val", 20)))
    quantizes, compares = (
        image_numbers(export_images.quantization),
        image_numbers(export_images.parity.images),
    )
    assert (len(quantizes), len(compares)) == (7, 5)
    assert max(quantizes) < 30 <= min(compares)
    assert quantizes != list(range(7))


def test_without_a_source_the_images_are_noise():
    export_images = read(None)
    assert (
        export_images.quantization,
        export_images.fingerprint,
        export_images.parity.targets,
    ) == (None, None, None)
    noise = export_images.parity.images
    assert (noise.dtype, noise.shape) == (np.uint8, (32, 8, 8, 3))
    assert noise.std() > 30
    np.testing.assert_array_equal(noise, read(None).parity.images)


def test_the_fingerprint_is_that_of_the_dataset(source):
    path = source(("train", 30), ("val", 20))
    assert read(path).fingerprint == read_dataset(path).fingerprint()
    assert read(path, "train").fingerprint == read(path).fingerprint


def test_images_are_preprocessed(source, tmp_path):
    source(("", 4))
    (tmp_path / "labels.csv").unlink()
    export_images = read_export_images(PhotoSources(tmp_path), LABELS, Preprocessing(5))
    assert export_images.quantization is not None
    assert export_images.quantization.shape == (4, 5, 5, 3)


@pytest.mark.parametrize("folder", [True, False])
def test_an_unreadable_photo_is_named(source, tmp_path, folder):
    path = source(("train", 20), ("val", 20))
    (tmp_path / "007.png").write_bytes(b"no picture")
    if folder:
        path.unlink()
        path = tmp_path
    with pytest.raises(UserError, match=r"007\.png"):
        read(path)


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images found"):
        read(tmp_path)
