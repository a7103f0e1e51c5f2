"""A bundle in two precisions, and labeled photos of plain colors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.runtime.engines.base import EngineRecord

PHOTOS = 200
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


@pytest.fixture(scope="session")
def predictions():
    """Scores better than chance, some cells ignored; the last label has no positive."""
    rng = np.random.default_rng(3)
    targets, ignored = rng.random((PHOTOS, 3)) < (0.3, 0.6, 0), rng.random((PHOTOS, 3)) < 0.1
    logits = (rng.normal(0, 2, (PHOTOS, 3)) + 2 * targets).astype(np.float32)
    paths = tuple(Path(f"{n}.jpg") for n in range(PHOTOS))
    record = EngineRecord("fake", "fp32", "fp32", "fake 1", "none")
    return Predictions(record, ("a", "b", "never"), paths, logits, targets, ignored)
