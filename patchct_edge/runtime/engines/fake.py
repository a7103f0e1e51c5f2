"""A fake engine for tests of everything around an engine: fast, exact, needs no model."""

from __future__ import annotations

import numpy as np

from patchct_edge.arrays import ImageBatch
from patchct_edge.runtime.engines.base import BlockingEngine, EngineRecord, Outputs

NAME = "fake"


class FakeEngine(BlockingEngine):
    """Logits and similarity that are plain functions of the pixels.

    Label m's logit is the mean of colour channel m % 3, scaled to -4..4; its similarity is the same
    at every patch. A red picture therefore gets the labels 0, 3, 6, ...
    """

    def __init__(self, size: int, labels: int, patches: int) -> None:
        super().__init__()
        self.size, self.labels, self._patches = size, labels, patches
        self.record = EngineRecord(NAME, "fp32", "fp32", "fake 1", "none")

    def compute(self, images: ImageBatch) -> Outputs:
        channels = images.mean(axis=(1, 2), dtype=np.float32) / 255  # (B, 3)
        shades = channels[:, np.arange(self.labels) % 3]  # (B, M)
        similarity = np.repeat(shades[:, :, None], self._patches, axis=2)
        return Outputs(shades * 8 - 4, similarity)
