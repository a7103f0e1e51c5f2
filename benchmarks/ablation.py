r"""Compare the parts of PatchCT, by heads trained on the cached tokens of a frozen image encoder.

    python benchmarks/ablation.py DATA --boxes BOXES.csv --image-encoder FOLDER \
        --label-encoder TABLE.npz

Prints a JSON line per variant: the mean and the spread (standard deviation) over the seeds of the
val mAP and of the pointing game, 0..1, and the mean cosine between the prototypes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchct_edge import navigators
from patchct_edge.datasets import Boxes, Dataset, read_boxes, read_dataset
from patchct_edge.evaluation.pointing import score_pointing
from patchct_edge.metrics import mean_average_precision
from patchct_edge.train.batches import Batch, Batches
from patchct_edge.train.build import build_model
from patchct_edge.train.config import TrainConfig, parse_config
from patchct_edge.train.device import Normalize
from patchct_edge.train.encoders.image import Tokens
from patchct_edge.train.encoders.labels import read_table_names
from patchct_edge.train.model import mean_pairwise_cosine
from patchct_edge.train.optimizer import EMA, create_optimizer, set_learning_rates
from patchct_edge.train.trainer import training_step

CLS_ONLY: dict[str, float | bool] = {"navigator_score": False, "ct_weight": 0.0}
VARIANTS: dict[str, dict[str, float | bool]] = {
    "CLS score only": CLS_ONLY,
    "navigator score only": {**CLS_ONLY, "navigator_score": True, "cls_score": False},
    "CLS + navigator score": {**CLS_ONLY, "navigator_score": True},
    "CLS + CT forward": {"navigator_score": False, "ct_backward": 0.0},
    "CLS + CT backward": {"navigator_score": False, "ct_forward": 0.0},
    "CLS + CT both": {"navigator_score": False},
    "CLS + navigator + CT forward": {"ct_backward": 0.0},
    "CLS + navigator + CT backward": {"ct_forward": 0.0},
    "all": {},
}


class EncodedSplit(NamedTuple):
    """A split with the tokens of its images, and the patch tokens for maps, float16 (n, N, h)."""

    dataset: Dataset
    tokens: Tokens
    map_patches: Tensor


class HeadFigures(NamedTuple):
    """The figures of one trained head: val mAP, pointing game, mean cosine of the prototypes."""

    map: float
    pointing: float
    cosine: float


def main() -> None:
    """Read the arguments, cache the tokens, and train every variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-encoder", required=True)
    parser.add_argument("--label-encoder", required=True, help=".npz table")
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("--tau", type=float, default=TrainConfig().tau)
    parser.add_argument("--seeds", type=int, default=3, help="runs per variant")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--ct-weight", type=float, default=TrainConfig().ct_weight)
    parser.add_argument("--only", nargs="*", help="variants to run, by name")
    args = parser.parse_args()
    base = TrainConfig(
        image_encoder=args.image_encoder,
        label_encoder=args.label_encoder,
        lr_backbone=0.0,
        epochs=args.epochs,
        ct_weight=args.ct_weight,
        batch_size=64,
        tau=args.tau,
    )
    labels = read_table_names(Path(args.label_encoder))
    boxes = read_boxes(args.boxes, labels)
    train, val = (
        encode_split(read_dataset(args.data, split=split, labels=labels), base)
        for split in ("train", "val")
    )
    for name, settings in VARIANTS.items():
        if args.only and name not in args.only:
            continue
        figures = []
        for seed in range(args.seeds):
            config = parse_config({**base.to_json(), "seed": seed, **settings})
            figures.append(train_head(config, train, val, boxes))
        means, spreads = np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1)
        row = {
            "variant": name,
            "map": round(means[0], 4),
            "map_spread": round(spreads[0], 4),
            "pointing": round(means[1], 4),
            "pointing_spread": round(spreads[1], 4),
            "cosine": round(means[2], 2),
        }
        print(json.dumps(row), flush=True)


@torch.inference_mode()
def encode_split(dataset: Dataset, config: TrainConfig) -> EncodedSplit:
    """Encode every image of a split once, without augmentation."""
    model, state = build_model(dataset, config)
    model.eval()
    normalize = Normalize(state.preprocessing, "cpu")
    rows = []
    with torch.autocast("cpu", torch.bfloat16):
        for batch in Batches(dataset, state.preprocessing, config).iter_unaugmented():
            tokens, map_patches = model.image.encode_with_maps(normalize(batch.images))
            rows.append((*tokens, map_patches))
    cls, patches, map_patches = (torch.cat(parts).half() for parts in zip(*rows, strict=True))
    return EncodedSplit(dataset, Tokens(cls, patches), map_patches)


def train_head(
    config: TrainConfig, train: EncodedSplit, val: EncodedSplit, boxes: Boxes
) -> HeadFigures:
    """Train a head on cached tokens, and measure its averaged weights on val."""
    torch.manual_seed(config.seed)
    model, state = build_model(train.dataset, config)
    optimizer, ema = create_optimizer(model, config), EMA(model, config.ema_decay)
    targets, ignored = (torch.from_numpy(flags) for flags in train.dataset.build_targets())
    count = len(train.dataset)
    steps = config.epochs * (count // config.batch_size)
    for step, indices in enumerate(iter_batch_indices(count, config)):
        set_learning_rates(optimizer, step, steps, config.warmup)
        batch = Batch(torch.empty(0), targets[indices], ignored[indices])
        tokens = Tokens(*(part[indices] for part in train.tokens))
        training_step(model, optimizer, tokens, batch, config.grad_clip)
        ema.update(model)
    with torch.inference_mode():
        prototypes = ema.model.compute_prototypes()
        logits = ema.model.score(val.tokens, prototypes).logits
        similarity = ema.model.compute_map_similarity(val.map_patches, prototypes)
    maps = navigators.backward(similarity.numpy(), config.tau)
    pointing = score_pointing(
        zip(val.dataset.samples, maps, strict=True),
        boxes,
        val.dataset.label_set,
        (model.image.grid, model.image.grid),
        state.preprocessing,
    )
    return HeadFigures(
        mean_average_precision(logits.numpy(), *val.dataset.build_targets()),
        pointing.ordinary.pointing,
        mean_pairwise_cosine(prototypes),
    )


def iter_batch_indices(count: int, config: TrainConfig) -> Iterator[Tensor]:
    """Yield the image indices of each batch of all epochs; batches are always full."""
    rng = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = torch.from_numpy(rng.permutation(count))
        yield from order[: count // config.batch_size * config.batch_size].split(config.batch_size)


if __name__ == "__main__":
    main()
