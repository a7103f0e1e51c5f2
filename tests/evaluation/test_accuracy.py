"""Figures of an engine on a labelled set, against scikit-learn's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from patchct_edge.bundle import Calibration, Preprocessing
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.evaluation.accuracy import accuracy_from_logits, compute_accuracy
from patchct_edge.evaluation.predictions import predict
from patchct_edge.runtime.engines.fake import FakeEngine

LABELS = ("red", "green", "blue")
N, M = 60, 6


@pytest.fixture(scope="module")
def data():
    """Logits, targets and ignored cells, at random; label 4 has no positive, 5 none that counts."""
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
def result(data, calibration):
    return accuracy_from_logits(*data, calibration, tuple("abcdef"))


def test_each_label_agrees_with_scikit_learn(data, calibration, result):
    logits, targets, ignored = data
    predictions = calibration.scores(logits) >= calibration.thresholds
    for m, label in enumerate(result.labels):
        counted = ~ignored[:, m]
        truth, said = targets[counted, m], predictions[counted, m]
        assert (label.label, label.threshold) == ("abcdef"[m], calibration.thresholds[m])
        assert (label.positives, label.predicted) == (truth.sum(), said.sum())
        assert label.precision == pytest.approx(precision_score(truth, said, zero_division=0))
        if m < 4:
            expected = average_precision_score(truth, logits[counted, m])
            assert label.ap == pytest.approx(expected)
            assert label.recall == pytest.approx(recall_score(truth, said))
        else:
            assert math.isnan(label.ap)
            assert math.isnan(label.recall)


def test_the_means_leave_out_labels_without_positives(data, calibration, result):
    logits, targets, ignored = data
    known = result.labels[:4]
    assert result.images == N
    assert result.map == pytest.approx(np.mean([label.ap for label in known]))
    assert result.thresholded.cp == pytest.approx(np.mean([label.precision for label in known]))
    assert result.thresholded.cr == pytest.approx(np.mean([label.recall for label in known]))
    predictions = calibration.scores(logits) >= calibration.thresholds
    top3 = np.argsort(np.argsort(-logits, axis=1), axis=1) < 3
    for found, said in ((result.thresholded, predictions), (result.top3, top3)):
        truth, said = targets[~ignored], said[~ignored]
        assert found.op == pytest.approx(precision_score(truth, said))
        assert found.or_ == pytest.approx(recall_score(truth, said))


def test_the_interval_holds_the_map(result):
    assert 0 < result.map_low < result.map < result.map_high < 1


def test_json_has_null_for_what_is_undefined(result):
    fields = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert fields["labels"][4]["ap"] is None
    assert fields["labels"][5]["recall"] is None
    assert fields["labels"][0]["ap"] == result.labels[0].ap
    assert fields["thresholded"]["cf1"] == result.thresholded.cf1
    assert fields["failed"] == []


def test_ranking_is_by_logits_where_scores_saturate():
    logits = np.array([[90.0], [80], [70], [60]], np.float32)
    calibration = Calibration.default(1)
    assert np.unique(calibration.scores(logits)).size == 1
    for order, expected in (([1, 1, 0, 0], 1), ([0, 0, 1, 1], (1 / 3 + 1 / 2) / 2)):
        targets = np.array(order, bool)[:, None]
        found = accuracy_from_logits(logits, targets, np.zeros_like(targets), calibration, ("a",))
        assert found.map == pytest.approx(expected)


@pytest.fixture
def photos(colour_photo):
    """Photos of plain colours, right but for one that is called blue and shows red."""
    shown = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "x": (255, 0, 0)}
    said = {"r": ("red",), "g": ("green",), "b": ("blue",), "x": ("blue",)}
    return [Sample(colour_photo(f"{n}.png", shown[n]), said[n]) for n in shown]


def measured(samples, labels=LABELS, progress=lambda done: None):
    engine = FakeEngine(size=8, labels=3, patches=4)
    found = predict(engine, Preprocessing(8), Dataset(tuple(samples), labels), progress)
    return compute_accuracy(found, Calibration.default(3))


def test_an_engine_is_run_over_a_data_set(photos):
    done = []
    found = measured(photos, progress=done.append)
    assert [label.label for label in found.labels] == list(LABELS)
    assert [label.positives for label in found.labels] == [1, 1, 2]
    assert [label.predicted for label in found.labels] == [2, 1, 1]
    assert [label.precision for label in found.labels] == [0.5, 1, 1]
    assert [label.recall for label in found.labels] == [1, 1, 0.5]
    assert done == [1, 2, 3, 4]


def test_a_difficult_label_counts_neither_way(photos):
    photos[3] = Sample(photos[3].path, ("red", "blue"), difficult=("red", "blue"))
    found = measured(photos)
    assert [label.positives for label in found.labels] == [1, 1, 1]
    assert [label.predicted for label in found.labels] == [1, 1, 1]
    assert found.map == found.thresholded.of1 == 1


@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_image_that_cannot_be_read_is_left_out_and_named(photos, tmp_path, place):
    expected = measured(photos)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    photos.insert(place, Sample(tmp_path / "bad.jpg", ("green",)))
    found = measured(photos)
    assert found.images == 4
    (failure,) = found.failed
    assert failure.startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert found.labels == expected.labels
    assert found.to_json()["failed"] == [failure]


def test_nothing_that_can_be_measured_is_an_error(photos, tmp_path):
    with pytest.raises(UserError, match=r"(?s)no image of the data set has a label.*red, green"):
        measured([Sample(photos[0].path, ("cat",)), Sample(photos[1].path, ())])
    with pytest.raises(UserError, match="has a label of the model"):
        measured([Sample(photos[0].path, ("red",), difficult=("red",))])
    with pytest.raises(UserError, match=r"(?s)could be read.*gone\.jpg"):
        measured([Sample(tmp_path / "gone.jpg", ("red",))])
    with pytest.raises(UserError, match="could be read"):
        measured([])
