"""The image encoder: `transformers` vision models behind one interface of CLS and patch tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import cached_file

from patchct_edge.errors import UserError
from patchct_edge.train.encoders.hub import LOAD_ERRORS, check_source, encoder_load_error
from patchct_edge.train.encoders.local_attention import LocalLayers
from patchct_edge.train.encoders.resolution import resize_position_embeddings


class Tokens(NamedTuple):
    """What an image encoder returns, for each of the L layers that it was created with."""

    cls: Tensor  # (B, L, h); the mean of the patches if the encoder has no CLS token
    patches: Tensor  # (B, L, N, h)


class ImageEncoder(nn.Module):
    """Wraps a `transformers` vision model that has patch tokens or a feature map.

    Patch tokens: ViT, DeiT, DINOv2, CLIP vision, Swin. The cells of a feature map are its patches:
    SegFormer, ConvNeXt, ResNet.

    Attributes:
        size: side of the model input, pixels.
        grid: patches along a side, N = grid * grid.
        width: dimensions of a token, h.

    Args:
        layers: layers whose tokens to return, -1 the last.

    Raises:
        UserError: the model has no square input and patches, or not these layers.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        pooler = getattr(model, "pooler", None)
        if pooler is not None and any(True for _ in pooler.parameters()):
            # Few checkpoints have its weights, and nothing uses it.
            model.pooler = None  # type: ignore[assignment]
        self.model: Any = model
        self.layers = tuple(layers)
        config: Any = model.config
        if not hasattr(config, "image_size"):
            raise UserError(
                "the input size of the image encoder is unknown",
                got=f"a {config.model_type} without image_size",
                fix='add "image_size" to its config.json',
            )
        self.size = _check_square(config.image_size)
        probe = self._probe(lambda black: self.model(pixel_values=black).last_hidden_state)
        if probe.ndim == 4 and self.layers != (-1,):
            raise UserError("a feature map has no layers but the last", got=self.layers)
        depth = getattr(config, "num_hidden_layers", 1)
        if not all(-depth <= layer <= depth for layer in self.layers):
            raise UserError(
                "the image encoder has no such layer",
                got=self.layers,
                expected=f"layers from {-depth} to {depth}",
            )
        _, count, self.width = _flatten_feature_map(probe).shape
        self.grid = math.isqrt(count)  # there are fewer prefix tokens than a row has
        self._prefix = count - self.grid**2  # CLS, distillation and register tokens
        self._local_layers = LocalLayers(model)
        if self.layers != (-1,):
            self._probe(lambda black: self(black).patches)

    @torch.no_grad()
    def _probe(self, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Encode a black image: shapes are measured, not configured."""
        was_training = self.model.training
        self.model.eval()
        try:
            tokens = encode(torch.zeros(1, 3, self.size, self.size))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                "the image encoder does not take RGB images, or its layers differ in shape",
                got=f"{error}, layers {self.layers}",
                expected="an encoder for 3 channels, and layers of one shape",
            ) from None
        self.model.train(was_training)
        return tokens

    @classmethod
    def load(
        cls, source: str, layers: Sequence[int], pretrained: bool, size: int = 0
    ) -> ImageEncoder:
        """Load a model from a hub id or a local folder.

        Args:
            source: hub id or folder.
            layers: layers whose tokens to return, -1 the last.
            pretrained: load the weights; otherwise they are random.
            size: side of the model input, pixels; 0 is the model's own.

        Raises:
            UserError: the model cannot be loaded, or does not take that size.
        """
        check_source("image", source)
        try:
            config = AutoConfig.from_pretrained(source)
            config = getattr(config, "vision_config", config)  # CLIP and SigLIP: the image half
            config.dtype = torch.float32  # whatever dtype the weights are stored in
            if pretrained:
                model = AutoModel.from_pretrained(source, config=config, dtype=torch.float32)
            else:
                model = AutoModel.from_config(config)
        except LOAD_ERRORS as error:
            raise encoder_load_error("image", source, error) from None
        return cls(resize_position_embeddings(model, size), layers)

    def forward(self, pixels: Tensor) -> Tokens:
        """Encode normalized pixels, float32 (B, 3, H, W)."""
        needs_hidden_states = self.layers != (-1,)
        output = self.model(pixel_values=pixels, output_hidden_states=needs_hidden_states)
        tokens_by_layer = [
            self._apply_final_norm(_flatten_feature_map(output.last_hidden_state), is_last=True)
            if layer == -1
            else self._apply_final_norm(output.hidden_states[layer], is_last=False)
            for layer in self.layers
        ]
        tokens = torch.stack(tokens_by_layer, 1)  # (B, L, T, h)
        patches = tokens[:, :, self._prefix :]
        return Tokens(tokens[:, :, 0] if self._prefix > 0 else patches.mean(2), patches)

    def encode_with_maps(self, pixels: Tensor) -> tuple[Tokens, Tensor]:
        """Encode pixels as `forward` does; also return the patch tokens for maps, (B, N, h)."""
        if not self._local_layers:
            tokens = self(pixels)
            return tokens, tokens.patches[:, -1]
        tokens, run_local_layers = self._local_layers.capture(lambda: self(pixels))
        return tokens, self._apply_final_norm(run_local_layers(self._prefix), is_last=False)

    def _apply_final_norm(self, tokens: Tensor, *, is_last: bool) -> Tensor:
        """Apply the final norm, unless the model did; CLIP models norm only their pooled token."""
        inner = getattr(self.model, "vision_model", self.model)
        norms = (getattr(inner, name, None) for name in ("layernorm", "norm", "post_layernorm"))
        norm = next((norm for norm in norms if norm is not None), None)
        is_normed = is_last and "clip" not in self.model.config.model_type
        return tokens if is_normed or norm is None else norm(tokens)


def read_normalization(source: str) -> dict[str, Any]:
    """Return `mean` and `std` from the encoder's `preprocessor_config.json`; {} without one."""
    path = cached_file(
        source,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return {}
    preprocessor = json.loads(Path(path).read_text("utf-8"))
    values = {"mean": preprocessor.get("image_mean"), "std": preprocessor.get("image_std")}
    return {name: tuple(value) for name, value in values.items() if value}


def _flatten_feature_map(tokens: Tensor) -> Tensor:
    """Return a feature map (B, h, rows, columns) as tokens (B, T, h); tokens as they are."""
    return tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens


def _check_square(size: int | Sequence[int]) -> int:
    """Return the side of a square, from one number or two equal ones."""
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise UserError("only square images and patches are supported", got=tuple(size))
    return int(size[0])
