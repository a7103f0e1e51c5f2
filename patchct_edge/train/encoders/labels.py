"""Label encoders: modules whose call returns one embedding per label, float32 (M, D)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from patchct_edge.errors import UserError, did_you_mean
from patchct_edge.train.encoders.hub import LOAD_ERRORS, check_source, encoder_load_error

DEFAULT_PROMPT = "A photo of a {label}."


class FixedLabelEncoder(nn.Module):
    """Embeddings that are not trained: from a table, or from a frozen text encoder."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings.float())  # (M, D)

    def forward(self) -> Tensor:
        return self.embeddings


class LearnedLabelEncoder(nn.Module):
    """One learned vector per label, minus their mean.

    The label set of such a model cannot change, so the mean moves no prototype later.
    """

    def __init__(self, label_count: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(label_count, width) / width**0.5)  # (M, D)

    def forward(self) -> Tensor:
        return self.embeddings - self.embeddings.mean(0)


class TextLabelEncoder(nn.Module):
    """A text encoder that is trained too; it keeps the tokens, so it needs no tokenizer later."""

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
        mask = self.attention_mask[:, :, None]  # sentence encoders: the mean over the words
        return (output.last_hidden_state * mask).sum(1) / mask.sum(1)


def load_text_label_encoder(source: str, prompts: Sequence[str]) -> TextLabelEncoder:
    """Load a text model or sentence encoder, and tokenize one prompt per label.

    Raises:
        UserError: the model or its tokenizer cannot be loaded.
    """
    check_source("text", source)
    try:
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
        tokens = AutoTokenizer.from_pretrained(source)(
            list(prompts), padding=True, truncation=True, return_tensors="pt"
        )
    except LOAD_ERRORS as error:
        raise encoder_load_error("text", source, error) from None
    return TextLabelEncoder(model, tokens["input_ids"], tokens["attention_mask"])


def read_table_names(path: Path) -> list[str]:
    """Return the label names of an `.npz` table with `names` (M,) and `emb` (M, D).

    Raises:
        UserError: the file is not such a table.
    """
    return [str(name) for name in _read_table(path)[0]]


def read_table_embeddings(path: Path, labels: Sequence[str]) -> Tensor:
    """Return the embeddings of `labels`, float32 (M, D) in their order, from an `.npz` table.

    Raises:
        UserError: the file is not such a table, or lacks a label.
    """
    names, embeddings = _read_table(path)
    row_by_name = {str(name): row for row, name in enumerate(names)}
    for label in labels:
        if label not in row_by_name:
            raise UserError(
                f"the table {path} has no embedding for a label",
                got=f"{label}, {did_you_mean(label, row_by_name)}",
                fix="add it to the table, or list the labels to use with --labels FILE",
            )
    return torch.from_numpy(embeddings[[row_by_name[label] for label in labels]])


def _read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as table:
            names, embeddings = table["names"].astype(str), table["emb"].astype(np.float32)
    # A damaged file, an empty file, or a single array in place of a table.
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
