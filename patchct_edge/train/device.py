"""What depends on the device: pixels on it, and the arithmetic that pays there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from patchct_edge.bundle import Preprocessing
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.model import PatchCT

Autocast = Callable[[], AbstractContextManager[None]]


class Normalize:
    """Move uint8 images to the device and normalise them as the engine's graph does."""

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        self.device = device
        self.mean = torch.tensor(preprocessing.mean, device=device) * 255
        self.std = torch.tensor(preprocessing.std, device=device) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) to float32 (B, 3, H, W)."""
        floats = images.to(self.device, non_blocking=True).float()
        return ((floats - self.mean) / self.std).permute(0, 3, 1, 2)


def autocast_for(model: PatchCT, config: TrainConfig, device: str) -> Autocast:
    """Return a context for bf16 where asked for, or where it is known to pay.

    It pays on GPUs that have it, and on CPUs with AVX512-BF16 or AMX from a width of 192 on
    (narrower encoders lose more in the casts than they gain).
    """
    if config.precision == "auto":
        if device.startswith("cuda"):
            pays = torch.cuda.is_bf16_supported()
        else:
            has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            pays = has and model.image.width >= 192
    else:
        pays = config.precision == "bf16"
    if not pays:
        return nullcontext
    return lambda: torch.autocast(device.split(":")[0], torch.bfloat16)
