"""FP16 graphs: FP16 everywhere but in the head (similarity and score), which stays in float32."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16

from patchct_edge.arrays import ImageBatch
from patchct_edge.export.graph import find_head_nodes


def convert_to_fp16(source: Path, target: Path) -> None:
    """Write the FP16 form of an FP32 or INT8 graph, with the same input and outputs.

    Only the encoder goes through the converter, which would round tensors between the nodes of the
    head too; the head is then attached to the encoder's float32 outputs unchanged.
    """
    model = onnx.load(source)
    head = find_head_nodes(model)
    encoder = _extract_encoder(model, head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it lists all weights below the smallest FP16 number
        fp16 = convert_float_to_float16(encoder, keep_io_types=True, force_fp16_initializers=True)
    _attach_head(fp16, model, head)
    onnx.checker.check_model(fp16)
    onnx.save(fp16, target)


def find_overflows(graph: Path, images: ImageBatch) -> list[str]:
    """Return the names of the FP16 tensors that are NaN or infinite for some image.

    CPU engines compute FP16 graphs in float32, so their scores show no overflow: ONNX Runtime
    returns every FP16 tensor here, from a copy of the graph with more outputs.
    """
    model = onnx.load(graph)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    fp16_tensors = [t for t in inferred if t.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16]
    model.graph.output.extend(fp16_tensors)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [tensor.name for tensor in fp16_tensors]
    overflows: set[str] = set()
    for image in images:
        values = session.run(names, {"image": image[None]})
        overflows |= {n for n, v in zip(names, values, strict=True) if not np.isfinite(v).all()}
    return [name for name in names if name in overflows]


def _extract_encoder(model: onnx.ModelProto, head: set[str]) -> onnx.ModelProto:
    """Return a copy without the nodes of the head; the tensors that the head reads are outputs."""
    encoder = copy.deepcopy(model)
    del encoder.graph.node[:], encoder.graph.output[:]
    encoder.graph.node.extend(node for node in model.graph.node if node.name not in head)
    encoder_outputs = {name for node in encoder.graph.node for name in node.output}
    head_inputs = {name for node in model.graph.node if node.name in head for name in node.input}
    tensors = onnx.shape_inference.infer_shapes(model).graph.value_info
    encoder.graph.output.extend(t for t in tensors if t.name in encoder_outputs & head_inputs)
    encoder_inputs = {name for node in encoder.graph.node for name in node.input}
    initializers = [t for t in model.graph.initializer if t.name in encoder_inputs]
    del encoder.graph.initializer[:]
    encoder.graph.initializer.extend(initializers)
    return encoder


def _attach_head(fp16: onnx.ModelProto, model: onnx.ModelProto, head: set[str]) -> None:
    """Add the nodes, values and outputs of the head of `model` to an FP16 encoder, in float32."""
    nodes = [node for node in model.graph.node if node.name in head]
    inputs = {name for node in nodes for name in node.input}
    encoder_values = {tensor.name for tensor in fp16.graph.initializer}
    # What encoder and head share is there in FP16 already: the head gets its own float32 copy.
    fp32_names = {name: f"{name}_fp32" for name in encoder_values & inputs}
    for tensor in model.graph.initializer:
        if tensor.name in inputs:
            fp16.graph.initializer.add().CopyFrom(tensor)
            fp16.graph.initializer[-1].name = fp32_names.get(tensor.name, tensor.name)
    for node in nodes:
        fp16.graph.node.add().CopyFrom(node)
        names = [fp32_names.get(name, name) for name in node.input]
        del fp16.graph.node[-1].input[:]
        fp16.graph.node[-1].input.extend(names)
    del fp16.graph.output[:], fp16.graph.value_info[:]  # their recorded types no longer hold
    fp16.graph.output.extend(model.graph.output)
