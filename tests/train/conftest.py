"""Tiny encoders and picture sets, made at run time; nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported

import numpy as np
import pytest
import torch
import transformers

from patchct_edge import images
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.image import ImageEncoder
from patchct_edge.train.encoders.labels import FixedLabels
from patchct_edge.train.model import PatchCT

torch.set_num_threads(1)

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a photo of . cat dog cow very old grey red green blue"


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random ViT: 32 pixels, patches of 8, width 32, 2 layers, with dropout."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        hidden_dropout_prob=0.1,
    )
    folder = tmp_path_factory.mktemp("vit")
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT of width 16 with its tokenizer, which knows `WORDS`."""
    torch.manual_seed(0)
    words = WORDS.split()
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    folder = tmp_path_factory.mktemp("bert")
    transformers.BertModel(config).save_pretrained(folder)
    vocabulary = {word: n for n, word in enumerate(words)}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(vit: Path) -> Callable[..., TrainConfig]:
    """Make a configuration for the tiny ViT."""

    def make(**changes: object) -> TrainConfig:
        values: dict[str, object] = {
            "image_encoder": str(vit),
            "dim": 16,
            "batch_size": 8,
            "epochs": 2,
            "lr_backbone": 2e-3,
            "lr_head": 5e-3,
            "precision": "fp32",
            "crop_scale": 0.7,
            "layer_decay": 1,
            "warmup": 0.1,
        }
        return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def patchct(vit: Path, settings: Callable[..., TrainConfig]) -> Callable[..., PatchCT]:
    """Make a random model in eval mode with a table of embeddings (M, D)."""

    def make(embeddings: torch.Tensor, mean: torch.Tensor | None = None, **changes: object):
        config = settings(**changes)
        torch.manual_seed(1)
        image = ImageEncoder.load(config.image_encoder, config.layers, True)
        mean = embeddings.mean(0) if mean is None else mean
        model = PatchCT(image, FixedLabels(embeddings), mean, config).eval()
        torch.nn.init.normal_(model.adapt[2].weight, std=0.2)  # a residual that does something
        return model

    return make


@pytest.fixture
def colour_set(tmp_path: Path) -> Callable[..., Dataset]:
    """Write pictures of coloured squares on grey, labelled by colour; some have no square."""

    def write(count: int = 16, name: str = "train", labels: Sequence[str] = tuple(COLOURS)):
        rng = np.random.default_rng([count, *name.encode()])
        samples = []
        for n in range(count):
            rgb = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
            shown = [label for m, label in enumerate(COLOURS) if n % 8 >> m & 1]
            for label in shown:
                x, y = 16 * list(COLOURS).index(label), rng.integers(0, 24)
                rgb[y : y + 16, x : x + 16] = COLOURS[label]
            path = tmp_path / f"{name}-{n}.png"
            images.save(rgb, path)
            samples.append(Sample(path, tuple(label for label in shown if label in labels)))
        return Dataset(tuple(samples), tuple(labels))

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write an .npz label table; a label's embedding depends on its name alone."""

    def write(*names: str, width: int = 12, file: str = "table.npz") -> Path:
        rows = [np.random.default_rng([*name.encode()]).normal(size=width) for name in names]
        np.savez(tmp_path / file, names=np.array(names), emb=np.array(rows, np.float32))
        return tmp_path / file

    return write


class Recorder:
    """A Progress that keeps what it is told, and stops the run at (epoch, step) where asked."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop = stop
        self.losses: list[float] = []
        self.rows: list[dict[str, float | int | None]] = []
        self.notes: list[str] = []

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        self.losses.append(loss)
        if (epoch + 1, done) == self.stop:
            raise KeyboardInterrupt

    def epoch(self, row: dict[str, float | int | None]) -> None:
        self.rows.append(row)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder
