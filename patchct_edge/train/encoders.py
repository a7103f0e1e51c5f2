"""Image and label encoders: thin wrappers that give `transformers` models the shapes of PatchCT.

An image encoder turns normalised pixels into a CLS token and patch tokens for each asked layer; a
label encoder is a module whose call returns one embedding a label, (M, D).
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from patchct_edge.errors import UserError, did_you_mean

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

DEFAULT_PROMPT = "A photo of a {label}."


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
        probe = self._probe()
        if probe.ndim == 4 and self.layers != (-1,):
            raise UserError("a feature map has no layers but its last", got=self.layers)
        deep = getattr(config, "num_hidden_layers", 1)
        if not all(-deep <= layer <= deep for layer in self.layers):
            raise UserError(
                "the image encoder has no such layer",
                got=self.layers, expected=f"layers from {-deep} to {deep}",
            )  # fmt: skip
        _, count, self.width = _as_tokens(probe).shape
        self.grid = math.isqrt(count)  # CLS and register tokens are fewer than a row of patches

    @torch.no_grad()
    def _probe(self) -> Tensor:
        """Return what the model makes of a black picture: shapes are read off, not configured."""
        was_training = self.model.training
        tokens: Tensor = self.model.eval()(
            pixel_values=torch.zeros(1, 3, self.size, self.size)
        ).last_hidden_state
        self.model.train(was_training)
        return tokens

    @classmethod
    def load(cls, source: str, layers: Sequence[int], pretrained: bool) -> ImageEncoder:
        """Load from a hub id or a local folder; without `pretrained`, random weights.

        Raises:
            UserError: there is no such model, or its folder lacks the weights.
        """
        try:
            config = AutoConfig.from_pretrained(source)
            config = getattr(config, "vision_config", config)  # CLIP and its kind: the image half
            config.dtype = torch.float32  # whatever the weights are stored in
            if pretrained:
                model = AutoModel.from_pretrained(source, config=config, dtype=torch.float32)
            else:
                model = AutoModel.from_config(config)
        except (OSError, ValueError, SafetensorError) as error:
            raise _no_model("image", source, error) from None
        return cls(model, layers)

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
        prefix = tokens.shape[2] - self.grid**2  # CLS, distillation and register tokens
        patches = tokens[:, :, prefix:]
        return Tokens(tokens[:, :, 0] if prefix > 0 else patches.mean(2), patches)

    def _normed(self, tokens: Tensor, *, last: bool) -> Tensor:
        """Apply the final norm unless the model has done so; CLIP's never reaches its tokens."""
        inner = getattr(self.model, "vision_model", self.model)
        norms = (getattr(inner, name, None) for name in ("layernorm", "norm", "post_layernorm"))
        norm = next((norm for norm in norms if norm is not None), None)
        done = last and "clip" not in self.model.config.model_type
        return tokens if done or norm is None else norm(tokens)


class FixedLabels(nn.Module):
    """Embeddings that do not train: a table's, or those of a frozen text encoder."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.float())  # (M, D)

    def forward(self) -> Tensor:
        return self.embeddings


class LearnedLabels(nn.Module):
    """One free vector a label, less their mean: the label set is fixed here, so nothing moves."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(labels, width) / width**0.5)  # (M, D)

    def forward(self) -> Tensor:
        return self.embeddings - self.embeddings.mean(0)


class TextLabels(nn.Module):
    """A text encoder that trains along; its tokens are kept, so no tokenizer is needed later."""

    input_ids: Tensor
    attention_mask: Tensor

    def __init__(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> None:
        super().__init__()
        self.model: Any = model
        self.register_buffer("input_ids", input_ids)  # (M, T)
        self.register_buffer("attention_mask", attention_mask)  # (M, T)

    def forward(self) -> Tensor:
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if hasattr(self.model, "get_text_features"):
            features = self.model.get_text_features(**inputs)
            return getattr(features, "pooler_output", features)
        output = self.model(**inputs)
        if "clip" in self.model.config.model_type:  # contrastive models pool at their end token
            return output.pooler_output
        mask = self.attention_mask[:, :, None]  # sentence encoders: mean over the words
        return (output.last_hidden_state * mask).sum(1) / mask.sum(1)


def text_labels(source: str, prompts: Sequence[str]) -> TextLabels:
    """Load a text model or sentence encoder and tokenise one prompt a label.

    Raises:
        UserError: there is no such model or tokenizer.
    """
    try:
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
        tokens = AutoTokenizer.from_pretrained(source)(
            list(prompts), padding=True, truncation=True, return_tensors="pt"
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _no_model("text", source, error) from None
    return TextLabels(model, tokens["input_ids"], tokens["attention_mask"])


def table_names(path: Path) -> list[str]:
    """Return the label names of an `.npz` table (`names` (M,), `emb` (M, D))."""
    return [str(name) for name in _table(path)[0]]


def table_labels(path: Path, labels: Sequence[str]) -> Tensor:
    """Return the embeddings (M, D) of `labels`, in that order, from an `.npz` table.

    Raises:
        UserError: the file is no such table, or lacks a label.
    """
    names, embeddings = _table(path)
    row = {str(name): n for n, name in enumerate(names)}
    for label in labels:
        if label not in row:
            raise UserError(
                f"the table {path} has no embedding for a label",
                got=label,
                expected=did_you_mean(label, row),
                fix="add it to the table, or leave the label out with --labels FILE",
            )
    return torch.from_numpy(embeddings[[row[label] for label in labels]])


def _table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as table:
            names, embeddings = table["names"], table["emb"].astype(np.float32)
    # A damaged file, an empty one, and one array in place of a table.
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, TypeError) as error:
        raise UserError(
            f"cannot read the label table {path}",
            got=error,
            expected="an .npz file with `names` (M,) and `emb` (M, D)",
        ) from None
    if embeddings.ndim != 2 or names.shape != embeddings.shape[:1]:
        raise UserError(
            f"the label table {path} has the wrong shape",
            got=f"names {names.shape}, emb {embeddings.shape}",
            expected="names (M,), emb (M, D)",
        )
    return names, embeddings


def recipe_fields(source: str) -> dict[str, Any]:
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


def _no_model(kind: str, source: str, error: Exception) -> UserError:
    return UserError(
        f"cannot load the {kind} encoder",
        got=f"{source} ({str(error).splitlines()[0]})",
        expected="a hub id, or a folder with config.json and model.safetensors",
    )
