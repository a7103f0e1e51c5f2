"""Sensitivity to INT8: the cost of quantizing each group of encoder layers alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle.manifest import Stage
from patchct_edge.errors import GateError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.graph import (
    find_convolutions,
    find_head_nodes,
    find_matmuls,
    find_matmuls_after_gelu,
)
from patchct_edge.export.int8 import quantize_graph
from patchct_edge.export.parity import ParityImages, compare_stage, run_engine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine


def group_nodes(graph: onnx.ModelProto) -> dict[str, set[str]]:
    """Return the names of the nodes that can be quantized, by group; no node is in two groups.

    The groups are the products of the encoder (of two activations in attention; widening and
    narrowing ones in the MLPs; those that keep the width: query, key, value, output), the
    convolutions (patch embedding), and the head.
    """
    head, convolutions, products = (
        find(graph) for find in (find_head_nodes, find_convolutions, find_matmuls)
    )
    nodes_by_group: dict[str, set[str]] = {
        "convolutions": convolutions - head,
        "head": head & products,
    }
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    gelu_products = find_matmuls_after_gelu(graph)
    for node in graph.graph.node:
        if node.name not in products - head:
            continue
        weight_shape = next((shapes[name] for name in node.input if name in shapes), None)
        if weight_shape is None:
            group = "attention products"
        elif node.name in gelu_products or weight_shape[0] > weight_shape[1]:
            group = "MLP, second product"
        elif weight_shape[0] < weight_shape[1]:
            group = "MLP, first product"
        else:
            group = "attention projections"
        nodes_by_group.setdefault(group, set()).add(node.name)
    return {group: names for group, names in nodes_by_group.items() if names}


def measure_sensitivity(
    source: Path, quantization_images: ImageBatch, parity: ParityImages
) -> Iterator[Stage]:
    """Yield a stage per group of nodes: the graph with that group alone in INT8, against FP32.

    The gate of these stages has no meaning: this measures and refuses nothing.
    """
    nodes_by_group = group_nodes(onnx.load(source))
    all_nodes = set().union(*nodes_by_group.values())
    reference = run_engine("fp32", lambda: OpenVINOEngine(source, "fp32"), parity)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "one.onnx"
        for group, names in nodes_by_group.items():
            try:
                quantize_graph(source, target, quantization_images, all_nodes - names)
            except GateError:
                continue  # NNCF cannot quantize anything in this group
            run = run_engine(group, lambda: OpenVINOEngine(target, "int8"), parity)
            yield compare_stage(run, reference, parity, Gates())
