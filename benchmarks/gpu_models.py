"""The ViTs that the GPU benchmark times: random weights, since speed depends on none."""

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
DATA = Dataset((Sample(Path("never-read.jpg"), LABELS[:1]),), LABELS)


class Shape(NamedTuple):
    """Of a ViT with 12 layers and patches of 16."""

    width: int
    heads: int
    size: int  # pixels


MODELS = {
    "ti-224": Shape(192, 3, 224),
    "s-224": Shape(384, 6, 224),
    "b-224": Shape(768, 12, 224),
    "b-448": Shape(768, 12, 448),
}


def made(name: str, folder: Path) -> tuple[EngineGraph, Path]:
    """Return a model in PyTorch (uint8 pictures to logits), and its FP16 ONNX file in `folder`."""
    shape = MODELS[name]
    ViTConfig(
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        image_size=shape.size,
    ).save_pretrained(folder / "encoder")
    config = TrainConfig(image_encoder=str(folder / "encoder"), pretrained=False)
    model, state = build_model(DATA, config)
    prototypes = compute_prototypes(model)
    fast = model.image.model.config._attn_implementation
    export_graph(model, state.preprocessing, prototypes, folder / "graph.onnx")
    simplify_graph(folder / "graph.onnx", folder / "fp32.onnx")
    convert_to_fp16(folder / "fp32.onnx", folder / "fp16.onnx")
    model.image.model.set_attn_implementation(fast)  # the export took the slower one
    return EngineGraph(model, state.preprocessing, prototypes).eval(), folder / "fp16.onnx"
