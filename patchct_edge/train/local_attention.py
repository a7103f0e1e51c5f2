"""Patches that attend to nothing but themselves, in the last layers of a transformer.

Full attention spreads what a patch has found over all the others, so that a patch of road can
carry the label of the bus as well as the bus does. Without it in the last layers the maps stay
where the objects are (docs/experiments.md). The first tokens (CLS, registers) attend as before.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from patchct_edge.errors import UserError

LOCAL = "patchct_local"


def attend_locally(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float, dropout: float = 0.0, **_: object,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention of the first tokens over all T, and each patch's own value.

    Args:
        module: attention module; its `first_tokens` says how many tokens come before the patches.
        query, key, value: (B, heads, T, width of a head).

    Returns:
        (B, T, heads, width of a head), and the weights (B, heads, first tokens, T).
    """
    first = module.first_tokens
    products = query[:, :, :first] @ key.transpose(2, 3) * scaling
    weights = torch.softmax(products, dim=-1, dtype=torch.float32).to(query.dtype)
    attended = nn.functional.dropout(weights, dropout, module.training) @ value
    together = torch.cat([attended, value[:, :, first:]], dim=2)
    return together.transpose(1, 2).contiguous(), weights


def keep_patches_local(model: Any, layers: int, first_tokens: int) -> None:
    """Let patches attend to themselves alone in the last `layers` layers, to all in the others.

    Raises:
        UserError: the model has not so many layers whose attention can be replaced.
    """
    attentions = [each for each in model.modules() if {"config", "is_causal"} <= vars(each).keys()]
    if not 0 <= layers <= len(attentions):
        raise UserError(
            "the image encoder has not so many layers of attention that can be made local",
            got=f"local_layers={layers}", expected=f"0 to {len(attentions)}",
            fix="a smaller local_layers, 0 for none",
        )  # fmt: skip
    local = copy.copy(model.config)
    local._attn_implementation = LOCAL
    for n, attention in enumerate(attentions):
        attention.first_tokens = first_tokens
        attention.config = local if n >= len(attentions) - layers else model.config


AttentionInterface.register(LOCAL, attend_locally)
