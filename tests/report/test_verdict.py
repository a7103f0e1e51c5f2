"""Comparison and verdict: noise passes, a broken label is caught and named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.comparison import compare_predictions
from patchct_edge.evaluation.gates import Gates
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import mean_average_precision, tag_flips
from patchct_edge.profiling.cold_start import ColdStart
from patchct_edge.profiling.latency import Latency, Percentiles, SweepPoint
from patchct_edge.report.engine_report import EngineReport
from patchct_edge.report.verdict import check_gates
from patchct_edge.runtime.engines.base import EngineRecord

N, LABELS = 300, ("cat", "dog", "cow", "horse", "bird")
NEUTRAL = Calibration.default(len(LABELS))
RECORD = EngineRecord("openvino", "int8", "int8", "openvino 1", "a CPU")


def judged_of(logits, targets, paths=None):
    paths = tuple(Path(f"{n}.jpg") for n in range(len(logits))) if paths is None else paths
    return Predictions(RECORD, LABELS, paths, logits, targets, np.zeros_like(targets))


@pytest.fixture(scope="module")
def exact():
    rng = np.random.default_rng(0)
    targets = rng.random((N, len(LABELS))) < 0.3
    logits = np.where(targets, 3, -3) + rng.normal(0, 1.5, targets.shape)
    return judged_of(logits.astype(np.float32), targets)


def broken(exact, label=None, how=None):
    """Return what an engine with a little noise says, one of its labels broken."""
    rng = np.random.default_rng(1)
    logits = exact.logits + rng.normal(0, 0.02, exact.logits.shape).astype(np.float32)
    if how == "shuffled":
        logits[:, label] = rng.permutation(logits[:, label])
    if how == "compressed":
        logits[:, label] = logits[:, label].mean() + 0.1 * (
            logits[:, label] - logits[:, label].mean()
        )
    return judged_of(logits, exact.targets)


def measured_of(judged, *, same_model=True, p95=10.0, peak=200.0, calibrated_on=None):
    spread = Percentiles(5, 8, p95, 12, 20)
    return EngineReport(
        "x.patchct",
        "f" * 16,
        same_model,
        calibrated_on,
        judged,
        NEUTRAL,
        compute_accuracy(judged, NEUTRAL),
        None,
        Latency(1, (5.0,), {"total": spread}),
        None,
        (SweepPoint(1, 5, 200),),
        ColdStart(1, 0.1, 0.5, 0.1, peak),
    )


def gates_of(exact, candidate, limits=Gates(), **about):  # noqa: B008
    change = compare_predictions(exact, candidate, NEUTRAL, NEUTRAL)
    found = check_gates(measured_of(candidate, **about), measured_of(exact), change, limits)
    return {gate.name: gate for gate in found}


def test_thresholds_of_another_kind_are_named_as_a_reason(exact):
    candidate = broken(exact)
    assert "calibrat" not in gates_of(exact, candidate)["Tag flips"].text
    text = gates_of(exact, candidate, calibrated_on="voc")["Tag flips"].text
    assert "int8 openvino is not calibrated" in text
    assert "patchct calibrate x.patchct DATA --precision int8" in text
    change = compare_predictions(exact, candidate, NEUTRAL, NEUTRAL)
    two = [measured_of(each, calibrated_on=on) for each, on in ((candidate, "a"), (exact, "b"))]
    assert "on other data" in check_gates(*two, change, Gates())[1].text


def test_a_little_noise_passes(exact):
    gates = gates_of(exact, broken(exact))
    assert all(gate.passed for gate in gates.values())
    assert gates["Labels"].text == "No label is damaged."


@pytest.mark.parametrize("how", ["shuffled", "compressed"])
@pytest.mark.parametrize("label", [0, 3])
def test_a_broken_label_is_caught_and_no_other_named(exact, label, how):
    gate = gates_of(exact, broken(exact, label, how))["Labels"]
    assert not gate.passed
    assert [name for name in LABELS if name in gate.text] == [LABELS[label]]
    assert ("AP falls" in gate.text) == (how == "shuffled")
    assert ("spread" in gate.text) == (how == "compressed")


def test_another_model_may_tag_otherwise(exact):
    candidate = broken(exact, 1, "compressed")
    gates = gates_of(exact, candidate, same_model=False)
    assert set(gates) == {"mAP", "Labels"}
    assert all(gate.passed for gate in gates.values())


def test_the_figures_are_those_of_the_metrics(exact):
    candidate = broken(exact, 2, "shuffled")
    found = compare_predictions(exact, candidate, NEUTRAL, NEUTRAL)
    maps = [mean_average_precision(each.logits, exact.targets) for each in (exact, candidate)]
    assert found.drop == pytest.approx(maps[0] - maps[1])
    assert found.low < found.drop < found.high
    tags = [each.logits >= 0 for each in (exact, candidate)]
    assert found.flips == pytest.approx(tag_flips(*tags))
    flips = (tags[0] ^ tags[1]).sum(0)
    assert [label.flips for label in found.labels] == flips.tolist()
    assert [label.tags for label in found.labels] == tags[0].sum(0).tolist()
    per_photo = (tags[0] ^ tags[1]).sum(1)
    assert len(found.photos) == 10
    counts = [per_photo[photo.index] for photo in found.photos]
    assert counts == sorted(per_photo)[::-1][:10]
    first = found.photos[0]
    assert first.path == f"{first.index}.jpg"
    assert first.truth == tuple(np.array(LABELS)[exact.targets[first.index]])


def test_images_that_one_could_not_read_are_left_out(exact):
    rows = np.arange(N) != 7
    paths = tuple(path for path, keep in zip(exact.paths, rows, strict=True) if keep)
    shorter = judged_of(exact.logits[rows], exact.targets[rows], paths)
    found = compare_predictions(exact, shorter, NEUTRAL, NEUTRAL)
    assert (found.drop, found.flips, found.max_difference) == (0, 0, 0)


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        (Gates(max_latency_ms=10), {"Latency": True}),
        (Gates(max_latency_ms=9.9), {"Latency": False}),
        (Gates(max_memory_mb=200), {"Memory": True}),
        (Gates(max_memory_mb=199), {"Memory": False}),
        (Gates(), {}),
    ],
    ids=str,
)
def test_limits_are_judged_where_they_are_given(exact, limits, passed):
    found = check_gates(measured_of(exact), measured_of(exact), None, limits)
    assert {gate.name: gate.passed for gate in found} == passed


def test_the_gate_of_map_says_where_the_images_are_too_few(exact):
    few = dataclasses.replace(
        exact,
        paths=exact.paths[:25],
        logits=exact.logits[:25],
        targets=exact.targets[:25],
        ignored=exact.ignored[:25],
    )
    rng = np.random.default_rng(2)
    noisy = judged_of(few.logits + rng.normal(0, 1.5, few.logits.shape), few.targets)
    change = compare_predictions(few, noisy, NEUTRAL, NEUTRAL)
    for drop, text in ((change.high + 1, ""), (change.drop + 1e-9, "rule out a larger drop")):
        gate = gates_of(few, noisy, Gates(max_map_drop=100 * drop))["mAP"]
        assert gate.passed
        assert text in gate.text
        assert bool(text) == ("rule out" in gate.text)
    gate = gates_of(few, noisy, Gates(max_map_drop=100 * change.drop - 1e-4))["mAP"]
    assert not gate.passed
    assert "rule out a smaller drop" in gate.text
