"""The device of a training, and the normalization of its pixels."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from patchct_edge.errors import UserError
from patchct_edge.train.device import Normalize
from patchct_edge.train.loop import train_model


def test_pixels_are_normalized_with_mean_and_std(train, color_set):
    state, _ = train(color_set(8), epochs=1)
    preprocessing = dataclasses.replace(
        state.preprocessing, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 1.0)
    )
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    normalized = Normalize(preprocessing, "cpu")(images)
    assert normalized.shape == (2, 3, 4, 4)
    for c in range(3):
        expected = (images[..., c] / 255 - preprocessing.mean[c]) / preprocessing.std[c]
        torch.testing.assert_close(normalized[:, c], expected)


def test_a_missing_device_is_reported(color_set, settings, tmp_path):
    for device in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match="the device cannot be used"):
            train_model(color_set(8), None, tmp_path / "run", settings(), device=device)
