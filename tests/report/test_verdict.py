"""The gates of a report: noise passes, a broken label fails and is named."""

from __future__ import annotations

import numpy as np
import pytest
from noisy_engines import LABELS, NEUTRAL, make_candidate, make_predictions, make_reference

from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.comparison import compare_predictions
from patchct_edge.evaluation.gates import Gates
from patchct_edge.profiling.cold_start import ColdStart
from patchct_edge.profiling.latency import Latency, Percentiles, SweepPoint
from patchct_edge.report.engine_report import EngineReport
from patchct_edge.report.verdict import check_gates

DEFAULTS = Gates()


@pytest.fixture(scope="module")
def reference():
    return make_reference()


def make_engine_report(
    predictions, *, same_model=True, p95_ms=10.0, peak_mb=200.0, calibrated_on=None
):
    return EngineReport(
        bundle="x.patchct",
        model="f" * 16,
        same_model=same_model,
        calibrated_on=calibrated_on,
        predictions=predictions,
        calibration=NEUTRAL,
        accuracy=compute_accuracy(predictions, NEUTRAL),
        pointing=None,
        latency=Latency(1, (5.0,), {"total": Percentiles(5, 8, p95_ms, 12, 20)}),
        device_stats=None,
        sweep=(SweepPoint(1, 5, 200),),
        cold_start=ColdStart(1, 0.1, 0.5, 0.1, peak_mb),
    )


def check(reference, candidate, gates=DEFAULTS, **fields):
    """Check the predictions of a candidate; return the results by name."""
    change = compare_predictions(reference, candidate, NEUTRAL, NEUTRAL)
    reports = make_engine_report(candidate, **fields), make_engine_report(reference)
    return {result.name: result for result in check_gates(*reports, change, gates)}


def test_calibrations_of_different_kinds_are_named_as_a_reason(reference):
    candidate = make_candidate(reference)
    assert "calibrat" not in check(reference, candidate)["Tag flips"].text
    text = check(reference, candidate, calibrated_on="voc")["Tag flips"].text
    assert "int8 openvino is not calibrated" in text
    assert "patchct calibrate x.patchct DATA --precision int8" in text
    change = compare_predictions(reference, candidate, NEUTRAL, NEUTRAL)
    candidate_report = make_engine_report(candidate, calibrated_on="a")
    reference_report = make_engine_report(reference, calibrated_on="b")
    results = check_gates(candidate_report, reference_report, change, DEFAULTS)
    assert "on other data" in results[1].text


def test_a_little_noise_passes(reference):
    results = check(reference, make_candidate(reference))
    assert all(result.passed for result in results.values())
    assert results["Labels"].text == "No label is damaged."


@pytest.mark.parametrize("damage", ["shuffled", "compressed"])
@pytest.mark.parametrize("label", [0, 3])
def test_a_broken_label_fails_and_no_other_is_named(reference, label, damage):
    result = check(reference, make_candidate(reference, label, damage))["Labels"]
    assert not result.passed
    assert [name for name in LABELS if name in result.text] == [LABELS[label]]
    assert ("AP falls" in result.text) == (damage == "shuffled")
    assert ("spread" in result.text) == (damage == "compressed")


def test_another_model_may_tag_differently(reference):
    candidate = make_candidate(reference, 1, "compressed")
    results = check(reference, candidate, same_model=False)
    assert set(results) == {"mAP", "Labels"}
    assert all(result.passed for result in results.values())


def test_flips_are_limited_in_percent(reference):
    candidate = make_candidate(reference, 0, "shuffled")
    flips = 100 * compare_predictions(reference, candidate, NEUTRAL, NEUTRAL).flips
    for limit, passed in ((flips + 0.01, True), (flips - 0.01, False)):
        result = check(reference, candidate, Gates(max_flips=limit))["Tag flips"]
        assert result.passed == passed
        assert f"{flips:.2f}% of the tags change" in result.text


@pytest.mark.parametrize(
    ("gates", "passed"),
    [
        (Gates(max_latency_ms=10), {"Latency": True}),
        (Gates(max_latency_ms=9.9), {"Latency": False}),
        (Gates(max_memory_mb=200), {"Memory": True}),
        (Gates(max_memory_mb=199), {"Memory": False}),
        (Gates(), {}),
    ],
    ids=str,
)
def test_latency_and_memory_are_checked_where_a_limit_is_set(reference, gates, passed):
    report = make_engine_report(reference)
    results = check_gates(report, report, None, gates)
    assert {result.name: result.passed for result in results} == passed


def test_the_map_gate_mentions_that_the_images_are_too_few(reference):
    few = make_predictions(reference.logits[:25], reference.targets[:25])
    rng = np.random.default_rng(2)
    noisy = make_predictions(few.logits + rng.normal(0, 1.5, few.logits.shape), few.targets)
    change = compare_predictions(few, noisy, NEUTRAL, NEUTRAL)
    drop, high = 100 * change.map_drop, 100 * change.map_drop_high
    for limit, text in ((high + 100, ""), (drop + 1e-7, "rule out a larger drop")):
        result = check(few, noisy, Gates(max_map_drop=limit))["mAP"]
        assert result.passed
        assert text in result.text
        assert bool(text) == ("rule out" in result.text)
    result = check(few, noisy, Gates(max_map_drop=drop - 1e-4))["mAP"]
    assert not result.passed
    assert "rule out a smaller drop" in result.text
