"""The engine's graph: normalization, image encoder and score in one ONNX file."""

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
# The head begins at the projection, and at the bias that its terms are added to. Every exported
# graph has these names.
PROJECTION_PREFIX, BIAS_NAME = "model.project_image.", "model.b"


class EngineGraph(nn.Module):
    """The model as it ships, with the label prototypes as constants.

    Input: `image`, uint8 (B, H, W, 3) RGB. Outputs, float32: `logits` (B, M) and, for maps,
    `similarity` (B, M, N).
    """

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
        # TensorRT takes uint8 only if the Cast is the first node and NCHW the last step.
        pixels = (image.float() * self.scale + self.shift).permute(0, 3, 1, 2)
        tokens, patches = self.model.image.encode_with_maps(pixels)
        scores = self.model.score(tokens, self.prototypes)
        return scores.logits, self.model.compute_map_similarity(patches, self.prototypes)


def compute_prototypes(model: PatchCT) -> Tensor:
    """Return the label prototypes, float32 (M, d); the label encoder is not needed after this."""
    with torch.no_grad():
        return model.eval().compute_prototypes().float()


def export_graph(
    model: PatchCT, preprocessing: Preprocessing, prototypes: Tensor, path: Path
) -> None:
    """Write the engine graph of a model as ONNX, with a dynamic batch.

    The model is changed: to eager attention, and to its last layer alone.

    Raises:
        UserError: the encoder uses an operator that cannot be exported.
    """
    # Eager attention exports without the IsNaN guards of scaled_dot_product_attention.
    model.image.model.set_attn_implementation("eager")
    model.image.layers = model.image.layers[-1:]  # the engine uses the last layer only
    example = torch.zeros(2, preprocessing.size, preprocessing.size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses deprecated names
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
            raise UserError("the image encoder cannot be exported to ONNX", got=error) from error
    assert program is not None  # only the old exporter returns None
    program.save(path)


def find_head_nodes(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes from the projection on: similarity and score.

    These stay in float32 in every precision.
    """
    head_tensors = {BIAS_NAME}
    head: set[str] = set()
    producer = {output: node for node in graph.graph.node for output in node.output}
    for node in graph.graph.node:  # in topological order, as ONNX requires
        is_projection = any(name.startswith(PROJECTION_PREFIX) for name in node.input)
        if is_projection or not head_tensors.isdisjoint(node.input):
            head.add(node.name)
            head_tensors.update(node.output)
        if (
            is_projection
        ):  # if its bias is a separate Add, the weight of its MatMul has lost its name
            producers = [producer[name] for name in node.input if name in producer]
            head.update(node.name for node in producers if node.op_type == "MatMul")
    return head


def find_matmuls(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the matrix products."""
    return {node.name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm")}


def find_convolutions(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the convolutions: the patch embedding, and those in some encoders."""
    return {node.name for node in graph.graph.node if node.op_type == "Conv"}


def find_matmuls_after_gelu(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the products that read a GELU: the second ones of transformer MLPs."""
    gelu_outputs = {o for node in graph.graph.node if node.op_type == "Gelu" for o in node.output}
    return {
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and not gelu_outputs.isdisjoint(node.input)
    }
