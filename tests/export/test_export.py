"""The whole export: the files and records of the bundle, and what a failed gate leaves."""

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

OPEN_GATES = Gates(1, 1, 100, 1e9)  # every stage passes
FP32 = ExportOptions(("fp32",), checkpoint="last")
FP16 = ExportOptions(("fp16",), checkpoint="last", gates=OPEN_GATES)


class StageRecorder:
    """A Progress that records the names and totals of the stages."""

    def __init__(self):
        self.totals = {}

    def stage(self, name, total):
        self.totals[name] = total
        return lambda done, detail="": None


@pytest.fixture(scope="module")
def raw_graph(trained_run, tmp_path_factory):
    """The graph of the last epoch as PyTorch exports it, which takes seconds."""
    model, state = load_model(trained_run, "last")
    path = tmp_path_factory.mktemp("raw") / "graph.onnx"
    export_graph(model, state.preprocessing, compute_prototypes(model), path)
    return path


@pytest.fixture
def fast_export(raw_graph, monkeypatch):
    """Copy the graph of the last epoch in place of exporting it."""
    monkeypatch.setattr(
        export_module, "export_graph", lambda *args: shutil.copy(raw_graph, args[-1])
    )


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    return Bundle(exported_bundle)


def test_the_bundle_holds_a_manifest_and_all_graphs(bundle):
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
    others = [path.name for path in bundle.path.parent.iterdir() if path != bundle.path]
    assert others == []  # no temporary folder, no failed bundle


def test_the_manifest_describes_the_run(bundle, trained_run, squares, label_table):
    _, state = read_state(trained_run)
    model, _ = load_model(trained_run, "last")
    manifest = bundle.manifest
    assert manifest.labels == state.labels == ("red", "green", "blue")
    assert manifest.prompts == state.prompts
    assert manifest.preprocessing == state.preprocessing
    assert manifest.label_encoder == label_table.name
    assert manifest.tau == pytest.approx(model.tau.item())
    assert manifest.grid == (4, 4)
    assert manifest.producer == f"patchct-edge {patchct_edge.__version__}"
    assert manifest.quantization_data == read_dataset(squares).fingerprint()
    graph = bundle.path / "model.fp32.onnx"
    assert manifest.fingerprint == compute_fingerprint(
        sha256(graph), manifest.labels, manifest.preprocessing, manifest.tau, manifest.grid
    )


def test_every_stage_is_recorded_with_its_figures(bundle):
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
    ) as open_bundle:
        outputs = open_bundle.infer(pixels)
    np.testing.assert_allclose(outputs.logits, expected.logits, atol=atol)
    assert outputs.similarity is not None
    np.testing.assert_allclose(outputs.similarity, expected.similarity[:, -1], atol=atol)


def test_a_second_export_has_the_same_fingerprint(bundle, trained_run, tmp_path):
    manifest = export_bundle(trained_run, tmp_path / "again.patchct", FP32)
    assert manifest.fingerprint == bundle.manifest.fingerprint
    assert Bundle(tmp_path / "again.patchct").manifest.stages == manifest.stages


def test_best_and_last_are_different_models(bundle, trained_run, tmp_path):
    _, state = read_state(trained_run)
    assert state.best_epoch < state.epochs_done
    options = dataclasses.replace(FP32, checkpoint="best")
    manifest = export_bundle(trained_run, tmp_path / "best.patchct", options)
    assert manifest.fingerprint != bundle.manifest.fingerprint


@pytest.mark.usefixtures("fast_export")
def test_without_photos_stages_are_compared_on_noise(trained_run, tmp_path):
    progress = StageRecorder()
    manifest = export_bundle(trained_run, tmp_path / "x.patchct", FP16, progress)
    assert [stage.name for stage in manifest.stages] == ["graph", "fp32", "fp16"]
    assert {stage.images for stage in manifest.stages} == {32}
    assert {stage.map for stage in manifest.stages} == {None}
    assert manifest.quantization_data is None
    assert Bundle(tmp_path / "x.patchct").precisions() == ["fp32", "fp16"]
    assert progress.totals == {
        "reference in PyTorch": 32,
        "graph": 1,
        "graph: parity": 32,
        "fp32": 1,
        "fp32: parity": 32,
        "fp16": 1,
        "fp16: parity": 32,
    }


