"""The comparison of stages: its figures against NumPy, and every gate at its limit."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.parity import (
    ParityImages,
    StageRun,
    compare_stage,
    run_engine,
    run_reference,
)
from patchct_edge.metrics import mean_average_precision
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine

Runs: TypeAlias = tuple[StageRun, StageRun]  # a stage and its reference
N, M = 80, 4
OPEN_GATES = Gates(1, 1, 100, 1e9)  # every stage passes


@pytest.fixture(scope="module")
def parity():
    """Random targets, some of them ignored; the pixels are not used."""
    rng = np.random.default_rng(0)
    targets = rng.random((N, M)) < 0.4
    return ParityImages(
        np.zeros((N, 1, 1, 3), np.uint8), targets, targets & (rng.random((N, M)) < 0.1)
    )


@pytest.fixture(scope="module")
def unlabeled(parity):
    return ParityImages(parity.images)


@pytest.fixture(scope="module")
def runs(parity: ParityImages) -> Runs:
    """A stage and its better reference."""
    assert parity.targets is not None
    rng = np.random.default_rng(1)
    logits = (rng.normal(0, 2, (N, M)) + 2 * parity.targets).astype(np.float32)
    noisy = logits + rng.normal(0, 0.7, (N, M)).astype(np.float32)
    return StageRun("int8", "engine 1 int8", noisy), StageRun("fp32", "engine 1 fp32", logits)


def rename_stage(runs: Runs, name: str) -> Runs:
    return dataclasses.replace(runs[0], name=name), runs[1]


def test_the_figures_match_numpy_and_scikit_learn(runs: Runs, parity):
    stage = compare_stage(*runs, parity, OPEN_GATES)
    new, old = (1 / (1 + np.exp(-run.logits.astype(float))) for run in runs)
    assert (stage.name, stage.against, stage.engine) == ("int8", "fp32", "engine 1 int8")
    assert stage.images == N
    assert stage.max_difference == pytest.approx(np.abs(new - old).max(), rel=1e-5)
    assert stage.mean_difference == pytest.approx(np.abs(new - old).mean(), rel=1e-5)
    aps = [
        [
            average_precision_score(truth[counted], run.logits[counted, m])
            for m, (truth, counted) in enumerate(
                zip(parity.targets.T, ~parity.ignored.T, strict=True)
            )
        ]
        for run in runs
    ]
    new_map, old_map = np.mean(aps, axis=1)
    assert stage.map == pytest.approx(new_map)
    assert stage.map_drop == pytest.approx(old_map - new_map)
    assert stage.map_drop is not None
    assert stage.map_drop > 0


def test_flips_are_lost_and_added_tags_per_tag_of_the_reference(unlabeled):
    """One of three tags is lost and one is added: 2 / 3. A score of 0.5 is a tag."""
    reference = np.array([[3, 0, -1, -1], [-2, 2, -0.1, -3]], np.float32)
    stage = np.array([[4, -0.1, -1, -2], [-1, 1, 0, -9]], np.float32)
    runs = StageRun("int8", "", stage), StageRun("fp32", "", reference)
    assert compare_stage(*runs, unlabeled, OPEN_GATES).flips == pytest.approx(2 / 3)


def test_the_interval_is_the_bootstrap_of_the_map(runs: Runs, parity):
    stage = compare_stage(*runs, parity, OPEN_GATES)
    logits, targets, ignored = runs[0].logits, parity.targets, parity.ignored
    expected = bootstrap_interval(
        lambda rows: mean_average_precision(logits[rows], targets[rows], ignored[rows]), N
    )
    assert (stage.map_low, stage.map_high) == expected
    assert stage.map_low is not None
    assert stage.map is not None
    assert stage.map_high is not None
    assert stage.map_low < stage.map < stage.map_high


GATES = [
    ("graph", "max_fp32_difference", "max_difference", 1),
    ("fp32", "max_fp32_difference", "max_difference", 1),
    ("fp16", "max_fp16_difference", "max_difference", 1),
    ("int8", "max_flips", "flips", 100),
    ("int8", "max_map_drop", "map_drop", 100),
    ("int8-fp16", "max_flips", "flips", 100),
    ("int8-fp16", "max_map_drop", "map_drop", 100),
]


@pytest.mark.parametrize(("name", "gate", "figure", "unit"), GATES)
def test_a_gate_passes_at_its_limit_and_fails_beyond(runs: Runs, parity, name, gate, figure, unit):
    stage_run, reference = rename_stage(runs, name)
    value = unit * getattr(compare_stage(stage_run, reference, parity, OPEN_GATES), figure)
    assert value > 0
    for limit, passes in ((value, True), (np.nextafter(value, 0), False), (-1, False)):
        gates = dataclasses.replace(OPEN_GATES, **{gate: limit})
        stage = compare_stage(stage_run, reference, parity, gates)
        assert stage.passed == passes
        assert stage.gate


@pytest.mark.parametrize("name", ["graph", "fp32", "fp16", "int8", "int8-fp16"])
def test_the_gates_of_other_stages_do_not_count(runs: Runs, parity, name):
    own = {gate for stage, gate, *_ in GATES if stage == name}
    fields = [field.name for field in dataclasses.fields(Gates)]
    others = dataclasses.replace(OPEN_GATES, **{gate: -1 for gate in fields if gate not in own})
    assert compare_stage(*rename_stage(runs, name), parity, others).passed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fp32", "max difference <= 0.0001"),
        ("fp16", "max difference <= 0.01"),
        ("int8", "mAP drop <= 0.5 points, flips <= 3%"),
    ],
)
def test_a_stage_names_its_gate(runs: Runs, parity, name, words):
    assert compare_stage(*rename_stage(runs, name), parity, Gates()).gate == words


def test_a_better_stage_passes_any_limit_of_the_drop(runs: Runs, parity):
    reference, better = runs
    better = dataclasses.replace(better, name="int8")
    stage = compare_stage(
        better, reference, parity, dataclasses.replace(OPEN_GATES, max_map_drop=0)
    )
    assert stage.map_drop is not None
    assert stage.map_drop < 0
    assert stage.passed


def remove_positives(parity):
    return dataclasses.replace(parity, targets=parity.targets & False)


@pytest.mark.parametrize("change", [lambda p: ParityImages(p.images), remove_positives])
def test_without_labels_there_is_no_map_and_no_gate_for_it(runs: Runs, parity, change):
    strict = dataclasses.replace(OPEN_GATES, max_map_drop=-1)
    stage = compare_stage(*runs, change(parity), strict)
    assert stage.passed
    assert (stage.map, stage.map_low, stage.map_high, stage.map_drop) == (None,) * 4
    assert "mAP" not in stage.gate


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_scores_fail_every_gate(runs: Runs, parity, name, broken):
    """An FP16 overflow is a failed gate with figures, not a crash."""
    logits = runs[0].logits.copy()
    logits[3, 1] = broken
    stage = compare_stage(StageRun(name, "", logits), runs[1], parity, OPEN_GATES)
    assert not stage.passed
    assert np.isfinite([stage.max_difference, stage.mean_difference, stage.flips]).all()
    assert (stage.map, stage.map_drop) == (None, None)


def test_an_engine_runs_all_images_in_order():
    images = np.random.default_rng(0).integers(0, 256, (21, 4, 4, 3), dtype=np.uint8)
    run = run_engine("int8", lambda: FakeEngine(8, 3, 4), ParityImages(images))
    expected = images.mean(axis=(1, 2)) / 255 * 8 - 4
    np.testing.assert_allclose(run.logits, expected, atol=1e-5)
    assert (run.name, run.engine) == ("int8", "fake 1 fp32")


def test_the_reference_is_pytorch(export_random):
    exported = export_random("vit")
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    run = run_reference(exported.torch, ParityImages(images))
    assert run.name == "model"
    assert run.engine.startswith("torch 2")
    assert run.logits.shape == (11, 3)
    engine = run_engine("fp32", lambda: OpenVINOEngine(exported.path, "fp32"), ParityImages(images))
    np.testing.assert_allclose(engine.logits, run.logits, atol=1e-5)
