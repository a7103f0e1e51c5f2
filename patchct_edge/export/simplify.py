"""Constant folding and node fusion by onnxsim."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxsim

from patchct_edge.errors import UserError


def simplified_from_graph(source: Path, target: Path) -> None:
    """Write a simplified graph of the same function.

    Raises:
        UserError: the batch dimension did not stay dynamic.
    """
    graph, _ = onnxsim.simplify(onnx.load(source))
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise UserError(
            "the encoder's graph fixes the batch size", got=batch.dim_value,
            expected="a dynamic batch",
        )  # fmt: skip
    _name_every_node(graph)
    onnx.save(graph, target)


def _name_every_node(graph: onnx.ModelProto) -> None:
    """Give each node a name of its own: precision is chosen by name later."""
    seen: set[str] = set()
    for n, node in enumerate(graph.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_n{n}"
        seen.add(node.name)
