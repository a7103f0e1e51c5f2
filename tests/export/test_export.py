"""The whole export: what the bundle holds, what is recorded, and what a failed gate leaves."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import patchct_edge
from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.bundle.manifest import compute_fingerprint
from patchct_edge.datasets import read_dataset
from patchct_edge.errors import ExitCode, UserError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export import export as export_module
from patchct_edge.export.export import ExportOptions, StageGateError, export_bundle
from patchct_edge.export.graph import compute_prototypes, export_graph
from patchct_edge.export.quantization_images import PhotoSources
from patchct_edge.files import sha256
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.train.checkpoint import load_model, read_state
from patchct_edge.train.device import Normalize

OPEN = Gates(1, 1, 100, 1e9)
FP32 = ExportOptions(("fp32",), checkpoint="last")
FP16 = ExportOptions(("fp16",), checkpoint="last", gates=OPEN)


def quiet(_):
    pass


@pytest.fixture(scope="module")
def raw_graph(trained_run, tmp_path_factory):
    """The graph of the last epoch's weights as PyTorch exports it, which takes seconds."""
    model, state = load_model(trained_run, "last")
    path = tmp_path_factory.mktemp("raw") / "graph.onnx"
    export_graph(model, state.preprocessing, compute_prototypes(model), path)
    return path


@pytest.fixture
def graph_made(raw_graph, monkeypatch):
    """Export the last epoch in a moment."""
    monkeypatch.setattr(
        export_module, "export_graph", lambda *args: shutil.copy(raw_graph, args[-1])
    )


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    return Bundle(exported_bundle)


def test_what_the_bundle_holds(bundle):
    files = {
        path.relative_to(bundle.path).as_posix()
        for path in bundle.path.rglob("*")
        if path.is_file()
    }
    models = {f"model.{precision}.onnx" for precision in ("fp32", "fp16", "int8", "int8-fp16")}
    assert files == {"manifest.json", *models}
    assert set(bundle.manifest.files) == models
    bundle.verify()
    assert bundle.precisions() == ["fp32", "fp16", "int8"]
    left = [path.name for path in bundle.path.parent.iterdir() if path != bundle.path]
    assert left == []  # nothing aside, nothing failed


def test_what_the_manifest_says(bundle, trained_run, squares, label_table):
    _, state = read_state(trained_run)
    model, _ = load_model(trained_run, "last")
    manifest = bundle.manifest
    assert manifest.labels == state.labels == ("red", "green", "blue")
    assert manifest.prompts == state.prompts
    assert manifest.preprocessing == state.preprocessing
    assert manifest.label_source == label_table.name
    assert manifest.tau == pytest.approx(model.tau.item())
    assert manifest.grid == (4, 4)
    assert manifest.producer == f"patchct-edge {patchct_edge.__version__}"
    assert manifest.quantization_data == read_dataset(squares).fingerprint()
    graph = bundle.path / "model.fp32.onnx"
    assert manifest.fingerprint == compute_fingerprint(
        sha256(graph), manifest.labels, manifest.preprocessing, manifest.tau, manifest.grid
    )


def test_every_stage_is_recorded(bundle):
    stages = bundle.manifest.stages
    assert [(stage.name, stage.against) for stage in stages] == [
        ("graph", "model"),
        ("fp32", "graph"),
        ("fp16", "fp32"),
        ("int8", "fp32"),
        ("int8-fp16", "fp32"),
    ]
    libraries = [stage.engine.split()[0] for stage in stages]
    assert libraries == ["openvino", "openvino", "onnxruntime", "openvino", "onnxruntime"]
    for stage in stages:
        assert stage.images == 40
        assert stage.passed
        assert stage.gate
        assert stage.map > 0.9
        assert stage.map_low <= stage.map <= stage.map_high
    assert stages[0].max_difference < 1e-5
    assert 0 < stages[2].max_difference < 0.01
    assert stages[2].max_difference < stages[3].max_difference


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-4), ("fp16", 0.03), ("int8", 0.8)])
def test_the_bundle_scores_as_the_checkpoint(bundle, trained_run, squares, engine, precision, atol):
    """Photos through the preprocessing and the engine: the logits of the last epoch's weights."""
    model, state = load_model(trained_run, "last")
    paths = read_dataset(squares, split="val").paths[:6]
    pixels = np.stack([bundle.preprocessing.apply(images.decode(path)) for path in paths])
    with torch.inference_mode():
        expected = model(Normalize(state.preprocessing, "cpu")(torch.from_numpy(pixels)))
    with open_engine(
        bundle, EngineRequest(engine=engine, precision=precision, similarity=True)
    ) as running:
        found = running.infer(pixels)
    np.testing.assert_allclose(found.logits, expected.logits, atol=atol)
    np.testing.assert_allclose(found.similarity, expected.similarity[:, -1], atol=atol)


def test_exported_again_it_is_the_same_model(bundle, trained_run, tmp_path):
    manifest = export_bundle(trained_run, tmp_path / "again.patchct", FP32, quiet)
    assert manifest.fingerprint == bundle.manifest.fingerprint
    assert Bundle(tmp_path / "again.patchct").manifest.stages == manifest.stages


def test_best_and_last_are_different_models(bundle, trained_run, tmp_path):
    _, state = read_state(trained_run)
    assert state.best_epoch < state.epochs_done
    options = dataclasses.replace(FP32, checkpoint="best")
    manifest = export_bundle(trained_run, tmp_path / "best.patchct", options, quiet)
    assert manifest.fingerprint != bundle.manifest.fingerprint


