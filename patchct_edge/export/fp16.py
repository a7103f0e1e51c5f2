"""FP16 graphs: everything but the similarity and score head, which stay in float32."""

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

    The encoder alone goes through the converter, which would round every tensor between the head's
    nodes as well; the head is then set on its float32 outputs unchanged.
    """
    whole = onnx.load(source)
    head = find_head_nodes(whole)
    encoder = _without(whole, head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it lists every weight smaller than FP16's smallest step
        half = convert_float_to_float16(encoder, keep_io_types=True, force_fp16_initializers=True)
    nodes = [node for node in whole.graph.node if node.name in head]
    used = {name for node in nodes for name in node.input}
    present = {tensor.name for tensor in half.graph.initializer}
    shared = {t.name: t.name + "_fp32" for t in whole.graph.initializer if t.name in present & used}
    for tensor in whole.graph.initializer:
        if tensor.name in used:
            half.graph.initializer.add().CopyFrom(tensor)
            half.graph.initializer[-1].name = shared.get(tensor.name, tensor.name)
    for node in nodes:
        half.graph.node.add().CopyFrom(node)
        names = [shared.get(name, name) for name in node.input]
        del half.graph.node[-1].input[:]
        half.graph.node[-1].input.extend(names)
    del half.graph.output[:], half.graph.value_info[:]  # the types noted there are no longer true
    half.graph.output.extend(whole.graph.output)
    onnx.checker.check_model(half)
    onnx.save(half, target)


def find_overflows(graph: Path, images: ImageBatch) -> list[str]:
    """Return the names of the FP16 tensors that are not finite for some image.

    Engines that compute FP16 graphs in float32, as those for a CPU do, show no overflow in their
    scores: the tensors are looked at one by one. An engine that ships is not touched.
    """
    model = onnx.load(graph)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    halves = [t for t in inferred if t.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16]
    model.graph.output.extend(halves)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [tensor.name for tensor in halves]
    found: set[str] = set()
    for image in images:
        values = session.run(names, {"image": image[None]})
        found |= {n for n, v in zip(names, values, strict=True) if not np.isfinite(v).all()}
    return [name for name in names if name in found]


def _without(whole: onnx.ModelProto, head: set[str]) -> onnx.ModelProto:
    """Return the graph without the head's nodes; what they read becomes its outputs."""
    encoder = copy.deepcopy(whole)
    del encoder.graph.node[:], encoder.graph.output[:]
    encoder.graph.node.extend(node for node in whole.graph.node if node.name not in head)
    made = {name for node in encoder.graph.node for name in node.output}
    read = {name for node in whole.graph.node if node.name in head for name in node.input}
    types = onnx.shape_inference.infer_shapes(whole).graph.value_info
    encoder.graph.output.extend(tensor for tensor in types if tensor.name in made & read)
    used = {name for node in encoder.graph.node for name in node.input}
    kept = [tensor for tensor in whole.graph.initializer if tensor.name in used]
    del encoder.graph.initializer[:]
    encoder.graph.initializer.extend(kept)
    return encoder
