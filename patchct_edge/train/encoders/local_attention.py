"""Patch tokens for maps: in the last quarter of a transformer, each attends to itself alone.

Attention in the last layers spreads the evidence of a patch over all others, so that a patch of
road can carry the label "bus" as strongly as the bus itself. That helps scores and hurts maps: with
the same weights, maps point at 82 % of the objects this way and at 75 % with full attention
(docs/lab/experiments.md). So the last layers run a second time, for the maps; the scores do not
change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import AttentionInterface

T = TypeVar("T")
LOCAL_ATTENTION = "patchct_local"  # its name in `transformers`
LAYERS_PER_LOCAL_LAYER = 4


def attend_to_self(
    module: object, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
) -> tuple[Tensor, None]:
    """Return the value of every token, (B, heads, T, width) as (B, T, heads, width), no weights."""
    return value.transpose(1, 2).contiguous(), None


AttentionInterface.register(LOCAL_ATTENTION, attend_to_self)


class LocalLayers:
    """The last quarter of the layers of a `transformers` model, run a second time for the maps.

    There are none if the model has fewer than four layers, or builds them in another way (Swin,
    SegFormer, ConvNeXt); the maps are then made from its last layer as it is.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = _find_layers(model)
        self._layers = layers[len(layers) - len(layers) // LAYERS_PER_LOCAL_LAYER :]
        self._attentions = [_find_attention(layer) for layer in self._layers]

    def __bool__(self) -> bool:
        return bool(self._layers)

    def capture(self, encode: Callable[[], T]) -> tuple[T, Callable[[int], Tensor]]:
        """Run `encode`, which calls the model, and remember what enters its last quarter.

        Returns:
            The result of `encode`, and a function that runs the last quarter with local attention:
            it takes the number of tokens before the patches, and returns the patch tokens
            (B, N, h) before the final norm.
        """
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        hook = self._layers[0].register_forward_pre_hook(
            lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
        )
        try:
            result = encode()
        finally:
            hook.remove()
        ((tokens, *args), kwargs), *_ = calls
        return result, lambda prefix: self._run(tokens[:, prefix:], args, kwargs)

    def _run(self, patches: Tensor, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        with self._use_local_attention():
            for layer in self._layers:
                output = layer(patches, *args, **kwargs)
                patches = output[0] if isinstance(output, tuple) else output
        return patches

    @contextmanager
    def _use_local_attention(self) -> Iterator[None]:
        full = [attention.config for attention in self._attentions]
        local = copy.copy(full[0])
        local._attn_implementation = LOCAL_ATTENTION
        try:
            for attention in self._attentions:
                attention.config = local
            yield
        finally:
            for attention, config in zip(self._attentions, full, strict=True):
                attention.config = config


def _find_layers(model: Any) -> list[nn.Module]:
    """Return the layers of a plain transformer, or an empty list for other models."""
    depth = getattr(model.config, "num_hidden_layers", None)
    stacks = [list(stack) for stack in model.modules() if isinstance(stack, nn.ModuleList)]
    plain = (stack for stack in stacks if len(stack) == depth and all(map(_find_attention, stack)))
    return next(plain, [])


def _find_attention(layer: nn.Module) -> Any:
    """Return the module whose attention `transformers` provides; None unless there is just one."""
    attentions = [
        module for module in layer.modules() if {"config", "is_causal"} <= vars(module).keys()
    ]
    return attentions[0] if len(attentions) == 1 else None
