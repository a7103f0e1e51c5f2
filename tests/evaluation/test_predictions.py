"""What an engine says of a data set, where images or scores are broken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import EngineError, UserError
from patchct_edge.evaluation.predictions import predict
from patchct_edge.runtime.engines.base import Outputs
from patchct_edge.runtime.engines.fake import FakeEngine

LABELS = ("red", "green", "blue")


class BrokenFor(FakeEngine):
    """Gives one number that is none for pictures in which blue is strong."""

    def __init__(self, number):
        super().__init__(8, 3, 4)
        self.number = number

    def compute(self, images):
        logits, similarity = super().compute(images)
        logits[images.mean(axis=(1, 2))[:, 2] > 200, 1] = self.number
        return Outputs(logits, similarity)


@pytest.fixture
def data(tmp_path):
    samples = []
    for label, colour in zip(LABELS, np.eye(3, dtype=int) * 255, strict=True):
        path = tmp_path / f"{label}.png"
        Image.new("RGB", (16, 16), tuple(colour.tolist())).save(path)
        samples.append(Sample(path, (label,)))
    return Dataset(tuple(samples), LABELS)


def test_an_unreadable_image_takes_its_row_along_and_is_named(data):
    data.paths[1].write_bytes(b"no picture")
    found = predict(FakeEngine(8, 3, 4), Preprocessing(8), data)
    assert found.paths == (data.paths[0], data.paths[2])
    np.testing.assert_allclose(found.logits, [[4, -4, -4], [-4, -4, 4]], atol=1e-6)
    np.testing.assert_array_equal(found.targets, [[True, False, False], [False, False, True]])
    assert len(found.failed) == 1
    assert found.failed[0].startswith(f"{data.paths[1]}: ")


def test_no_readable_image_is_an_error_that_says_why(data):
    for path in data.paths:
        path.unlink()
    with pytest.raises(UserError, match="no image of the data set could be read") as caught:
        predict(FakeEngine(8, 3, 4), Preprocessing(8), data)
    assert "red.png" in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_never_become_figures(data, number):
    with pytest.raises(EngineError, match="no numbers") as caught:
        predict(BrokenFor(number), Preprocessing(8), data)
    assert "1 of 3 images" in str(caught.value)
    assert "blue.png" in str(caught.value)


def test_a_set_without_a_label_of_the_model_is_refused(data):
    bare = Dataset(tuple(Sample(s.path, ()) for s in data.samples), LABELS)
    with pytest.raises(UserError, match="no image of the data set has a label"):
        predict(FakeEngine(8, 3, 4), Preprocessing(8), bare)
