"""The image encoder: gives `transformers` vision models the shapes of PatchCT."""

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
from patchct_edge.train.encoders.hub import LOAD_ERRORS, no_model, refuse_missing_folder
from patchct_edge.train.encoders.local_attention import LocalLayers
from patchct_edge.train.encoders.resolution import resize_position_embeddings


class Tokens(NamedTuple):
    """What an image encoder returns, one entry of L for each asked layer."""

    cls: Tensor  # (B, L, h); the patch mean where the encoder has no CLS token
    patches: Tensor  # (B, L, N, h)


class ImageEncoder(nn.Module):
    """Any `transformers` vision model: with patch tokens (ViT, DeiT, DINOv2, CLIP vision, Swin),
    or with a feature map, whose cells are then the patches (SegFormer, ConvNeXt, ResNet).

    Attributes:
        size: side of the input, pixels.
        grid: patches along a side, N = grid * grid.
        width: of the tokens, h.

    Args:
        layers: whose tokens to return, -1 the last.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        pooler = getattr(model, "pooler", None)
        if pooler is not None and any(True for _ in pooler.parameters()):
            # Its weights are in few checkpoints, and nothing here uses it.
            model.pooler = None  # type: ignore[assignment]
        self.model: Any = model
        self.layers = tuple(layers)
        config: Any = model.config
        if not hasattr(config, "image_size"):
            raise UserError(
                "the image encoder does not say its input size",
                got=f"{config.model_type}, without image_size",
                fix='add "image_size" to its config.json',
            )
        self.size = _single(config.image_size)
        probe = self._probed(lambda black: self.model(pixel_values=black).last_hidden_state)
        if probe.ndim == 4 and self.layers != (-1,):
            raise UserError("a feature map has no layers but its last", got=self.layers)
        deep = getattr(config, "num_hidden_layers", 1)
        if not all(-deep <= layer <= deep for layer in self.layers):
            raise UserError(
                "the image encoder has no such layer",
                got=self.layers,
                expected=f"layers from {-deep} to {deep}",
            )
        _, count, self.width = _as_tokens(probe).shape
        self.grid = math.isqrt(count)  # CLS and register tokens are fewer than a row of patches
        self._first = count - self.grid**2  # CLS, distillation and register tokens
        self._local = LocalLayers(model)
        if self.layers != (-1,):
            self._probed(lambda black: self(black).patches)

    @torch.no_grad()
    def _probed(self, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what becomes of a black picture: shapes are read off, not configured."""
        was_training = self.model.training
        self.model.eval()
        try:
            tokens = encode(torch.zeros(1, 3, self.size, self.size))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                "the image encoder takes no RGB image, or its layers differ in shape",
                got=f"{error}, layers {self.layers}",
                expected="one shape in all layers",
            ) from None
        self.model.train(was_training)
        return tokens

    @classmethod
    def load(
        cls, source: str, layers: Sequence[int], pretrained: bool, size: int = 0
    ) -> ImageEncoder:
        """Load from a hub id or a local folder; without `pretrained`, random weights.

        Args:
            size: of the input, pixels; 0 is the model's own.

        Raises:
            UserError: there is no such model, its folder lacks the weights, or it does not take
                the size.
        """
        refuse_missing_folder("image", source)
        try:
            config = AutoConfig.from_pretrained(source)
            config = getattr(config, "vision_config", config)  # CLIP and its kind: the image half
            config.dtype = torch.float32  # whatever the weights are stored in
            if pretrained:
                model = AutoModel.from_pretrained(source, config=config, dtype=torch.float32)
            else:
                model = AutoModel.from_config(config)
        except LOAD_ERRORS as error:
            raise no_model("image", source, error) from None
        return cls(resize_position_embeddings(model, size), layers)

    def forward(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W)."""
        several = self.layers != (-1,)
        output = self.model(pixel_values=pixels, output_hidden_states=several)
        picked = [
            self._normed(_as_tokens(output.last_hidden_state), last=True)
            if layer == -1
            else self._normed(output.hidden_states[layer], last=False)
            for layer in self.layers
        ]
        tokens = torch.stack(picked, 1)  # (B, L, T, h)
        patches = tokens[:, :, self._first :]
        return Tokens(tokens[:, :, 0] if self._first > 0 else patches.mean(2), patches)

    def with_maps(self, pixels: Tensor) -> tuple[Tokens, Tensor]:
        """Encode as `forward`; also return the patches that maps are made of, (B, N, h)."""
        if not self._local:
            tokens = self(pixels)
            return tokens, tokens.patches[:, -1]
        tokens, local = self._local.watch(lambda: self(pixels))
        return tokens, self._normed(local(self._first), last=False)

    def _normed(self, tokens: Tensor, *, last: bool) -> Tensor:
        """Apply the final norm unless the model has done so; CLIP's never reaches its tokens."""
        inner = getattr(self.model, "vision_model", self.model)
        norms = (getattr(inner, name, None) for name in ("layernorm", "norm", "post_layernorm"))
        norm = next((norm for norm in norms if norm is not None), None)
        done = last and "clip" not in self.model.config.model_type
        return tokens if done or norm is None else norm(tokens)


def read_normalization(source: str) -> dict[str, Any]:
    """Return mean and std from the encoder's `preprocessor_config.json`, where it has one."""
    path = cached_file(
        source,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return {}
    found = json.loads(Path(path).read_text())
    known = {"mean": found.get("image_mean"), "std": found.get("image_std")}
    return {name: tuple(value) for name, value in known.items() if value}


def _as_tokens(tokens: Tensor) -> Tensor:
    """Tokens (B, T, h) as they are; a feature map (B, h, rows, columns) as tokens."""
    return tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens


def _single(size: int | Sequence[int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise UserError("only square images and patches are supported", got=tuple(size))
    return int(size[0])
