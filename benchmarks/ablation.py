r"""Which part of PatchCT brings what: heads trained on the cached tokens of a frozen backbone.

    python benchmarks/ablation.py DATA --boxes BOXES.csv --image-encoder FOLDER \
        --label-encoder TABLE.npz

Prints one row a variant, the mean and the spread (standard deviation) over the seeds of val mAP and
of the pointing game, and the mean cosine between the prototypes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

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
from patchct_edge.train.loop import training_step
from patchct_edge.train.model import mean_prototype_cosine
from patchct_edge.train.optimizer import EMA, create_optimizer, set_learning_rates

OFF: dict[str, float | bool] = {"navigator_score": False, "ct_weight": 0.0}
VARIANTS: dict[str, dict[str, float | bool]] = {
    "CLS score only": OFF,
    "navigator score only": {**OFF, "navigator_score": True, "cls_score": False},
    "CLS + navigator score": {**OFF, "navigator_score": True},
    "CLS + CT forward": {"navigator_score": False, "ct_backward": 0.0},
    "CLS + CT backward": {"navigator_score": False, "ct_forward": 0.0},
    "CLS + CT both": {"navigator_score": False},
    "CLS + navigator + CT forward": {"ct_backward": 0.0},
    "CLS + navigator + CT backward": {"ct_forward": 0.0},
    "all": {},
}


def main() -> None:
    """Read the arguments, cache the tokens, train every variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-encoder", required=True)
    parser.add_argument("--label-encoder", required=True)
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("--tau", type=float, default=TrainConfig().tau)
    parser.add_argument("--seeds", type=int, default=3)
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
    splits = [read_dataset(args.data, split=split, labels=labels) for split in ("train", "val")]
    boxes = read_boxes(args.boxes, labels)
    cached = [encoded(data, base) for data in splits]
    for name, settings in VARIANTS.items():
        if args.only and name not in args.only:
            continue
        runs = [
            head_trained(
                parse_config({**base.to_json(), "seed": seed, **settings}), splits, cached, boxes
            )
            for seed in range(args.seeds)
        ]
        means, spreads = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1)
        row = {
            "variant": name,
            "map": round(means[0], 4),
            "spread": round(spreads[0], 4),
            "pointing": round(means[1], 4),
            "pointing_spread": round(spreads[1], 4),
            "cosine": round(means[2], 2),
        }
        print(json.dumps(row), flush=True)


@torch.inference_mode()
def encoded(data: Dataset, config: TrainConfig) -> tuple[Tokens, Tensor]:
    """Encode every image of a split once, unaugmented, in float16: tokens, patches of the maps."""
    model, state = build_model(data, config)
    pixels = Normalize(state.preprocessing, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        parts = [
            model.eval().image.encode_with_maps(pixels(batch.images))
            for batch in Batches(data, state.preprocessing, config).iter_unaugmented()
        ]
    rows = [(*tokens, patches) for tokens, patches in parts]
    cls, full, local = (torch.cat(part).half() for part in zip(*rows, strict=True))
    return Tokens(cls, full), local


def head_trained(
    config: TrainConfig, splits: list[Dataset], cached: list[tuple[Tokens, Tensor]], boxes: Boxes
) -> tuple[float, float, float]:
    """Train a head on cached tokens; return mAP and pointing game of the averaged weights on val,
    and the mean cosine of the prototypes."""
    torch.manual_seed(config.seed)
    train, val = splits
    model, state = build_model(train, config)
    optimizer, averaged = create_optimizer(model, config), EMA(model, config.ema_decay)
    targets, ignored = (torch.from_numpy(flags) for flags in train.targets())
    steps = config.epochs * (len(train) // config.batch_size)
    for step, index in enumerate(_orders(len(train), config)):
        set_learning_rates(optimizer, step, steps, config.warmup)
        batch = Batch(torch.empty(0), targets[index], ignored[index])
        tokens = Tokens(*(part[index] for part in cached[0][0]))
        training_step(model, optimizer, tokens, batch, config.grad_clip)
        averaged.update(model)
    with torch.inference_mode():
        prototypes = averaged.model.compute_prototypes()
        tokens, patches = cached[1]
        scores = averaged.model.score(tokens, prototypes)
        similarity = averaged.model.compute_map_similarity(patches, prototypes)
    heat = navigators.backward(similarity.numpy(), config.tau)
    grid = (model.image.grid, model.image.grid)
    found = score_pointing(
        zip(val.samples, heat, strict=True), boxes, val.label_set, grid, state.preprocessing
    )
    return (
        mean_average_precision(scores.logits.numpy(), *val.targets()),
        found.ordinary.pointing,
        mean_prototype_cosine(prototypes),
    )


def _orders(count: int, config: TrainConfig) -> Iterator[torch.Tensor]:
    rng = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = torch.from_numpy(rng.permutation(count))
        yield from order[: count // config.batch_size * config.batch_size].split(config.batch_size)


if __name__ == "__main__":
    main()
