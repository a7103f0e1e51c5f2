"""INT8 graphs: symmetric QDQ around the encoder's matrix products, in both CPU engines."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from patchct_edge.bundle import Bundle, Calibration, Preprocessing
from patchct_edge.bundle.precisions import graph_name
from patchct_edge.datasets import read_dataset
from patchct_edge.errors import GateError
from patchct_edge.export import int8
from patchct_edge.export.graph import find_head_nodes
from patchct_edge.export.int8 import quantize_to_int8
from patchct_edge.export.parity import ParityImages
from patchct_edge.export.sensitivity import group_nodes, measure_sensitivity
from patchct_edge.images import decode
from patchct_edge.runtime.engines.onnxruntime import ONNXRuntimeEngine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine

QDQ = ("QuantizeLinear", "DequantizeLinear")


@pytest.fixture(scope="module", params=["vit", "segformer"])
def graphs(request, exported_bundle, export_random, random_images, tmp_path_factory):
    """The path of a float32 graph and of its INT8 form."""
    if request.param == "vit":
        return exported_bundle / "model.fp32.onnx", exported_bundle / "model.int8.onnx"
    source = export_random("segformer").path
    target = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    quantize_to_int8(source, target, random_images(16))
    return source, target


class Wiring:
    """Which nodes produce and read each tensor of a graph."""

    def __init__(self, path):
        graph = onnx.load(path)
        self.nodes, self.head = list(graph.graph.node), find_head_nodes(graph)
        self.values = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.opsets = {opset.domain for opset in graph.opset_import}

    def is_dequantized(self, name):
        return self.comes_from(name, "DequantizeLinear")

    def comes_from(self, name, op_type):
        """Whether an operator of that type produced a tensor, but for reshaping and scaling."""
        while (node := self.producer.get(name)) is not None:
            if node.op_type not in ("Reshape", "Transpose", "Split", "Identity", "Mul"):
                return node.op_type == op_type
            name = node.input[0]
        return False


@pytest.fixture(scope="module")
def wiring(graphs):
    return Wiring(graphs[1])


def test_all_quantization_is_symmetric_int8(wiring):
    pairs = [node for node in wiring.nodes if node.op_type in QDQ]
    assert len(pairs) > 20
    for node in pairs:
        zero_point = wiring.values[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    assert wiring.opsets == {""}  # no operator of one runtime alone


def test_weights_are_stored_in_int8(wiring, graphs):
    stored = [w for name, w in wiring.values.items() if name.startswith("q_")]
    assert {w.dtype for w in stored} == {np.dtype(np.int8)}
    assert max(np.abs(w.astype(int)).max() for w in stored) == 127
    sizes = [path.stat().st_size for path in graphs]
    assert sizes[1] < sizes[0]


def test_the_products_of_the_encoder_are_quantized(wiring):
    """Both inputs of every product with weights."""
    products = [
        node
        for node in wiring.nodes
        if node.op_type in ("MatMul", "Gemm") and node.name not in wiring.head
    ]
    read_gelu = [n for n in products if wiring.comes_from(n.input[0], "Gelu")]
    assert len(read_gelu) == 2  # the second products of the MLPs, one a layer, stay in float
    products = [n for n in products if n not in read_gelu]
    weighted = [n for n in products if wiring.producer[n.input[1]].op_type == "DequantizeLinear"]
    assert len(weighted) >= 8
    for node in products:
        if node in weighted:
            assert wiring.is_dequantized(node.input[0]), node.name
        else:  # of attention: neither side may be a stored weight
            assert wiring.producer[node.input[1]].op_type in ("Transpose", "Reshape")


@pytest.mark.parametrize("kind", ["Conv", "Softmax", "LayerNormalization", "head"])
def test_these_nodes_stay_in_float(wiring, kind):
    float_nodes = [
        node
        for node in wiring.nodes
        if (node.name in wiring.head if kind == "head" else node.op_type == kind)
    ]
    assert float_nodes
    for node in float_nodes:
        assert node.op_type not in QDQ
        assert not [name for name in node.input if wiring.is_dequantized(name)], node.name
    read_by_head = {"logits", "similarity"} | {
        name for node in wiring.nodes if node.name in wiring.head for name in node.input
    }
    if kind == "head":
        outputs = {name for node in float_nodes for name in node.output}
        assert outputs <= read_by_head


@pytest.fixture(scope="module")
def photos(squares):
    data = read_dataset(squares, split="val")
    preprocessing = Preprocessing(32)
    return np.stack([preprocessing.apply(decode(path)) for path in data.paths])


@pytest.mark.parametrize("engine", [OpenVINOEngine, ONNXRuntimeEngine])
def test_both_engines_stay_close_to_fp32(exported_bundle, photos, engine):
    scores = []
    for engine_class, precision in ((ONNXRuntimeEngine, "fp32"), (engine, "int8")):
        path = exported_bundle / f"model.{precision}.onnx"
        with engine_class(path, precision) as open_graph:
            scores.append(Calibration.default(3).scores(open_graph.infer(photos).logits))
    difference = np.abs(scores[1] - scores[0])
    assert difference.mean() < 0.02
    assert 0 < difference.max() < 0.2


def test_scales_depend_on_the_photos_and_stdout_stays_empty(
    export_random, random_images, tmp_path, capfd
):
    source, scales = export_random("vit").path, []
    for name, photos in (("light", random_images(4)), ("dark", random_images(4) // 16)):
        quantize_to_int8(source, tmp_path / name, photos)
        floats = [t for t in onnx.load(tmp_path / name).graph.initializer if t.data_type == 1]
        scales.append({t.name: list(t.float_data) for t in floats if t.name.startswith("scale_")})
    assert scales[0].keys() == scales[1].keys()
    assert scales[0] != scales[1]
    assert capfd.readouterr().out == ""


def test_a_graph_with_nothing_to_quantize_is_refused(export_random, random_images, tmp_path):
    all_nodes = {node.name for node in onnx.load(export_random("vit").path).graph.node}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "find_head_nodes", lambda _: all_nodes)
        with pytest.raises(GateError, match="nothing in the graph"):
            quantize_to_int8(export_random("vit").path, tmp_path / "x.onnx", random_images(4))
    assert not (tmp_path / "x.onnx").exists()


def test_sensitivity_is_measured_for_every_group(exported_bundle, squares):
    source = exported_bundle / graph_name("fp32")
    nodes_by_group = group_nodes(onnx.load(source))
    assert {"head", "convolutions", "attention products", "MLP, second product"} <= set(
        nodes_by_group
    )
    names = [name for nodes in nodes_by_group.values() for name in nodes]
    assert len(names) == len(set(names))
    dataset = read_dataset(squares, split="val")
    images = np.stack([Bundle(exported_bundle).preprocessing.read(path) for path in dataset.paths])
    stages = list(
        measure_sensitivity(source, images[:24], ParityImages(images, *dataset.build_targets()))
    )
    assert [stage.name for stage in stages] == list(nodes_by_group)
    assert all(stage.map is not None and stage.flips >= 0 for stage in stages)
