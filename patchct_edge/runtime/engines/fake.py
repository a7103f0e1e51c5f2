"""A fake engine for tests of the code around an engine: fast, exact, without a model."""

from __future__ import annotations

import numpy as np

from patchct_edge.arrays import ImageBatch
from patchct_edge.runtime.engines.base import BlockingEngine, EngineRecord, Outputs

NAME = "fake"


class FakeEngine(BlockingEngine):
    """Compute logits and similarity from the mean color.

    The logit of label m is the mean of color channel m % 3, scaled to -4..4; its similarity is
    that mean, 0..1, at every patch. A red image therefore gets the labels 0, 3, 6, ...
    """

    def __init__(self, size: int, label_count: int, patch_count: int) -> None:
        super().__init__()
        self.size, self.label_count, self._patch_count = size, label_count, patch_count
        self.record = EngineRecord(NAME, "fp32", "fp32", "fake 1", "none")

    def compute(self, images: ImageBatch) -> Outputs:
        means = images.mean(axis=(1, 2), dtype=np.float32) / 255  # (B, 3)
        channel_means = means[:, np.arange(self.label_count) % 3]  # (B, M)
        similarity = np.repeat(channel_means[:, :, None], self._patch_count, axis=2)
        return Outputs(channel_means * 8 - 4, similarity)
