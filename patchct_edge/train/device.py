"""The device that trains: which one, its arithmetic, and the pixels it receives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.model import PatchCT

Autocast = Callable[[], AbstractContextManager[None]]
MIN_BF16_CPU_WIDTH = 192  # narrower encoders lose more in the casts than bf16 gains


class Normalize:
    """Move uint8 images to a device and normalize them as the engine's graph does."""

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        self.device = device
        self.mean = torch.tensor(preprocessing.mean, device=device) * 255
        self.std = torch.tensor(preprocessing.std, device=device) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize uint8 images (B, H, W, 3) to float32 (B, 3, H, W)."""
        floats = images.to(self.device, non_blocking=True).float()
        return ((floats - self.mean) / self.std).permute(0, 3, 1, 2)


def choose_device() -> str:
    """Return the GPU if PyTorch can use one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def move_to_device(model: PatchCT, device: str) -> None:
    """Move a model to a device.

    Raises:
        UserError: PyTorch cannot use the device.
    """
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            "the device cannot be used",
            got=f"{device} ({str(error).splitlines()[0]})",
            expected="cpu" + (" or cuda" if torch.cuda.is_available() else ""),
        ) from None


def choose_autocast(model: PatchCT, config: TrainConfig, device: str) -> Autocast:
    """Return a context for bf16 if the settings ask for it, or if it is known to be faster.

    It is faster on GPUs that have it, and on CPUs with AVX512-BF16 or AMX for encoders at least
    `MIN_BF16_CPU_WIDTH` wide.
    """
    if config.precision == "auto":
        if device.startswith("cuda"):
            use_bf16 = torch.cuda.is_bf16_supported()
        else:
            has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            use_bf16 = has_bf16 and model.image.width >= MIN_BF16_CPU_WIDTH
    else:
        use_bf16 = config.precision == "bf16"
    if not use_bf16:
        return nullcontext
    return lambda: torch.autocast(device.split(":")[0], torch.bfloat16)
