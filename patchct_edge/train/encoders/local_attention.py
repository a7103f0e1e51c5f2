"""The patches of the maps: in the last quarter of a transformer each attends to itself alone.

Attention of the last layers spreads what a patch has found over all the others, so that a patch of
road can carry the label of the bus as well as the bus does. Scores want that, maps do not: the
weights of one training point at 82 % of the objects this way, at 75 % with full attention
(docs/experiments.md). So the last layers run a second time for the maps, and scores stay as they
are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import AttentionInterface

T = TypeVar("T")
LOCAL = "patchct_local"
ONE_IN = 4  # layers


def attend_to_self(
    module: object, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
) -> tuple[Tensor, None]:
    """Return every token's own value, (B, heads, T, width) as (B, T, heads, width); no weights."""
    return value.transpose(1, 2).contiguous(), None


AttentionInterface.register(LOCAL, attend_to_self)


class LocalLayers:
    """The last quarter of the layers of a `transformers` model, for patches alone.

    None where the model has fewer than four, or builds its layers in another way (Swin, SegFormer,
    ConvNeXt): its maps are then those of its own last layer.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = _layers(model)
        self._layers = layers[len(layers) - len(layers) // ONE_IN :]
        self._attentions = [_attention(layer) for layer in self._layers]

    def __bool__(self) -> bool:
        return bool(self._layers)

    def watch(self, encode: Callable[[], T]) -> tuple[T, Callable[[int], Tensor]]:
        """Run `encode`, a call of the model; return its result, and what gives the local patches.

        That is a function of how many tokens come before the patches; it returns (B, N, h), before
        the final norm.
        """
        entered: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        hook = self._layers[0].register_forward_pre_hook(
            lambda _, args, kwargs: entered.append((args, kwargs)), with_kwargs=True
        )
        try:
            result = encode()
        finally:
            hook.remove()
        ((tokens, *args), kwargs), *_ = entered
        return result, lambda first: self._local(tokens[:, first:], args, kwargs)

    def _local(self, patches: Tensor, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        with self._local_attention():
            for layer in self._layers:
                output = layer(patches, *args, **kwargs)
                patches = output[0] if isinstance(output, tuple) else output
        return patches

    @contextmanager
    def _local_attention(self) -> Iterator[None]:
        full = [attention.config for attention in self._attentions]
        local = copy.copy(full[0])
        local._attn_implementation = LOCAL
        try:
            for attention in self._attentions:
                attention.config = local
            yield
        finally:
            for attention, config in zip(self._attentions, full, strict=True):
                attention.config = config


def _layers(model: Any) -> list[nn.Module]:
    """Return the layers of a plain transformer: a list as long as its configuration says."""
    deep = getattr(model.config, "num_hidden_layers", None)
    lists = [list(each) for each in model.modules() if isinstance(each, nn.ModuleList)]
    plain = (each for each in lists if len(each) == deep and all(map(_attention, each)))
    return next(plain, [])


def _attention(layer: nn.Module) -> Any:
    """Return the module that asks `transformers` for its attention, where there is just one."""
    found = [each for each in layer.modules() if {"config", "is_causal"} <= vars(each).keys()]
    return found[0] if len(found) == 1 else None
