"""The engine's graph: its form, and that it computes the same as PyTorch."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from patchct_edge import navigators
from patchct_edge.errors import UserError
from patchct_edge.export.graph import find_head_nodes
from patchct_edge.export.simplify import simplify_graph

MODELS = {
    "vit": ("vit", {}),
    "vit, navigator score alone": ("vit", {"cls_score": False}),
    "vit, CLS score alone": ("vit", {"navigator_score": False}),
    "segformer": ("segformer", {}),
}
FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request, export_random):
    encoder, settings = MODELS[request.param]
    return export_random(encoder, **settings)


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits", "similarity"], {"image": images})


def shape(tensor):
    return [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]


def test_input_and_outputs(exported):
    graph = exported.onnx.graph
    (image,) = graph.input
    logits, similarity = graph.output
    batch = shape(image)[0]
    assert isinstance(batch, str)
    patches = exported.model.image.grid**2
    expected = [
        (image, "image", UINT8, [batch, 32, 32, 3]),
        (logits, "logits", FLOAT, [batch, 3]),
        (similarity, "similarity", FLOAT, [batch, 3, patches]),
    ]
    for tensor, name, kind, dims in expected:
        assert (tensor.name, tensor.type.tensor_type.elem_type) == (name, kind)
        assert shape(tensor) == dims


def test_tensorrt_can_read_the_graph(exported):
    """Only a Cast reads the uint8 input; opset and IR are those of TensorRT 10.3."""
    nodes = exported.onnx.graph.node
    assert nodes[0].op_type == "Cast"
    assert [node.op_type for node in nodes if "image" in node.input] == ["Cast"]
    assert [(opset.domain, opset.version <= 20) for opset in exported.onnx.opset_import] == [
        ("", True)
    ]
    assert exported.onnx.ir_version <= 10
    assert len({node.name for node in nodes}) == len(nodes)
    assert all(node.name for node in nodes)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("file", ["raw", "path"])
def test_the_graph_computes_the_same_as_pytorch(exported, random_images, count, file):
    images = random_images(count)
    with torch.inference_mode():
        expected = exported.torch(torch.from_numpy(images))
    outputs = run(getattr(exported, file), images)
    for output, expected_output in zip(outputs, expected, strict=True):
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected_output.numpy(), atol=1e-5)
    assert np.ptp(expected[0].numpy()) > 1e-2


def test_the_graph_computes_the_scores_of_validation(exported, random_images):
    """The model itself, label encoder included, gives the same scores for normalized pixels."""
    images = random_images(3)
    mean, std = (
        torch.tensor(values) for values in (exported.preprocessing.mean, exported.preprocessing.std)
    )
    pixels = (torch.from_numpy(images) / 255 - mean) / std
    pixels = pixels.permute(0, 3, 1, 2)
    with torch.inference_mode():
        scores = exported.model(pixels)
        _, patches = exported.model.image.encode_with_maps(pixels)
        maps = exported.model.compute_map_similarity(patches, exported.model.compute_prototypes())
    logits, similarity = run(exported.path, images)
    np.testing.assert_allclose(logits, scores.logits, atol=1e-5)
    np.testing.assert_allclose(similarity, maps, atol=1e-5)


def test_the_prototypes_are_constants(exported):
    """The label encoder is not in the graph: neither its names nor its width of 12."""
    initializers = exported.onnx.graph.initializer
    assert not [t.name for t in initializers if "label" in t.name]
    assert not [t.name for t in initializers if 12 in t.dims]
    assert "prototypes" in {t.name for t in initializers}


def test_the_head_begins_at_the_projection(exported):
    """Every node from there to the outputs is in the head, with the learned values of the score."""
    graph, head = exported.onnx.graph, find_head_nodes(exported.onnx)
    nodes = {node.name: node for node in graph.node}
    in_head = {name for node in head for name in nodes[node].input}
    learned = {f"model.{name}" for name in ("project_image.bias", "a", "b", "g")}
    learned &= {tensor.name for tensor in graph.initializer}
    assert "model.project_image.bias" in learned
    assert learned <= in_head
    outside = {name for node in graph.node if node.name not in head for name in node.input}
    assert not learned & outside
    assert not [name for name in in_head if "image.model." in name]
    producer = {output: node.name for node in graph.node for output in node.output}
    assert {producer["logits"], producer["similarity"]} <= head


def test_similarity_and_tau_give_the_logits(export_random, random_images):
    """Without the CLS term, the logit is g r_m + b, equation (7).

    It can be computed from the similarity if the maps are those of the last layer.
    """
    exported = export_random("segformer", cls_score=False)
    logits, similarity = run(exported.path, random_images(4))
    assert np.abs(similarity).max() <= 1 + 1e-6
    g, b, tau = (getattr(exported.model, name).item() for name in ("g", "b", "tau"))
    np.testing.assert_allclose(
        logits, g * navigators.navigator_score(similarity, tau) + b, atol=1e-5
    )


def test_a_fixed_batch_is_refused(export_random, tmp_path):
    graph = onnx.load(export_random("vit").raw)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(graph, tmp_path / "fixed.onnx")
    with pytest.raises(UserError, match="fixes the batch size"):
        simplify_graph(tmp_path / "fixed.onnx", tmp_path / "simple.onnx")


def test_an_encoder_that_cannot_be_exported_is_a_user_error(export_random, monkeypatch, tmp_path):
    from patchct_edge.export import graph

    def refuse(*_, **__):
        raise torch.onnx.OnnxExporterError("an operator without a translation")

    exported = export_random("vit")
    monkeypatch.setattr(graph.torch.onnx, "export", refuse)
    with pytest.raises(UserError, match="cannot be exported"):
        graph.export_graph(
            exported.model, exported.preprocessing, exported.torch.prototypes, tmp_path / "x.onnx"
        )
