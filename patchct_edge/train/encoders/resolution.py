"""An image encoder at another resolution: the same weights, positions interpolated."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchct_edge.errors import UserError


def resize_position_embeddings(model: Any, size: int) -> nn.Module:
    """Return a `transformers` vision model for images of `size` pixels a side; 0 keeps it as it is.

    Learned positions are interpolated (bicubic) from the old grid of patches to the new one; those
    of CLS and the like, and all other weights, stay.

    Raises:
        UserError: `size` is no whole number of patches, or the model fits its one size only.
    """
    if size in (0, getattr(model.config, "image_size", 0)):
        return cast(nn.Module, model)
    config = copy.deepcopy(model.config)
    patch = getattr(config, "patch_size", 1)
    if isinstance(patch, int) and size % patch:
        raise UserError(
            "the image size is no whole number of patches",
            got=size,
            expected=f"a multiple of {patch}",
        )
    config.image_size = size
    other = type(model)(config)
    weights = model.state_dict()
    for name, there in other.state_dict().items():
        if name in weights and weights[name].shape != there.shape:
            weights[name] = _interpolated(name, weights[name], there.shape[-2])
    other.load_state_dict(weights, strict=False)  # the old one may have lost its pooler
    return other


def _interpolated(name: str, table: Tensor, count: int) -> Tensor:
    """Return positions (..., T, h) of T tokens as those of `count` tokens."""
    old = math.isqrt(table.shape[-2])  # CLS and the like are fewer than a row of patches
    first = table.shape[-2] - old**2
    new = math.isqrt(count - first)
    if "position_embedding" not in name or new**2 != count - first:
        raise UserError("the image encoder fits one image size only", got=name)
    flat = table.reshape(-1, table.shape[-1])
    grid = flat[first:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    rows = torch.cat([flat[:first], grid.flatten(2)[0].T])
    return rows.reshape(*table.shape[:-2], count, -1)
