"""From logits to tags: the sigmoid, the calibration's JSON, thresholds and order."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.bundle import Calibration, Tag
from patchct_edge.errors import BundleError

LABELS = ("cat", "dog", "Hund 🐕", "a|b")
CALIBRATION = Calibration(np.array([0.25, 0.5, 1 / 3, 0.9]), 1.7, -0.6)


def test_scores_are_the_sigmoid_at_temperature_and_bias():
    logits = np.random.default_rng(0).normal(0, 20, (5, 4)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = CALIBRATION.scores(logits)
    expected = [[1 / (1 + math.exp(-float(z) / 1.7 + 0.6)) for z in row] for row in logits]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_extreme_logits_overflow_nothing():
    logits = np.array([[-np.inf, -3e38, -80, 0, 80, 3e38, np.inf]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = Calibration.default(7).scores(logits)[0]
    assert scores[[0, 1, 3, 4, 5, 6]].tolist() == [0, 0, 0.5, 1, 1, 1]
    assert scores[2] == pytest.approx(math.exp(-80), rel=1e-5)


def test_half_precision_logits_give_float32_scores():
    assert Calibration.default(1).scores(np.zeros((1, 1), np.float16)).dtype == np.float32


def test_the_default_calibration():
    default = Calibration.default(3)
    assert default.thresholds.tolist() == [0.5, 0.5, 0.5]
    assert (default.temperature, default.bias) == (1, 0)


def test_json_holds_thresholds_by_label_in_any_order():
    fields = json.loads(json.dumps(CALIBRATION.to_json(LABELS), sort_keys=True))
    read = Calibration.from_json(fields, LABELS)
    assert (read.temperature, read.bias) == (1.7, -0.6)
    np.testing.assert_array_equal(read.thresholds, CALIBRATION.thresholds)
    turned = Calibration.from_json(fields, LABELS[::-1])
    np.testing.assert_array_equal(turned.thresholds, CALIBRATION.thresholds[::-1])


def test_a_calibration_without_a_bias_has_none():
    fields = CALIBRATION.to_json(LABELS)
    del fields["bias"]
    assert Calibration.from_json(fields, LABELS).bias == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"thresholds": {"cat": 0.5}}, "dog"),
        ({"thresholds": dict.fromkeys([*LABELS, "wolf"], 0.5)}, "wolf"),
        ({"thresholds": dict.fromkeys(LABELS, "0.5")}, "threshold"),
        ({"thresholds": dict.fromkeys(LABELS, 50)}, "threshold"),
        ({"thresholds": dict.fromkeys(LABELS, math.nan)}, "threshold"),
        ({"thresholds": [0.5] * 4}, "thresholds"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": 1e-300}, "temperature"),  # 0 in float32
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"thresholds": dict.fromkeys(LABELS, True)}, "threshold"),
        *(
            ({"bias": bad}, "bias")
            for bad in (True, None, "0", [0], math.nan, math.inf, -math.inf, 10**400, 1e300)
        ),
    ],
)
def test_a_damaged_calibration_is_refused(change, named):
    with pytest.raises(BundleError, match=named) as caught:
        Calibration.from_json({**CALIBRATION.to_json(LABELS), **change}, LABELS)
    assert "patchct calibrate" in str(caught.value)


def test_writing_for_other_labels_is_a_bug():
    with pytest.raises(ValueError, match="longer"):
        CALIBRATION.to_json(LABELS[:2])


LOGITS = np.array([0.4, 2.2, 0.4, -1.4], np.float32)
SCORES = Calibration.default(4).scores(LOGITS)  # about 0.6, 0.9, 0.6, 0.2


def tag_names(thresholds=None, **options):
    calibration = Calibration(np.full(4, 0.5) if thresholds is None else thresholds)
    return [tag.label for tag in calibration.tag_image(LOGITS, "abcd", **options)]


def test_tags_are_highest_first_with_ties_in_label_order():
    assert tag_names() == ["b", "a", "c"]
    assert tag_names(np.array([0.7, 0.7, 0.1, 0.1])) == ["b", "c", "d"]
    assert tag_names(np.ones(4)) == []


def test_a_score_at_its_threshold_is_a_tag():
    at = SCORES.astype(np.float64)
    assert tag_names(at) == ["b", "a", "c", "d"]
    assert tag_names(np.nextafter(at, 1)) == []
    assert Calibration(at).tags(LOGITS[None]).tolist() == [[True] * 4]
    assert Calibration(np.nextafter(at, 1)).tags(LOGITS[None]).tolist() == [[False] * 4]


def test_one_threshold_replaces_those_of_the_labels():
    assert tag_names(threshold=0.7) == ["b"]
    assert tag_names(threshold=0) == ["b", "a", "c", "d"]
    assert tag_names(threshold=float(SCORES[0])) == ["b", "a", "c"]
    assert tag_names(threshold=float(np.nextafter(np.float64(SCORES[0]), 1))) == ["b"]


def test_top_k_caps_and_all_scores_ignores_thresholds():
    assert tag_names(top_k=2) == ["b", "a"]
    assert tag_names(top_k=9) == ["b", "a", "c"]
    assert tag_names(all_scores=True) == ["b", "a", "c", "d"]
    assert tag_names(all_scores=True, top_k=1) == ["b"]
    assert tag_names(all_scores=True, threshold=0.99) == ["b", "a", "c", "d"]


def test_tags_have_temperature_and_bias():
    tags = CALIBRATION.tag_image(LOGITS, "abcd", all_scores=True)
    scores = CALIBRATION.scores(LOGITS)
    assert [(tag.label, tag.score) for tag in tags] == [
        ("abcd"[m], scores[m]) for m in (1, 0, 2, 3)
    ]


def test_a_tag_is_plain_data():
    (tag,) = Calibration.default(4).tag_image(LOGITS, "abcd", top_k=1)
    assert tag == Tag("b", float(SCORES[1]))
    assert json.loads(json.dumps(tag.score)) == tag.score  # a float, not a NumPy scalar


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=8, unique=True), st.randoms())
def test_permuting_labels_changes_no_tags(eighths, random):
    order = list(range(len(eighths)))
    random.shuffle(order)
    logits, thresholds = np.array(eighths) / 8, np.linspace(0, 1, len(eighths))
    labels = [f"label {m}" for m in order]
    moved = Calibration(thresholds[order]).tag_image(logits[order], labels)
    assert moved == Calibration(thresholds).tag_image(logits, [f"label {m}" for m in sorted(order)])
