"""Tiny random image encoders of `transformers`: their configurations, weights and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
DEEP: dict[str, Any] = {**SIZES, "intermediate_size": 48}
PICTURE: dict[str, Any] = {"image_size": 24, "patch_size": 8}
TEXT: dict[str, Any] = {**DEEP, "vocab_size": 40, "max_position_embeddings": 16}

SWIN = hf.SwinConfig(
    image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
)

# Model, configuration, tokens before the patches, name of the final norm.
MODELS: dict[str, tuple[Any, Any, int, str]] = {
    "vit": (hf.ViTModel, hf.ViTConfig(**DEEP, **PICTURE), 1, "layernorm"),
    "deit": (hf.DeiTModel, hf.DeiTConfig(**DEEP, **PICTURE), 2, "layernorm"),
    "dinov2": (hf.Dinov2Model, hf.Dinov2Config(**SIZES, mlp_ratio=2, **PICTURE), 1, "layernorm"),
    "dinov2-registers": (
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=3, **PICTURE),
        4,
        "layernorm",
    ),
    "dinov3": (hf.DINOv3ViTModel, hf.DINOv3ViTConfig(**DEEP, **PICTURE), 1, "norm"),
    "clip": (hf.CLIPVisionModel, hf.CLIPVisionConfig(**DEEP, **PICTURE), 1, "post_layernorm"),
    "siglip": (hf.SiglipVisionModel, hf.SiglipVisionConfig(**DEEP, **PICTURE), 0, "post_layernorm"),
}


def save_with_active_norms(model: hf.PreTrainedModel, folder: Path) -> Any:
    """Save a model whose norms change their input: a missing or doubled norm would show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model.eval()


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 24, 24, generator=torch.Generator().manual_seed(1))