@pytest.mark.usefixtures("fast_export")
def test_a_new_bundle_replaces_the_old_one(tiny_bundle, trained_run, tmp_path):
    target = tmp_path / "x.patchct"
    shutil.copytree(tiny_bundle, target)
    manifest = export_bundle(trained_run, target, FP32)
    assert Bundle(target).manifest.fingerprint == manifest.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["x.patchct"]


@pytest.mark.usefixtures("fast_export")
def test_a_failed_gate_keeps_the_old_bundle_and_the_failed_one(
    tiny_bundle, trained_run, squares, tmp_path
):
    target, failed = tmp_path / "x.patchct", tmp_path / "x.patchct.failed"
    shutil.copytree(tiny_bundle, target)
    gates = dataclasses.replace(OPEN_GATES, max_flips=-1)
    options = dataclasses.replace(
        FP32, precisions=("int8",), photos=PhotoSources(squares), gates=gates
    )
    with pytest.raises(StageGateError, match=r"gate failed: 'int8', 'int8-fp16'") as caught:
        export_bundle(trained_run, target, options)
    assert caught.value.exit_code == ExitCode.GATE_FAILED == 4
    assert [stage.passed for stage in caught.value.stages] == [True, True, False, False]
    for word in ("flips <= -1%", "mAP drop", str(failed), "export without it: --precision fp32"):
        assert word in str(caught.value)
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tiny_bundle, target)
    )
    assert after == before
    failed_bundle = Bundle(failed)
    failed_bundle.verify()
    assert failed_bundle.precisions() == ["fp32", "int8"]
    assert [stage.name for stage in failed_bundle.failed_stages("int8")] == ["int8"]
    with open_engine(failed_bundle) as engine:  # a failed precision runs only on request
        assert engine.record.precision == "fp32"


@pytest.mark.usefixtures("fast_export")
@pytest.mark.parametrize(
    "gates", [{"max_fp32_difference": -1}, {"max_fp16_difference": -1}], ids=["fp32", "fp16"]
)
def test_the_error_carries_every_stage(trained_run, tmp_path, gates):
    options = dataclasses.replace(FP16, gates=dataclasses.replace(OPEN_GATES, **gates))
    with pytest.raises(StageGateError) as caught:
        export_bundle(trained_run, tmp_path / "x.patchct", options)
    assert [stage.name for stage in caught.value.stages] == ["graph", "fp32", "fp16"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.patchct.failed"]
    manifest = json.loads((tmp_path / "x.patchct.failed" / "manifest.json").read_text())
    assert [stage["passed"] for stage in manifest["stages"]] == [
        stage.passed for stage in caught.value.stages
    ]


@pytest.mark.parametrize("source", ["nothing", "val alone"])
def test_int8_needs_photos_to_quantize_with(trained_run, write_squares, tmp_path, source):
    photos = None if source == "nothing" else write_squares(tmp_path / "photos", val=8)
    options = ExportOptions(("fp32", "int8"), PhotoSources(photos))
    with pytest.raises(UserError, match="INT8 needs photos"):
        export_bundle(trained_run, tmp_path / "x.patchct", options)
    assert not list(tmp_path.glob("*.patchct*"))


@pytest.mark.usefixtures("fast_export")
def test_a_val_split_alone_is_enough_to_compare_on(trained_run, write_squares, tmp_path):
    photos = PhotoSources(write_squares(tmp_path / "photos", val=8))
    options = dataclasses.replace(FP32, photos=photos)
    manifest = export_bundle(trained_run, tmp_path / "x.patchct", options)
    assert [stage.images for stage in manifest.stages] == [8, 8]
    assert manifest.stages[0].map is not None


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("x.bundle", {}, r"must end in \.patchct"),
        ("x.patchct", {"checkpoint": "latest"}, "latest"),
        ("x.patchct", {"photos": PhotoSources(Path("nowhere"))}, "no such dataset"),
    ],
)
def test_wrong_options_are_refused(trained_run, tmp_path, target, changes, message):
    with pytest.raises(UserError, match=message):
        export_bundle(trained_run, tmp_path / target, dataclasses.replace(FP32, **changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fast_export")
def test_an_fp16_overflow_fails_even_if_no_score_shows_it(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "find_overflows", lambda graph, images: ["mlp_1"])
    with pytest.raises(StageGateError, match="gate failed: 'fp16'") as caught:
        export_bundle(trained_run, tmp_path / "x.patchct", FP16)
    assert "the first is mlp_1" in str(caught.value)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished epoch"):
        export_bundle(tmp_path, tmp_path / "x.patchct", FP32)
