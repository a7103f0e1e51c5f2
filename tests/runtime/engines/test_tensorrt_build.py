"""Building engines with TensorRT for RTX, which, unlike TensorRT, needs no GPU to build."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge.bundle.precisions import graph_name
from patchct_edge.errors import EngineError, UserError
from patchct_edge.export.graph import find_head_nodes
from patchct_edge.progress import NO_PROGRESS
from patchct_edge.runtime.engines.tensorrt import library
from patchct_edge.runtime.engines.tensorrt.build import BuildOptions, build

trt = pytest.importorskip("tensorrt_rtx")
onnx = pytest.importorskip("onnx")
FAST = BuildOptions((1, 2, 4))


class RecordingProgress:
    """Keeps every step of a build as (phase, done, total)."""

    def __init__(self):
        self.steps = []

    def stage(self, name, total):
        return lambda done, detail="": self.steps.append((name, done, total))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fp16"])
def test_every_graph_of_the_export_builds(exported_bundle, precision):
    progress = RecordingProgress()
    plan, _ = build(trt, exported_bundle / graph_name(precision), FAST, b"", progress)
    assert len(plan) > 10_000
    assert progress.steps
    assert all(0 < done <= total for _, done, total in progress.steps)


def parse_layers(path):
    """Return the layers that TensorRT reads from a graph, and the objects that own them."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), parser.get_error(0).desc()
    return [network.get_layer(n) for n in range(network.num_layers)], (builder, network, parser)


def test_the_fp16_graph_computes_products_in_fp16_except_in_the_head(exported_bundle):
    layers, _owners = parse_layers(exported_bundle / graph_name("fp16"))
    products = [layer for layer in layers if layer.type == trt.LayerType.MATRIX_MULTIPLY]
    dtypes = {layer.name: layer.get_output(0).dtype for layer in products}
    fp32_names = {name for name, dtype in dtypes.items() if dtype == trt.float32}
    assert [layer.get_output(0).dtype for layer in products].count(trt.float16) >= 8
    assert fp32_names <= find_head_nodes(onnx.load(exported_bundle / graph_name("fp32")))


def test_the_int8_graph_keeps_its_qdq_pairs(exported_bundle):
    path = exported_bundle / graph_name("int8-fp16")
    layers, _owners = parse_layers(path)
    types = [layer.type for layer in layers]
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert types.count(trt.LayerType.QUANTIZE) == operators.count("QuantizeLinear") > 0
    assert types.count(trt.LayerType.DEQUANTIZE) >= operators.count("QuantizeLinear")


def test_similarity_is_kept_only_on_request(write_graph, tmp_path, monkeypatch):
    graph = write_graph(tmp_path / "tiny.onnx")
    dropped = []
    unmark_output = trt.INetworkDefinition.unmark_output

    def record_and_unmark(network, tensor):
        dropped.append(tensor.name)
        return unmark_output(network, tensor)

    monkeypatch.setattr(trt.INetworkDefinition, "unmark_output", record_and_unmark)
    build(trt, graph, BuildOptions((1, 1, 2), similarity=True), b"", NO_PROGRESS)
    assert dropped == []
    build(trt, graph, BuildOptions((1, 1, 2)), b"", NO_PROGRESS)
    assert dropped == ["similarity"]


def test_a_parse_error_names_the_node(write_graph, tmp_path):
    path = write_graph(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.name, product.domain = "NoSuchOperator", "my product", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"(?s)cannot parse tiny\.onnx.*NoSuchOperator") as caught:
        build(trt, path, FAST, b"", NO_PROGRESS)
    assert "my product" in str(caught.value)


def test_a_type_error_in_the_graph_is_reported(write_graph, tmp_path):
    path = write_graph(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    for constant in model.graph.initializer:
        if constant.name == "weights":
            half = onnx.numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(onnx.numpy_helper.from_array(half, "weights"))
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"(?s)cannot (parse|build) tiny\.onnx.*got:"):
        build(trt, path, FAST, b"", NO_PROGRESS)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"cannot parse x\.onnx"):
        build(trt, tmp_path / "x.onnx", FAST, b"", NO_PROGRESS)


def test_an_interrupt_stops_a_build(exported_bundle):
    phases = []

    class InterruptingProgress:
        def stage(self, name, total):
            phases.append(name)
            return interrupt

    def interrupt(done, detail=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(trt, exported_bundle / graph_name("fp32"), FAST, b"", InterruptingProgress())
    assert 1 <= len(phases) < 10


@pytest.mark.parametrize(
    "options", [{"batches": (2, 1, 4)}, {"batches": (0, 1, 1)}, {"workspace_mb": 0}], ids=str
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError):
        BuildOptions(**options)


def test_a_missing_driver_is_reported():
    with pytest.raises(EngineError, match=r"no NVIDIA driver|no such GPU|does not start"):
        library.query_device(99)
