"""Engines built with TensorRT for RTX, which needs no GPU for that: not with TensorRT itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal

import numpy as np
import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import graph_name
from patchct_edge.cli import console
from patchct_edge.errors import EngineError, UserError
from patchct_edge.export.graph import head_nodes
from patchct_edge.runtime.engines.compiled import read_compiled
from patchct_edge.runtime.engines.tensorrt import library
from patchct_edge.runtime.engines.tensorrt.build import BuildOptions, build

trt = pytest.importorskip("tensorrt_rtx")
onnx = pytest.importorskip("onnx")
FAST = BuildOptions((1, 2, 4))


def ignored(phase, done, steps):
    """Take the progress of a build."""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fp16"])
def test_every_graph_of_the_export_builds(exported_bundle, precision):
    phases = []
    graph = exported_bundle / graph_name(precision)
    plan, _ = build(trt, graph, FAST, b"", lambda phase, done, steps: phases.append((done, steps)))
    assert len(plan) > 10_000
    assert phases
    assert all(0 < done <= steps for done, steps in phases)


def parsed(path):
    """Return the network as TensorRT reads it."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(path)), parser.get_error(0).desc()
    return [network.get_layer(n) for n in range(network.num_layers)], (builder, network, parser)


def test_products_of_the_fp16_graph_are_in_fp16_but_for_the_head(exported_bundle):
    layers, _keep = parsed(exported_bundle / graph_name("fp16"))
    products = [each for each in layers if each.type == trt.LayerType.MATRIX_MULTIPLY]
    kinds = [each.get_output(0).dtype for each in products]
    in_float = [e.name for e, kind in zip(products, kinds, strict=True) if kind == trt.float32]
    assert kinds.count(trt.float16) >= 8
    assert set(in_float) <= head_nodes(onnx.load(exported_bundle / graph_name("fp32")))


def test_the_int8_graph_holds_its_pairs(exported_bundle):
    path = exported_bundle / graph_name("int8-fp16")
    layers, _keep = parsed(path)
    kinds = [each.type for each in layers]
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count(trt.LayerType.QUANTIZE) == operators.count("QuantizeLinear") > 0
    assert kinds.count(trt.LayerType.DEQUANTIZE) >= operators.count("QuantizeLinear")


def test_similarity_is_kept_only_when_it_is_asked_for(write_graph, tmp_path, monkeypatch):
    graph = write_graph(tmp_path / "tiny.onnx")
    dropped = []
    kept = trt.INetworkDefinition.unmark_output

    def unmark(network, tensor):
        dropped.append(tensor.name)
        return kept(network, tensor)

    monkeypatch.setattr(trt.INetworkDefinition, "unmark_output", unmark)
    build(trt, graph, BuildOptions((1, 1, 2), similarity=True), b"", ignored)
    assert dropped == []
    build(trt, graph, BuildOptions((1, 1, 2)), b"", ignored)
    assert dropped == ["similarity"]


def test_what_it_cannot_parse_names_the_node(write_graph, tmp_path):
    path = write_graph(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.name, product.domain = "NoSuchOperator", "my product", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"(?s)cannot parse tiny\.onnx.*NoSuchOperator") as caught:
        build(trt, path, FAST, b"", ignored)
    assert "my product" in str(caught.value)


def test_a_type_error_is_told(write_graph, tmp_path):
    path = write_graph(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    for constant in model.graph.initializer:
        if constant.name == "weights":
            half = onnx.numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(onnx.numpy_helper.from_array(half, "weights"))
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"(?s)cannot (parse|build) tiny\.onnx.*got:"):
        build(trt, path, FAST, b"", ignored)


def test_a_file_that_is_no_graph(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"cannot parse x\.onnx"):
        build(trt, tmp_path / "x.onnx", FAST, b"", ignored)


def test_a_build_is_stopped_by_an_interrupt(exported_bundle):
    steps = []

    def stop(phase, done, count):
        steps.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(trt, exported_bundle / graph_name("fp32"), FAST, b"", stop)
    assert len(steps) < 10


@pytest.mark.parametrize(
    "wrong", [{"batches": (2, 1, 4)}, {"batches": (0, 1, 1)}, {"workspace_mb": 0}], ids=str
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        BuildOptions(**wrong)


def test_the_command(run_cli, exported_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "x.patchct"
    shutil.copytree(exported_bundle, path)
    said = run_cli("compile", path, "--precision", "fp16,int8", "--batch", "4").stderr
    assert said.count("compiled tensorrt-rtx-") == 2
    bundle = Bundle(path)
    bundle.verify()
    records = read_compiled(bundle, "tensorrt")
    assert [(each.precision, each.compute_precision) for each in records] == [
        ("fp16", "fp16"),
        ("int8", "int8+fp16"),
    ]
    assert all(each.batches == (1, 4, 4) for each in records)
    shown = json.loads(run_cli("show", path, "--json").stdout)["engines"]
    assert {"tensorrt"} < {each["engine"] for each in shown}


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("--precision fp8", 2, "unknown precision"),
        ("--batch 8,4,2", 2, "not in order"),
        ("--batch many", 2, "one number or three"),
        ("--engine tensort", 2, "tensorrt"),
        ("--workspace 0", 2, "workspace"),
    ],
)
def test_what_a_user_can_solve(run_cli, exported_bundle, words, code, expected):
    found = run_cli("compile", exported_bundle, *words.split(), code=code)
    assert expected in found.stderr
    assert "Traceback" not in found.stderr


def test_without_the_library_the_install_line_is_named(run_cli, exported_bundle, monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    found = run_cli("compile", exported_bundle, code=3)
    assert "TensorRT is not installed" in found.stderr
    assert "pip install" in found.stderr


def test_without_a_driver_it_is_told_before_anything_is_made():
    with pytest.raises(EngineError, match=r"no NVIDIA driver|no such GPU|does not start"):
        library.query_device(99)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_build_stops_the_command(
    run_cli, exported_bundle, tmp_path, monkeypatch, number
):
    path = tmp_path / "x.patchct"
    shutil.copytree(exported_bundle, path)
    before = signal.getsignal(number)

    @contextlib.contextmanager
    def interrupted(text):
        yield lambda *step: os.kill(os.getpid(), number)

    monkeypatch.setattr(console, "phases", interrupted)
    found = run_cli("compile", path, "--precision", "fp32", code=130)
    assert "interrupted" in found.stderr
    assert not (path / "engines").exists()
    assert signal.getsignal(number) is before
    Bundle(path).verify()
