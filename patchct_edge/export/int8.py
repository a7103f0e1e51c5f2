"""INT8 graphs by NNCF: symmetric QDQ pairs around the encoder's matrix products."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import nncf
import onnx

from patchct_edge.arrays import ImageBatch
from patchct_edge.errors import GateError
from patchct_edge.export.graph import convolutions, find_gelu_products, find_head_nodes


def quantize_to_int8(source: Path, target: Path, calibration: ImageBatch) -> None:
    """Write the INT8 form of an FP32 graph, calibrated on uint8 (count, H, W, 3).

    The head is left out, and so are the convolutions: a quantized patch embedding costs tens of
    points of mAP, and OpenVINO refuses quantized depthwise ones (SegFormer's) with a dynamic
    batch. So are the products that read a GELU, whose outliers make half of all flips for a tenth
    of the speed (docs/lab/experiments.md). NNCF itself leaves softmax and LayerNorm.

    Raises:
        GateError: as `quantized_from_fp32`.
    """
    graph = onnx.load(source)
    kept = find_head_nodes(graph) | convolutions(graph) | find_gelu_products(graph)
    quantize(source, target, calibration, kept)


def quantize(source: Path, target: Path, calibration: ImageBatch, kept: set[str]) -> None:
    """Write a graph in which all that the quantizer knows is INT8, but for the nodes in `kept`.

    Raises:
        GateError: nothing is left to quantize, as in an encoder of convolutions alone.
    """
    graph = onnx.load(source)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):  # it shows progress, and stdout is for results
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(list(calibration), lambda image: {"image": image[None]}),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric, as TensorRT wants it
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=sorted(kept), validate=False),
        )
    if not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node):
        raise GateError(
            "nothing in the graph could be quantized",
            got=source,
            expected="an encoder with matrix products",
            fix="leave int8 out with --precision, or choose another image encoder",
        )
    onnx.save(quantized, target)
