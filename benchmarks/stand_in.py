"""A run, a bundle and photos to time where none are at hand: a ViT-Ti of random weights.

Speed does not depend on what a model has learnt; its tags mean nothing.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from transformers import ViTConfig

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.datasets import read_dataset
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.export import ExportOptions, export_bundle
from patchct_edge.export.quantization_images import PhotoSources
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.loop import train_model

LABELS = [f"label {n}" for n in range(20)]
OPEN = Gates(1, 1, 100, 1e9)  # a model that has learnt nothing flips tags at the slightest touch


def make(folder: Path, photos: int = 240) -> tuple[Path, Path, Path]:
    """Make (run, bundle, folder of photos) under a folder, unless they are there."""
    run, bundle, pictures = folder / "run", folder / "x.patchct", folder / "photos"
    if not bundle.exists():
        data = draw_photos(pictures, photos)
        encoder = folder / "encoder"
        ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768).save_pretrained(
            encoder
        )
        config = TrainConfig(image_encoder=str(encoder), pretrained=False, epochs=1)
        splits = [read_dataset(data, split=split) for split in ("train", "val")]
        train_model(splits[0], splits[1], run, config)
        choice = ExportOptions(("fp32", "int8"), PhotoSources(data), gates=OPEN)
        export_bundle(run, bundle, choice, lambda message: None)
    return run, bundle, pictures


def draw_photos(folder: Path, count: int) -> Path:
    """Draw JPEGs of 500 x 375 pixels with detail at every scale, and write their labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "labels", "split"))
        for n in range(count):
            images.save(_photo(rng), folder / f"{n:04}.jpg")
            rows.writerow(
                (f"{n:04}.jpg", LABELS[n % len(LABELS)], "train" if n // len(LABELS) % 2 else "val")
            )
    return folder / "labels.csv"


def _photo(rng: np.random.Generator) -> RGB:
    layers = []
    for side in (3, 9, 27, 81, 243):
        coarse = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        layers.append(images.resize(coarse, 500, 375, "bicubic").astype(np.float32))
    weights = np.array([5, 3, 2, 1, 1], np.float32)
    return (np.tensordot(weights / weights.sum(), np.stack(layers), 1)).astype(np.uint8)
