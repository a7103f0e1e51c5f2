"""FP16 graphs: which values are rounded, which are not, and how little the outputs change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from patchct_edge.bundle import Bundle
from patchct_edge.export.fp16 import convert_to_fp16, find_overflows
from patchct_edge.export.graph import find_head_nodes
from patchct_edge.runtime.engines.onnxruntime import ONNXRuntimeEngine

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
HEAD_VALUES = (
    "model.project_image.",
    "model.adapt.",
    "prototypes",
    "model.a",
    "model.b",
    "model.g",
)


@pytest.fixture(
    scope="module", params=["fp16 of vit", "fp16 of segformer", "fp16 of a bundle", "int8-fp16"]
)
def graphs(request, tmp_path_factory, export_random, exported_bundle):
    """A float32 (or INT8) graph and its FP16 form."""
    if request.param == "int8-fp16":
        return exported_bundle / "model.int8.onnx", exported_bundle / "model.int8-fp16.onnx"
    if request.param == "fp16 of a bundle":
        return exported_bundle / "model.fp32.onnx", exported_bundle / "model.fp16.onnx"
    source = export_random(request.param.split()[-1]).path
    target = tmp_path_factory.mktemp("fp16") / "model.fp16.onnx"
    convert_to_fp16(source, target)
    return source, target


@pytest.fixture(scope="module")
def fp16_graph(graphs):
    return onnx.load(graphs[1])


def test_the_head_alone_is_float32(fp16_graph, element_types):
    types, head = element_types(fp16_graph), find_head_nodes(fp16_graph)
    nodes = [node for node in fp16_graph.graph.node if node.name in head]
    assert {"MatMul", "Gemm", "Softmax", "Gelu", "ReduceL2"} <= {node.op_type for node in nodes}
    assert "Cast" not in {node.op_type for node in nodes}
    floats = {types[name] for node in nodes for name in (*node.input, *node.output)} - {
        TensorProto.INT64
    }
    assert floats == {FLOAT}


def test_everything_else_is_float16(fp16_graph, element_types):
    types, head = element_types(fp16_graph), find_head_nodes(fp16_graph)
    outside = [node for node in fp16_graph.graph.node if node.name not in head]
    assert {"Conv", "LayerNormalization", "Softmax"} <= {node.op_type for node in outside}
    for node in outside:
        if node.op_type != "Cast":  # from uint8, and to the head's float32
            kinds = {types[name] for name in (*node.input, *node.output) if name}
            assert FLOAT not in kinds, node.name
    casts = [node for node in outside if node.op_type == "Cast"]
    read_by_head = {
        name for node in fp16_graph.graph.node if node.name in head for name in node.input
    }
    assert casts[0].input == ["image"]
    assert all(cast.output[0] in read_by_head for cast in casts[1:])


def test_initializers_are_rounded_outside_the_head_only(fp16_graph):
    kinds = {t.name: t.data_type for t in fp16_graph.graph.initializer}
    head = [name for name in kinds if name.startswith(HEAD_VALUES)]
    assert {"model.b", "model.g", "prototypes", "model.project_image.bias"} <= set(head)
    assert {kinds[name] for name in head} == {FLOAT}
    encoder = [name for name in kinds if name.startswith("model.image.")]
    assert len(encoder) >= 5
    assert {kinds[name] for name in encoder} <= {HALF, TensorProto.INT8}


def test_the_values_of_the_head_are_unchanged(graphs, fp16_graph):
    source = {t.name: numpy_helper.to_array(t) for t in onnx.load(graphs[0]).graph.initializer}
    for tensor in fp16_graph.graph.initializer:
        if tensor.name.startswith(HEAD_VALUES):
            np.testing.assert_array_equal(numpy_helper.to_array(tensor), source[tensor.name])


def test_input_and_outputs_are_unchanged(graphs, fp16_graph):
    source = onnx.load(graphs[0])
    assert list(fp16_graph.graph.input) == list(source.graph.input)
    assert list(fp16_graph.graph.output) == list(source.graph.output)
    assert fp16_graph.opset_import == source.opset_import
    assert fp16_graph.graph.node[0].op_type == "Cast"


def test_the_difference_is_small(graphs, random_images):
    outputs = []
    for path in graphs:
        with ONNXRuntimeEngine(path, "fp16", similarity=True) as engine:
            outputs.append(engine.infer(random_images(5)))
    for exact, rounded in zip(*outputs, strict=True):
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(rounded, exact, atol=0.05)
        assert np.abs(rounded - exact).max() > 0


def test_an_fp16_graph_is_half_as_large(exported_bundle):
    sizes = [Bundle(exported_bundle).graph_path(p).stat().st_size for p in ("fp32", "fp16")]
    weights = sum(
        t.ByteSize()
        for t in onnx.load(exported_bundle / "model.fp32.onnx").graph.initializer
        if t.name.startswith("model.image.") or t.name.startswith(("val_", "_v_"))
    )
    assert sizes[0] - sizes[1] > 0.4 * weights


def test_a_value_that_encoder_and_head_share_exists_in_both_types(tmp_path, element_types):
    """The number `shared` scales the pixels in float16 and the score in float32."""
    values = {
        "shared": np.float32(0.001234),
        "axes": np.array([1, 2]),
        "model.project_image.weight": np.full((3, 2), 1 / 3, np.float32),
    }
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", ["image"], "pixels", {"to": FLOAT}),
        ("Mul", ["pixels", "shared"], "small", {}),
        ("ReduceMean", ["small", "axes"], "mean", {"keepdims": 0}),
        ("MatMul", ["mean", "model.project_image.weight"], "projected", {}),
        ("Div", ["projected", "shared"], "logits", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=o, **options) for op, i, o, options in steps],
        "shared",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 2, 2, 3])],
        [helper.make_tensor_value_info("logits", FLOAT, ["B", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "fp32.onnx")
    convert_to_fp16(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    fp16_graph = onnx.load(tmp_path / "fp16.onnx")
    types = element_types(fp16_graph)
    by_name = {node.name: node for node in fp16_graph.graph.node}
    for node, kind in (("small", HALF), ("logits", FLOAT)):
        assert types[by_name[node].input[1]] == kind
    (exact,) = (
        numpy_helper.to_array(t)
        for t in fp16_graph.graph.initializer
        if t.name == by_name["logits"].input[1]
    )
    assert exact == values["shared"]
    images = np.full((1, 2, 2, 3), 90, np.uint8)
    with ONNXRuntimeEngine(tmp_path / "fp16.onnx", "fp16") as engine:
        np.testing.assert_allclose(engine.infer(images).logits, 90, rtol=2e-3)


def test_an_overflow_is_reported_even_if_the_engine_hides_it(tmp_path):
    """300 * 300 lies beyond FP16; ONNX Runtime on a CPU computes it in float32."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch"])
    factor = helper.make_tensor("factor", TensorProto.FLOAT16, [], [300.0])
    chain = [("Mul", "small", "large"), ("Mul", "large", "huge"), ("Div", "huge", "back")]
    nodes = [
        helper.make_node("Cast", ["image"], ["small"], to=TensorProto.FLOAT16),
        *(helper.make_node(op, [x, "factor"], [y]) for op, x, y in chain),
        helper.make_node("Cast", ["back"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "overflow", [image], [logits], [factor])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "x.onnx")
    assert find_overflows(tmp_path / "x.onnx", np.array([0], np.uint8)) == []
    assert find_overflows(tmp_path / "x.onnx", np.array([0, 1], np.uint8)) == ["huge"]


def test_a_graph_without_overflows(exported_bundle, random_images):
    for name in ("model.fp16.onnx", "model.int8-fp16.onnx"):
        assert find_overflows(exported_bundle / name, random_images(3)) == []
