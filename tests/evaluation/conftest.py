"""A bundle in two precisions, and labeled photos of plain colors."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset, Sample

COLORS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.fixture
def bundle(write_bundle, tmp_path):
    return Bundle(write_bundle(tmp_path / "x.patchct", ("fp32", "int8")))


@pytest.fixture(scope="module")
def color_dataset(tmp_path_factory):
    """45 noisy photos, 15 of each color, each labeled with its color."""
    folder = tmp_path_factory.mktemp("colors")
    rng, samples = np.random.default_rng(0), []
    for n in range(45):
        label = list(COLORS)[n % 3]
        noise = rng.integers(-20, 20, (8, 8, 3))
        images.save((COLORS[label] + noise).clip(0, 255).astype(np.uint8), folder / f"{n}.png")
        samples.append(Sample(folder / f"{n}.png", (label,)))
    return Dataset(tuple(samples), tuple(COLORS))
