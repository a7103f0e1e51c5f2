"""Constant folding and node fusion by onnxsim."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxsim

from patchct_edge.errors import UserError

SKIPPED_OPTIMIZERS = [
    # These create operators of ONNX Runtime alone, which TensorRT and the quantizer cannot read.
    "fuse_attention",
    "fuse_gqa",
    "fuse_rope",
    # These put a Reshape around each product of tokens, and OpenVINO runs INT8 at 0.6 of its speed.
    "fuse_matmul_add_bias_into_gemm_batched",
    "fuse_qkv",
]


def simplify_graph(source: Path, target: Path) -> None:
    """Write a simplified graph that computes the same.

    Raises:
        UserError: the batch dimension did not stay dynamic.
    """
    graph, _ = onnxsim.simplify(onnx.load(source), skipped_optimizers=SKIPPED_OPTIMIZERS)
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise UserError(
            "the encoder's graph fixes the batch size",
            got=batch.dim_value,
            expected="a dynamic batch",
        )
    _move_cast_first(graph)
    _name_nodes(graph)
    onnx.save(graph, target)


def _move_cast_first(graph: onnx.ModelProto) -> None:
    """Make the Cast the first node and the only reader of the image: TensorRT requires it."""
    nodes, image = graph.graph.node, graph.graph.input[0].name
    pixels = next(n.output[0] for n in nodes if n.op_type == "Cast" and n.input[0] == image)
    for node in nodes:
        if node.op_type != "Cast":  # others read the batch size, which the Cast's output has too
            node.input[:] = [pixels if name == image else name for name in node.input]
    nodes.sort(key=lambda node: image not in node.input)


def _name_nodes(graph: onnx.ModelProto) -> None:
    """Give each node a unique name: precision is chosen by name later."""
    names: set[str] = set()
    for n, node in enumerate(graph.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_n{n}"
        names.add(node.name)
