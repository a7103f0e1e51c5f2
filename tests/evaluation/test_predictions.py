"""Predictions of a dataset where images or scores are broken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import EngineError, UserError
from patchct_edge.evaluation.predictions import check_labels, predict
from patchct_edge.runtime.engines.base import Outputs
from patchct_edge.runtime.engines.fake import FakeEngine

LABELS = ("red", "green", "blue")


class BrokenEngine(FakeEngine):
    """Returns one score that is NaN or infinite for images in which blue is strong."""

    def __init__(self, value):
        super().__init__(8, 3, 4)
        self.value = value

    def compute(self, images):
        logits, similarity = super().compute(images)
        logits[images.mean(axis=(1, 2))[:, 2] > 200, 1] = self.value
        return Outputs(logits, similarity)


@pytest.fixture
def dataset(tmp_path):
    samples = []
    for label, color in zip(LABELS, np.eye(3, dtype=int) * 255, strict=True):
        path = tmp_path / f"{label}.png"
        Image.new("RGB", (16, 16), tuple(color.tolist())).save(path)
        samples.append(Sample(path, (label,)))
    return Dataset(tuple(samples), LABELS)


def test_an_unreadable_image_leaves_no_row_and_is_reported(dataset):
    dataset.paths[1].write_bytes(b"no picture")
    predictions = predict(FakeEngine(8, 3, 4), Preprocessing(8), dataset)
    assert predictions.paths == (dataset.paths[0], dataset.paths[2])
    np.testing.assert_allclose(predictions.logits, [[4, -4, -4], [-4, -4, 4]], atol=1e-6)
    np.testing.assert_array_equal(predictions.targets, [[True, False, False], [False, False, True]])
    assert len(predictions.unreadable) == 1
    assert predictions.unreadable[0].startswith(f"cannot decode {dataset.paths[1]}: not an image")


def test_predictions_are_restricted_to_some_paths(dataset):
    predictions = predict(FakeEngine(8, 3, 4), Preprocessing(8), dataset)
    some = predictions.restrict_to({dataset.paths[2], dataset.paths[0]})
    assert some.paths == (dataset.paths[0], dataset.paths[2])
    np.testing.assert_array_equal(some.logits, predictions.logits[[0, 2]])
    np.testing.assert_array_equal(some.targets, predictions.targets[[0, 2]])


def test_a_dataset_without_a_readable_image_is_an_error_with_the_reason(dataset):
    for path in dataset.paths:
        path.unlink()
    with pytest.raises(UserError, match="no image of the dataset could be read") as caught:
        predict(FakeEngine(8, 3, 4), Preprocessing(8), dataset)
    assert "red.png" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_or_infinite_scores_are_an_error(dataset, value):
    with pytest.raises(EngineError, match="returned NaN or infinite scores") as caught:
        predict(BrokenEngine(value), Preprocessing(8), dataset)
    assert "1 of 3 images" in str(caught.value)
    assert "blue.png" in str(caught.value)


def test_a_dataset_without_a_label_of_the_model_is_refused(dataset):
    bare = Dataset(tuple(Sample(s.path, ()) for s in dataset.samples), LABELS)
    with pytest.raises(UserError, match="no image of the dataset has a label"):
        predict(FakeEngine(8, 3, 4), Preprocessing(8), bare)


def test_a_dataset_with_other_labels_is_refused(dataset, tiny_bundle):
    check_labels(Bundle(tiny_bundle), dataset)
    other = Dataset(dataset.samples, ("green", "red", "blue"))
    with pytest.raises(UserError, match=r"(?s)not those of the bundle.*labels=bundle\.labels"):
        check_labels(Bundle(tiny_bundle), other)
