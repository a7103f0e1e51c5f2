"""Changing the input size of an image encoder: the same weights, interpolated positions."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchct_edge.errors import UserError


def resize_position_embeddings(model: Any, size: int) -> nn.Module:
    """Return a `transformers` vision model for images of `size` x `size` pixels.

    Learned positions of patches are interpolated (bicubic) from the old grid to the new one; those
    of CLS and register tokens, and all other weights, stay. A size of 0 keeps the model.

    Raises:
        UserError: `size` is not a multiple of the patch size, or the model has one fixed size.
    """
    if size in (0, getattr(model.config, "image_size", 0)):
        return cast(nn.Module, model)
    config = copy.deepcopy(model.config)
    patch = getattr(config, "patch_size", 1)
    if isinstance(patch, int) and size % patch:
        raise UserError(
            "the image size is not a multiple of the patch size",
            got=size,
            expected=f"a multiple of {patch}",
        )
    config.image_size = size
    resized = type(model)(config)
    weights = model.state_dict()
    for name, tensor in resized.state_dict().items():
        if name in weights and weights[name].shape != tensor.shape:
            weights[name] = _interpolate_positions(name, weights[name], tensor.shape[-2])
    resized.load_state_dict(weights, strict=False)  # the old model may have lost its pooler
    return resized


def _interpolate_positions(name: str, positions: Tensor, token_count: int) -> Tensor:
    """Interpolate positions (..., T, h) to (..., token_count, h); `name` is the parameter's."""
    old_side = math.isqrt(positions.shape[-2])  # there are fewer prefix tokens than a row has
    prefix = positions.shape[-2] - old_side**2  # CLS and register tokens
    new_side = math.isqrt(token_count - prefix)
    if "position_embedding" not in name or new_side**2 != token_count - prefix:
        raise UserError("the image encoder has one fixed image size", got=name)
    flat = positions.reshape(-1, positions.shape[-1])
    grid = flat[prefix:].T.reshape(1, -1, old_side, old_side)
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False)
    rows = torch.cat([flat[:prefix], grid.flatten(2)[0].T])
    return rows.reshape(*positions.shape[:-2], token_count, -1)
