"""Make the ViTs for the GPU benchmark, with random weights: speed does not depend on them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from transformers import ViTConfig

from patchct_edge.datasets import Dataset, Sample
from patchct_edge.export.fp16 import convert_to_fp16
from patchct_edge.export.graph import EngineGraph, compute_prototypes, export_graph
from patchct_edge.export.simplify import simplify_graph
from patchct_edge.train.build import build_model
from patchct_edge.train.config import TrainConfig

LABELS = tuple(f"label {n}" for n in range(80))
DATASET = Dataset((Sample(Path("never-read.jpg"), LABELS[:1]),), LABELS)


class ViTShape(NamedTuple):
    """The shape of a ViT with 12 layers and patches of 16 x 16 pixels."""

    width: int
    heads: int
    size: int  # side of the input, pixels


MODELS = {
    "ti-224": ViTShape(192, 3, 224),
    "s-224": ViTShape(384, 6, 224),
    "b-224": ViTShape(768, 12, 224),
    "b-448": ViTShape(768, 12, 448),
}


def make_model(name: str, folder: Path) -> tuple[EngineGraph, Path]:
    """Make a model: in PyTorch (uint8 images to logits), and as an FP16 ONNX file in `folder`."""
    shape = MODELS[name]
    ViTConfig(
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        image_size=shape.size,
    ).save_pretrained(folder / "encoder")
    config = TrainConfig(image_encoder=str(folder / "encoder"), pretrained=False)
    model, state = build_model(DATASET, config)
    prototypes = compute_prototypes(model)
    fast_attention = model.image.model.config._attn_implementation
    export_graph(model, state.preprocessing, prototypes, folder / "graph.onnx")
    simplify_graph(folder / "graph.onnx", folder / "fp32.onnx")
    convert_to_fp16(folder / "fp32.onnx", folder / "fp16.onnx")
    model.image.model.set_attn_implementation(fast_attention)  # the export sets the slower one
    return EngineGraph(model, state.preprocessing, prototypes).eval(), folder / "fp16.onnx"
