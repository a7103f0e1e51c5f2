"""Make a run, a bundle and photos for the CPU benchmark: a ViT-Ti with random weights.

Its tags mean nothing, but its speed is that of a trained model.
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
# The least rounding flips tags of an untrained model, so its gates let everything pass.
OPEN_GATES = Gates(max_fp32_difference=1, max_fp16_difference=1, max_map_drop=100, max_flips=1e9)


def make_model(folder: Path, photos: int = 240) -> tuple[Path, Path, Path]:
    """Return (run, bundle, folder of photos) below a folder; make them unless they exist."""
    run, bundle, photo_folder = folder / "run", folder / "x.patchct", folder / "photos"
    if not bundle.exists():
        table = draw_photos(photo_folder, photos)
        encoder = folder / "encoder"
        ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768).save_pretrained(
            encoder
        )
        config = TrainConfig(image_encoder=str(encoder), pretrained=False, epochs=1)
        train, val = [read_dataset(table, split=split) for split in ("train", "val")]
        train_model(train, val, run, config)
        options = ExportOptions(("fp32", "int8"), PhotoSources(table), gates=OPEN_GATES)
        export_bundle(run, bundle, options)
    return run, bundle, photo_folder


def draw_photos(folder: Path, count: int) -> Path:
    """Draw JPEGs of 500 x 375 pixels with detail at every scale; return their labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "labels", "split"))
        for n in range(count):
            images.save(_draw_photo(rng), folder / f"{n:04}.jpg")
            writer.writerow(
                (f"{n:04}.jpg", LABELS[n % len(LABELS)], "train" if n // len(LABELS) % 2 else "val")
            )
    return folder / "labels.csv"


def _draw_photo(rng: np.random.Generator) -> RGB:
    layers = []
    for side in (3, 9, 27, 81, 243):
        coarse = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        layers.append(images.resize(coarse, 500, 375, "bicubic").astype(np.float32))
    weights = np.array([5, 3, 2, 1, 1], np.float32)
    return (np.tensordot(weights / weights.sum(), np.stack(layers), 1)).astype(np.uint8)
