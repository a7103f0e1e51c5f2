"""Batches: repeatable, augmented, with targets that match their images."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from patchct_edge import images
from patchct_edge.bundle import Preprocessing
from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import ImageError, UserError
from patchct_edge.train.batches import (
    Batches,
    check_trainable,
    compute_repeat_factors,
    draw_crop_box,
)

LABELS = ("even", "third", "rare")
PREPROCESSING = Preprocessing(8, interpolation="nearest")


@pytest.fixture
def numbered(tmp_path):
    """Write images that encode their number (red), their right half (green), columns (blue)."""

    def write(count=12):
        samples = []
        for n in range(count):
            rgb = np.zeros((20, 40, 3), np.uint8)
            rgb[:, :, 0] = n
            rgb[:, 20:, 1] = 255
            rgb[:, :, 2] = np.arange(40)
            path = tmp_path / f"{n}.png"
            images.save(rgb, path)
            labels = [label for label, is_on in zip(LABELS, label_flags(n), strict=True) if is_on]
            samples.append(Sample(path, tuple(labels), difficult=("even",) if n == 4 else ()))
        return Dataset(tuple(samples), LABELS)

    return write


def label_flags(n):
    return [n % 2 == 0, n % 3 == 0, n == 3]


def image_numbers(batches):
    return [n for batch in batches for n in batch.images[:, 0, 0, 0].tolist()]


def test_an_epoch_depends_on_seed_and_number_alone(numbered, settings):
    data = numbered()

    def epoch(seed, number):
        batches = Batches(data, PREPROCESSING, settings(batch_size=4, seed=seed))
        return torch.cat([batch.images for batch in batches.iter_training(number)])

    first = epoch(0, 0)
    assert torch.equal(epoch(0, 0), first)
    for seed, number in ((0, 1), (1, 0), (1, 1)):
        assert not torch.equal(epoch(seed, number), first)


def test_every_image_is_drawn_once_per_epoch_with_or_without_labels(numbered, settings):
    batches = Batches(numbered(), PREPROCESSING, settings(batch_size=4))
    epochs = [image_numbers(batches.iter_training(epoch)) for epoch in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(12))
    assert len({tuple(order) for order in epochs}) == 3


def test_targets_match_their_images(numbered, settings):
    batches = Batches(numbered(), PREPROCESSING, settings(batch_size=4))
    for batch in [*batches.iter_training(0), *batches.iter_unaugmented()]:
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (4, 8, 8, 3)
        for image, targets, ignored in zip(batch.images, batch.targets, batch.ignored, strict=True):
            n = int(image[0, 0, 0])
            assert targets.tolist() == label_flags(n)
            assert ignored.tolist() == [n == 4, False, False]


@pytest.mark.parametrize(
    ("count", "size", "steps"), [(12, 4, 3), (10, 4, 2), (3, 4, 1), (1, 4, 1), (12, 12, 1)]
)
def test_training_batches_are_always_full(numbered, settings, count, size, steps):
    batches = Batches(numbered(count), PREPROCESSING, settings(batch_size=size))
    assert batches.steps_per_epoch == steps
    epoch = list(batches.iter_training(0))
    assert [len(batch.images) for batch in epoch] == [size] * steps
    draws = Counter(image_numbers(epoch))
    assert max(draws.values()) - min(draws.values()) <= 1


def test_images_that_fill_no_batch_come_in_other_epochs(numbered, settings):
    batches = Batches(numbered(10), PREPROCESSING, settings(batch_size=4))
    numbers = {n for epoch in range(8) for n in image_numbers(batches.iter_training(epoch))}
    assert numbers == set(range(10))


def test_unaugmented_batches_are_every_image_in_order(numbered, settings):
    data = numbered(10)
    batches = list(Batches(data, PREPROCESSING, settings(batch_size=4)).iter_unaugmented())
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    expected = [PREPROCESSING.apply(images.decode(path)) for path in data.paths]
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]), expected)


def test_half_of_the_images_are_mirrored(numbered, settings):
    for flip, (low, high) in ((True, (0.3, 0.7)), (False, (0, 0))):
        batches = Batches(
            numbered(), PREPROCESSING, settings(batch_size=4, flip=flip, crop_scale=1)
        )
        green = torch.cat(
            [b.images[:, 0, :, 1] for e in range(8) for b in batches.iter_training(e)]
        )
        mirrored = green[:, 0] > green[:, -1]
        assert (mirrored == (green[:, -1] == 0)).all()
        assert low <= mirrored.float().mean() <= high


def test_crops_differ_and_show_a_part_of_the_image(numbered, settings):
    def widths(crop_scale):
        config = settings(batch_size=4, flip=False, crop_scale=crop_scale)
        blue = torch.cat(
            [
                b.images[:, 0, :, 2]
                for b in Batches(numbered(), PREPROCESSING, config).iter_training(0)
            ]
        )
        return (blue[:, -1].int() - blue[:, 0].int()).tolist()

    assert set(widths(1)) == {35}  # columns 2 to 37 of 40
    parts = widths(0.2)
    assert len(set(parts)) > 4
    assert min(parts) < 25
    assert max(parts) <= 35


def test_an_image_drawn_twice_is_augmented_twice(numbered, settings):
    batches = Batches(numbered(1), PREPROCESSING, settings(batch_size=8, crop_scale=0.3))
    (batch,) = batches.iter_training(0)
    assert len({image.numpy().tobytes() for image in batch.images}) > 4


def test_an_image_is_augmented_differently_in_every_epoch(numbered, settings):
    batches = Batches(numbered(1), PREPROCESSING, settings(batch_size=1, crop_scale=0.3))
    augmented = [batch.images for epoch in range(8) for batch in batches.iter_training(epoch)]
    assert len({pixels.numpy().tobytes() for pixels in augmented}) > 4


def test_rare_labels_are_drawn_more_often(numbered, settings):
    batches = Batches(numbered(), PREPROCESSING, settings(batch_size=4, balance=0.5))
    epochs = 60
    draws = Counter(
        n for epoch in range(epochs) for n in image_numbers(batches.iter_training(epoch))
    )
    assert set(draws) == set(range(12))
    # An incomplete last batch is left out.
    fraction = batches.steps_per_epoch * 4 / batches.repeats.sum()
    assert draws[3] / epochs == pytest.approx(math.sqrt(0.5 / (1 / 12)) * fraction, rel=0.15)
    assert draws[1] / epochs == pytest.approx(fraction, rel=0.15)


@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(0, 5))), st.floats(0, 1))
def test_repeat_factors_follow_the_formula(targets, threshold):
    factors = compute_repeat_factors(targets, threshold)
    assert factors.shape == targets.shape[:1]
    for n, row in enumerate(targets):
        expected = 1.0
        for m in np.flatnonzero(row):
            frequency = targets[:, m].sum() / len(targets)
            expected = max(expected, math.sqrt(threshold / frequency))
        assert factors[n] == pytest.approx(expected)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 1), st.integers(0, 2**32 - 1))
def test_crops_lie_inside_the_photo(height, width, min_area, seed):
    rgb = np.broadcast_to(np.uint8(0), (height, width, 3))
    left, top, right, bottom = draw_crop_box(rgb, min_area, np.random.default_rng(seed))
    slack = 1e-9 * max(height, width)
    assert 0 <= left < right <= width + slack
    assert 0 <= top < bottom <= height + slack
    area = (right - left) * (bottom - top) / (width * height)
    assert min_area * 0.75 - 1e-9 <= area <= 1 + 1e-9  # less only if a long box is cut off


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(FITS), st.integers(0, 2**32 - 1))
def test_any_crop_of_any_photo_can_be_applied(height, width, fit, seed):
    rgb = np.zeros((height, width, 3), np.uint8)
    for min_area in (0.01, 0.5, 0.99, 1):
        box = draw_crop_box(rgb, min_area, np.random.default_rng(seed))
        assert Preprocessing(8, fit).apply(rgb, box).shape == (8, 8, 3)


def test_an_unreadable_photo_stops_the_epoch(numbered, settings):
    data = numbered()
    data.paths[5].write_bytes(b"damaged")
    batches = Batches(data, PREPROCESSING, settings(batch_size=4))
    for iterator in (batches.iter_training(0), batches.iter_unaugmented()):
        with pytest.raises(ImageError, match=r"5\.png"):
            list(iterator)


@pytest.mark.parametrize(
    ("count", "labels", "message"),
    [(0, LABELS, "no training images"), (2, (), "two labels"), (2, ("dog",), "two labels")],
)
def test_datasets_that_cannot_train_a_tagger_are_refused(numbered, count, labels, message):
    with pytest.raises(UserError, match=message):
        check_trainable(Dataset(numbered(2).samples[:count], labels))
    check_trainable(numbered(2))


def test_difficult_labels_do_not_count_as_rare(color_set, settings):
    data = color_set(16)
    rare = dataclasses.replace(data.samples[0], labels=("red",), difficult=("red",))
    blank = tuple(dataclasses.replace(sample, labels=()) for sample in data.samples[1:])
    data = dataclasses.replace(data, samples=(rare, *blank))
    assert Batches(data, PREPROCESSING, settings(balance=0.5)).repeats.tolist() == [1] * 16
