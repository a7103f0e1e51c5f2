"""Tiny encoders and datasets, generated at run time; nothing is downloaded."""

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
from patchct_edge.progress import Advance
from patchct_edge.train.checkpoint import RunState
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.image import ImageEncoder
from patchct_edge.train.encoders.labels import FixedLabelEncoder
from patchct_edge.train.loop import train_model
from patchct_edge.train.model import PatchCT

torch.set_num_threads(1)

COLORS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a photo of . cat dog cow very old gray red green blue"


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
    """Create settings for the tiny ViT."""

    def create(**changes: object) -> TrainConfig:
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

    return create


@pytest.fixture
def patchct(vit: Path, settings: Callable[..., TrainConfig]) -> Callable[..., PatchCT]:
    """Create a random model in eval mode with a table of embeddings (M, D)."""

    def create(embeddings: torch.Tensor, mean: torch.Tensor | None = None, **changes: object):
        config = settings(**changes)
        torch.manual_seed(1)
        image = ImageEncoder.load(config.image_encoder, config.layers, True)
        mean = embeddings.mean(0) if mean is None else mean
        model = PatchCT(image, FixedLabelEncoder(embeddings), mean, config).eval()
        weight = model.adapt[2].weight
        assert isinstance(weight, torch.Tensor)
        torch.nn.init.normal_(weight, std=0.2)  # a residual that is not 0
        return model

    return create


@pytest.fixture
def color_set(tmp_path: Path) -> Callable[..., Dataset]:
    """Write images of colored squares on gray, labeled by color; some have no square."""

    def write(count: int = 16, name: str = "train", labels: Sequence[str] = tuple(COLORS)):
        rng = np.random.default_rng([count, *name.encode()])
        samples = []
        for n in range(count):
            rgb = rng.integers(90, 160, (40, 48, 3), dtype=np.uint8)
            present = [label for m, label in enumerate(COLORS) if n % 8 >> m & 1]
            for label in present:
                x, y = 16 * list(COLORS).index(label), rng.integers(0, 24)
                rgb[y : y + 16, x : x + 16] = COLORS[label]
            path = tmp_path / f"{name}-{n}.png"
            images.save(rgb, path)
            samples.append(Sample(path, tuple(label for label in present if label in labels)))
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


class ProgressRecorder:
    """A Progress that records the details of every stage.

    Args:
        stop: (stage, step) at which to interrupt the run, as Ctrl-C does.
    """

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.stop = stop
        self.stages: dict[str, list[str]] = {}

    def stage(self, name: str, total: int) -> Advance:
        details = self.stages[name] = []

        def advance(done: int, detail: str = "") -> None:
            details.append(detail)
            assert done <= total
            if (name, done) == self.stop:
                raise KeyboardInterrupt

        return advance


@pytest.fixture
def progress_recorder() -> type[ProgressRecorder]:
    return ProgressRecorder


@pytest.fixture
def train(
    tmp_path: Path,
    settings: Callable[..., TrainConfig],
    progress_recorder: type[ProgressRecorder],
) -> Callable[..., tuple[RunState, ProgressRecorder]]:
    """Train into a folder; return the state of the run and the recorded progress."""

    def run_training(
        dataset: Dataset,
        val: Dataset | None = None,
        name: str = "run",
        stop: tuple[str, int] | None = None,
        resume: bool = False,
        start_from: Path | None = None,
        **changes: object,
    ) -> tuple[RunState, ProgressRecorder]:
        progress = progress_recorder(stop)
        state = train_model(
            dataset,
            val,
            tmp_path / name,
            settings(**changes),
            progress,
            device="cpu",
            resume=resume,
            start_from=start_from,
        )
        return state, progress

    return run_training
