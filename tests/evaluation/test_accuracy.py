"""Figures of accuracy on a labeled dataset, against scikit-learn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from patchct_edge.bundle import Calibration, Preprocessing
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.predictions import Predictions, predict
from patchct_edge.progress import ignore_progress
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.fake import FakeEngine

LABELS = ("red", "green", "blue")
N, M = 60, 6


def make_predictions(logits, targets, ignored, labels):
    paths = tuple(Path(f"{n}.jpg") for n in range(len(logits)))
    record = EngineRecord("fake", "fp32", "fp32", "fake 1", "none")
    return Predictions(record, labels, paths, logits, targets, ignored)


@pytest.fixture(scope="module")
def cells():
    """Random logits, targets and ignored cells.

    Label 4 has no positive, and every positive of label 5 is ignored.
    """
    rng = np.random.default_rng(0)
    targets, ignored = rng.random((N, M)) < 0.3, rng.random((N, M)) < 0.1
    logits = rng.normal(0, 2, (N, M)).astype(np.float32) + 2 * targets
    targets[:, 4] = False
    ignored[:, 5] = targets[:, 5]
    return logits, targets, ignored


@pytest.fixture(scope="module")
def calibration():
    return Calibration(np.array([0.2, 0.4, 0.5, 0.6, 0.7, 0.5]), 1.5)


@pytest.fixture(scope="module")
def accuracy(cells, calibration):
    logits, targets, ignored = cells
    predictions = make_predictions(logits, targets, ignored, tuple("abcdef"))
    return compute_accuracy(predictions, calibration)


def test_each_label_agrees_with_scikit_learn(cells, calibration, accuracy):
    logits, targets, ignored = cells
    all_tags = calibration.scores(logits) >= calibration.thresholds
    for m, label in enumerate(accuracy.labels):
        counted = ~ignored[:, m]
        truth, tags = targets[counted, m], all_tags[counted, m]
        assert (label.label, label.threshold) == ("abcdef"[m], calibration.thresholds[m])
        assert (label.positives, label.predicted) == (truth.sum(), tags.sum())
        assert label.precision == pytest.approx(precision_score(truth, tags, zero_division=0))
        if m < 4:
            expected = average_precision_score(truth, logits[counted, m])
            assert label.ap == pytest.approx(expected)
            assert label.recall == pytest.approx(recall_score(truth, tags))
        else:
            assert math.isnan(label.ap)
            assert math.isnan(label.recall)


def test_means_leave_out_labels_without_positives(cells, calibration, accuracy):
    logits, targets, ignored = cells
    known = accuracy.labels[:4]
    assert accuracy.images == N
    assert accuracy.map == pytest.approx(np.mean([label.ap for label in known]))
    assert accuracy.thresholded.cp == pytest.approx(np.mean([label.precision for label in known]))
    assert accuracy.thresholded.cr == pytest.approx(np.mean([label.recall for label in known]))
    thresholded = calibration.scores(logits) >= calibration.thresholds
    top3 = np.argsort(np.argsort(-logits, axis=1), axis=1) < 3
    for figures, tags in ((accuracy.thresholded, thresholded), (accuracy.top3, top3)):
        truth, counted_tags = targets[~ignored], tags[~ignored]
        assert figures.op == pytest.approx(precision_score(truth, counted_tags))
        assert figures.or_ == pytest.approx(recall_score(truth, counted_tags))


def test_the_interval_contains_the_map(accuracy):
    assert 0 < accuracy.map_low < accuracy.map < accuracy.map_high < 1


def test_undefined_figures_are_null_in_json(accuracy):
    fields = json.loads(json.dumps(accuracy.to_json(), allow_nan=False))
    assert fields["labels"][4]["ap"] is None
    assert fields["labels"][5]["recall"] is None
    assert fields["labels"][0]["ap"] == accuracy.labels[0].ap
    assert fields["thresholded"]["cf1"] == accuracy.thresholded.cf1
    assert fields["unreadable"] == []


def test_images_are_ranked_by_logits_where_scores_saturate():
    logits = np.array([[90.0], [80], [70], [60]], np.float32)
    calibration = Calibration.default(1)
    assert np.unique(calibration.scores(logits)).size == 1
    for order, expected in (([1, 1, 0, 0], 1), ([0, 0, 1, 1], (1 / 3 + 1 / 2) / 2)):
        targets = np.array(order, bool)[:, None]
        predictions = make_predictions(logits, targets, np.zeros_like(targets), ("a",))
        assert compute_accuracy(predictions, calibration).map == pytest.approx(expected)


@pytest.fixture
def photos(color_photo):
    """Photos of plain colors with their labels; the last is red and labeled blue."""
    colors = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "x": (255, 0, 0)}
    labels = {"r": ("red",), "g": ("green",), "b": ("blue",), "x": ("blue",)}
    return [Sample(color_photo(f"{n}.png", color), labels[n]) for n, color in colors.items()]


def measure_accuracy(samples, labels=LABELS, advance=ignore_progress):
    engine = FakeEngine(size=8, label_count=3, patch_count=4)
    predictions = predict(engine, Preprocessing(8), Dataset(tuple(samples), labels), advance)
    return compute_accuracy(predictions, Calibration.default(3))


def test_an_engine_is_run_over_a_dataset(photos):
    progress: list[int] = []
    accuracy = measure_accuracy(photos, advance=progress.append)
    assert [label.label for label in accuracy.labels] == list(LABELS)
    assert [label.positives for label in accuracy.labels] == [1, 1, 2]
    assert [label.predicted for label in accuracy.labels] == [2, 1, 1]
    assert [label.precision for label in accuracy.labels] == [0.5, 1, 1]
    assert [label.recall for label in accuracy.labels] == [1, 1, 0.5]
    assert progress == [1, 2, 3, 4]


def test_a_difficult_label_counts_neither_way(photos):
    photos[3] = Sample(photos[3].path, ("red", "blue"), difficult=("red", "blue"))
    accuracy = measure_accuracy(photos)
    assert [label.positives for label in accuracy.labels] == [1, 1, 1]
    assert [label.predicted for label in accuracy.labels] == [1, 1, 1]
    assert accuracy.map == accuracy.thresholded.of1 == 1


@pytest.mark.parametrize("position", [0, 2, 4])
def test_an_unreadable_image_is_left_out_and_reported(photos, tmp_path, position):
    expected = measure_accuracy(photos)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    photos.insert(position, Sample(tmp_path / "bad.jpg", ("green",)))
    accuracy = measure_accuracy(photos)
    assert accuracy.images == 4
    (line,) = accuracy.unreadable
    assert line.startswith(f"cannot decode {tmp_path / 'bad.jpg'}: not an image")
    assert accuracy.labels == expected.labels
    assert accuracy.to_json()["unreadable"] == [line]


def test_a_dataset_without_anything_to_measure_is_an_error(photos, tmp_path):
    with pytest.raises(UserError, match=r"(?s)no image of the dataset has a label.*red, green"):
        measure_accuracy([Sample(photos[0].path, ("cat",)), Sample(photos[1].path, ())])
    with pytest.raises(UserError, match="has a label of the model"):
        measure_accuracy([Sample(photos[0].path, ("red",), difficult=("red",))])
    with pytest.raises(UserError, match=r"(?s)could be read.*gone\.jpg"):
        measure_accuracy([Sample(tmp_path / "gone.jpg", ("red",))])
    with pytest.raises(UserError, match="could be read"):
        measure_accuracy([])
