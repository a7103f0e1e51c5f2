"""Small models with random weights, random images, and the element types of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from patchct_edge.bundle import Preprocessing
from patchct_edge.export.graph import EngineGraph, compute_prototypes, export_graph
from patchct_edge.export.simplify import simplify_graph
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.image import ImageEncoder
from patchct_edge.train.encoders.labels import FixedLabelEncoder
from patchct_edge.train.model import PatchCT

torch.set_num_threads(1)

PICTURE: dict[str, Any] = {"image_size": 32}  # SegFormer's configuration does not declare it
ENCODERS = {
    "vit": transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    ),
    "segformer": transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[16, 32],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[2, 4],
        mlp_ratios=[2, 2],
        **PICTURE,
    ),
}


class Exported:
    """A random model of 3 labels, its engine graph in PyTorch, and the exported files."""

    def __init__(self, folder: Path, encoder: str, **settings: object) -> None:
        torch.manual_seed(0)
        table = torch.randn(3, 12)
        image = ImageEncoder(transformers.AutoModel.from_config(ENCODERS[encoder]))
        config = TrainConfig(dim=16, tau=0.3, **settings)  # type: ignore[arg-type]
        self.model = PatchCT(image, FixedLabelEncoder(table), table.mean(0), config).eval()
        self.preprocessing = Preprocessing(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
        prototypes = compute_prototypes(self.model)
        self.torch = EngineGraph(self.model, self.preprocessing, prototypes).eval()
        self.raw, self.path = folder / "graph.onnx", folder / "model.fp32.onnx"
        export_graph(self.model, self.preprocessing, prototypes, self.raw)
        simplify_graph(self.raw, self.path)
        self.onnx = onnx.load(self.path)


@pytest.fixture(scope="session")
def export_random(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Export a random model with an encoder of `ENCODERS` and settings, each once."""
    exports: dict[str, Exported] = {}

    def export(encoder: str, **settings: object) -> Exported:
        key = f"{encoder} {settings}"
        if key not in exports:
            exports[key] = Exported(tmp_path_factory.mktemp("graph"), encoder, **settings)
        return exports[key]

    return export


@pytest.fixture(scope="session")
def random_images() -> Callable[[int], np.ndarray]:
    """Generate random images, uint8 (count, 32, 32, 3), with black and white squares."""

    def generate(count: int) -> np.ndarray:
        coarse = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        images = coarse.repeat(4, axis=1).repeat(4, axis=2)
        images[:, :4, :4], images[:, 4:8, :4] = 0, 255
        return images

    return generate


@pytest.fixture(scope="session")
def element_types() -> Callable[[onnx.ModelProto], dict[str, int]]:
    """Return the element type of every tensor of a graph, by ONNX's own inference."""

    def infer_types(graph: onnx.ModelProto) -> dict[str, int]:
        inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
        tensors = [*inferred.input, *inferred.output, *inferred.value_info]
        types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in tensors}
        return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}

    return infer_types
