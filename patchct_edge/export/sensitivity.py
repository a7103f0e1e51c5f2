"""What it costs to quantize each group of an encoder's layers, one group at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle.manifest import Stage
from patchct_edge.errors import GateError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.graph import convolutions, find_gelu_products, find_head_nodes, products
from patchct_edge.export.int8 import quantize
from patchct_edge.export.parity import ParityImages, compare_stage, run_engine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine


def groups(graph: onnx.ModelProto) -> dict[str, set[str]]:
    """Return the names of the nodes of each group that could be quantized; none is in two.

    The products of an encoder: of two activations (attention), widening and narrowing ones (the
    MLPs), and those that keep the width (query, key, value, output); the convolutions (patch
    embedding); the head.
    """
    head, convs = find_head_nodes(graph), convolutions(graph)
    found: dict[str, set[str]] = {"convolutions": convs - head, "head": head & products(graph)}
    shapes = {each.name: tuple(each.dims) for each in graph.graph.initializer}
    after_gelu = find_gelu_products(graph)
    of_encoder = products(graph) - head
    for node in graph.graph.node:
        if node.name not in of_encoder:
            continue
        weight = next((shapes[name] for name in node.input if name in shapes), None)
        if weight is None:
            kind = "attention products"
        elif node.name in after_gelu or weight[0] > weight[1]:
            kind = "MLP, second product"
        elif weight[0] < weight[1]:
            kind = "MLP, first product"
        else:
            kind = "attention projections"
        found.setdefault(kind, set()).add(node.name)
    return {kind: names for kind, names in found.items() if names}


def measure_sensitivity(
    source: Path, calibration: ImageBatch, pictures: ParityImages
) -> Iterator[Stage]:
    """Yield, for each group, the stage of a graph in which it alone is INT8, against FP32.

    Its gate is without meaning: this measures, and refuses nothing.
    """
    graph = onnx.load(source)
    found = groups(graph)
    every = set().union(*found.values())
    reference = run_engine("fp32", lambda: OpenVINOEngine(source, "fp32"), pictures)
    with tempfile.TemporaryDirectory() as folder:
        for kind, names in found.items():
            target = Path(folder) / "one.onnx"
            try:
                quantize(source, target, calibration, every - names)
            except GateError:
                continue  # this group has nothing that the quantizer knows
            run = run_engine(kind, lambda: OpenVINOEngine(target, "int8"), pictures)  # noqa: B023
            yield compare_stage(run, reference, pictures, Gates())
