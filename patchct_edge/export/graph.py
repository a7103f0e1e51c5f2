"""The engine's graph: image branch, navigator scoring and normalization in one ONNX file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.train.model import PatchCT

OPSET = 20  # TensorRT 10.3 reads up to opset 20 and IR 10
# The head begins at the projection, and at the bias that its terms are added to: every exported
# graph names them so.
PROJECTION, BIAS = "model.project_image.", "model.b"


class EngineGraph(nn.Module):
    """uint8 (B, H, W, 3) RGB to logits (B, M) and the maps' similarity (B, M, N), prototypes
    folded in."""

    prototypes: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, model: PatchCT, preprocessing: Preprocessing, prototypes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("prototypes", prototypes)
        self.register_buffer("scale", 1 / (255 * torch.tensor(preprocessing.std)))
        self.register_buffer(
            "shift", -torch.tensor(preprocessing.mean) / torch.tensor(preprocessing.std)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # The Cast must be the first node and NCHW the last step: TensorRT takes uint8 only so.
        pixels = (image.float() * self.scale + self.shift).permute(0, 3, 1, 2)
        tokens, patches = self.model.image.encode_with_maps(pixels)
        scores = self.model.score(tokens, self.prototypes)
        return scores.logits, self.model.compute_map_similarity(patches, self.prototypes)


def compute_prototypes(model: PatchCT) -> Tensor:
    """Compute the label prototypes once, float32 (M, d): the label encoder ends here."""
    with torch.no_grad():
        return model.eval().compute_prototypes().float()


def export_graph(
    model: PatchCT, preprocessing: Preprocessing, prototypes: Tensor, path: Path
) -> None:
    """Export to ONNX with a dynamic batch.

    Raises:
        UserError: the encoder uses something that does not export.
    """
    # "eager" attention exports without the IsNaN guards that scaled_dot_product_attention brings.
    model.image.model.set_attn_implementation("eager")
    model.image.layers = model.image.layers[-1:]  # the engine scores the last entry only
    example = torch.zeros(2, preprocessing.size, preprocessing.size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own use of deprecated names
        try:
            program = torch.onnx.export(
                EngineGraph(model, preprocessing, prototypes).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits", "similarity"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError("the image encoder does not export to ONNX", got=error) from error
    assert program is not None  # only the old exporter returns nothing
    program.save(path)


def find_head_nodes(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes from the projection on: similarity and score head.

    These stay in float32 in every precision.
    """
    after = {BIAS}
    head: set[str] = set()
    producer = {output: node for node in graph.graph.node for output in node.output}
    for node in graph.graph.node:  # ONNX keeps its nodes in topological order
        projects = any(name.startswith(PROJECTION) for name in node.input)
        if projects or not after.isdisjoint(node.input):
            head.add(node.name)
            after.update(node.output)
        if projects:  # a bias that is added apart: its product's weight has lost its name
            makers = [producer[name] for name in node.input if name in producer]
            head.update(maker.name for maker in makers if maker.op_type == "MatMul")
    return head


def products(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the matrix products."""
    return {node.name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm")}


def convolutions(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the convolutions: the patch embedding, and those inside some encoders."""
    return {node.name for node in graph.graph.node if node.op_type == "Conv"}


def find_gelu_products(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the products that read a GELU: the second ones of transformer MLPs."""
    after = {o for node in graph.graph.node if node.op_type == "Gelu" for o in node.output}
    return {
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and not after.isdisjoint(node.input)
    }