@pytest.mark.usefixtures("graph_made")
def test_without_photos_the_comparison_is_on_noise(trained_run, tmp_path):
    said = []
    manifest = export_bundle(trained_run, tmp_path / "x.patchct", FP16, said.append)
    assert [stage.name for stage in manifest.stages] == ["graph", "fp32", "fp16"]
    assert {stage.images for stage in manifest.stages} == {32}
    assert {stage.map for stage in manifest.stages} == {None}
    assert manifest.quantization_data is None
    assert Bundle(tmp_path / "x.patchct").precisions() == ["fp32", "fp16"]
    assert said[:2] == ["reading the run", "prototypes, and the reference in PyTorch"]
    assert len(said) == 8


@pytest.mark.usefixtures("graph_made")
def test_a_new_bundle_takes_the_place_of_the_old(tiny_bundle, trained_run, tmp_path):
    target = tmp_path / "x.patchct"
    shutil.copytree(tiny_bundle, target)
    manifest = export_bundle(trained_run, target, FP32, quiet)
    assert Bundle(target).manifest.fingerprint == manifest.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["x.patchct"]


@pytest.mark.usefixtures("graph_made")
def test_a_failed_gate_leaves_the_old_bundle_and_what_was_made(
    tiny_bundle, trained_run, squares, tmp_path
):
    target, failed = tmp_path / "x.patchct", tmp_path / "x.patchct.failed"
    shutil.copytree(tiny_bundle, target)
    gates = dataclasses.replace(OPEN, max_flips=-1)
    options = dataclasses.replace(
        FP32, precisions=("int8",), photos=PhotoSources(squares), gates=gates
    )
    with pytest.raises(StageGateError, match=r"too far.*: 'int8', 'int8-fp16'") as caught:
        export_bundle(trained_run, target, options, quiet)
    assert caught.value.exit_code == ExitCode.GATE_FAILED == 4
    assert [stage.passed for stage in caught.value.stages] == [True, True, False, False]
    for word in ("flips <= -1%", "mAP drop", str(failed), "leave it out: --precision fp32"):
        assert word in str(caught.value)
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tiny_bundle, target)
    )
    assert after == before
    left = Bundle(failed)
    left.verify()
    assert left.precisions() == ["fp32", "int8"]
    assert [stage.name for stage in left.failed_stages("int8")] == ["int8"]
    with open_engine(left) as engine:  # what did not pass is not taken by itself
        assert engine.record.precision == "fp32"


@pytest.mark.usefixtures("graph_made")
@pytest.mark.parametrize(
    "gates", [{"max_fp32_difference": -1}, {"max_fp16_difference": -1}], ids=["fp32", "fp16"]
)
def test_every_stage_before_the_failed_one_is_still_shown(trained_run, tmp_path, gates):
    options = dataclasses.replace(FP16, gates=dataclasses.replace(OPEN, **gates))
    with pytest.raises(StageGateError) as caught:
        export_bundle(trained_run, tmp_path / "x.patchct", options, quiet)
    assert [stage.name for stage in caught.value.stages] == ["graph", "fp32", "fp16"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.patchct.failed"]
    found = json.loads((tmp_path / "x.patchct.failed" / "manifest.json").read_text())
    assert [stage["passed"] for stage in found["stages"]] == [
        stage.passed for stage in caught.value.stages
    ]


@pytest.mark.parametrize("source", ["nothing", "val alone"])
def test_int8_asks_for_photos_to_calibrate_with(trained_run, write_squares, tmp_path, source):
    calibration = None if source == "nothing" else write_squares(tmp_path / "photos", val=8)
    options = ExportOptions(("fp32", "int8"), PhotoSources(calibration))
    with pytest.raises(UserError, match="INT8 needs photos"):
        export_bundle(trained_run, tmp_path / "x.patchct", options, quiet)
    assert not list(tmp_path.glob("*.patchct*"))


@pytest.mark.usefixtures("graph_made")
def test_val_alone_is_enough_to_compare_on(trained_run, write_squares, tmp_path):
    photos = PhotoSources(write_squares(tmp_path / "photos", val=8))
    options = dataclasses.replace(FP32, photos=photos)
    manifest = export_bundle(trained_run, tmp_path / "x.patchct", options, quiet)
    assert [stage.images for stage in manifest.stages] == [8, 8]
    assert manifest.stages[0].map is not None


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("x.bundle", {}, r"must end in \.patchct"),
        ("x.patchct", {"checkpoint": "latest"}, "latest"),
        ("x.patchct", {"photos": PhotoSources(Path("nowhere"))}, "no such data ?set"),
    ],
)
def test_what_cannot_be_exported(trained_run, tmp_path, target, changes, message):
    with pytest.raises(UserError, match=message):
        export_bundle(trained_run, tmp_path / target, dataclasses.replace(FP32, **changes), quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("graph_made")
def test_fp16_that_overflows_fails_although_no_score_shows_it(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "find_overflows", lambda graph, images: ["mlp_1"])
    with pytest.raises(StageGateError, match="too far from the stage before: 'fp16'") as caught:
        export_bundle(trained_run, tmp_path / "x.patchct", FP16, quiet)
    assert "the first is mlp_1" in str(caught.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no finished epoch"):
        export_bundle(tmp_path, tmp_path / "x.patchct", FP32, quiet)
