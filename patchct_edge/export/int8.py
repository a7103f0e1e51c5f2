"""INT8 graphs by NNCF: symmetric QDQ pairs around the matrix products of the encoder.

QDQ is a QuantizeLinear node followed by a DequantizeLinear node: an engine computes what lies
between two pairs in INT8.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import nncf
import onnx

from patchct_edge.arrays import ImageBatch
from patchct_edge.errors import GateError
from patchct_edge.export.graph import find_convolutions, find_head_nodes, find_matmuls_after_gelu


def quantize_to_int8(source: Path, target: Path, images: ImageBatch) -> None:
    """Write the INT8 form of an FP32 graph, with ranges measured on uint8 images (N, H, W, 3).

    These nodes stay in float: the head; convolutions, because a quantized patch embedding costs
    tens of points of mAP, and OpenVINO refuses quantized depthwise convolutions (SegFormer's) with
    a dynamic batch; and products that read a GELU, whose outliers cause half of all tag flips for
    a tenth of the speed (docs/lab/experiments.md). NNCF itself leaves softmax and LayerNorm in
    float.

    Raises:
        GateError: nothing is left to quantize; see `quantize_graph`.
    """
    graph = onnx.load(source)
    float_nodes = find_head_nodes(graph) | find_convolutions(graph) | find_matmuls_after_gelu(graph)
    quantize_graph(source, target, images, float_nodes)


def quantize_graph(source: Path, target: Path, images: ImageBatch, float_nodes: set[str]) -> None:
    """Write a graph with every node in INT8 that NNCF can quantize, except `float_nodes`.

    Raises:
        GateError: nothing is left to quantize, as in an encoder of convolutions alone.
    """
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars of its own
        quantized = nncf.quantize(
            onnx.load(source),
            nncf.Dataset(list(images), lambda image: {"image": image[None]}),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric, as TensorRT requires
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=sorted(float_nodes), validate=False),
        )
    if not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node):
        raise GateError(
            "nothing in the graph could be quantized",
            got=source,
            expected="an encoder with matrix products",
            fix="export without INT8 (--precision fp32,fp16), or choose another image encoder",
        )
    onnx.save(quantized, target)
