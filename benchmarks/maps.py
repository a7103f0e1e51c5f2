"""Do the navigators point better than what any ViT gives? The pointing game with several maps.

    python benchmarks/maps.py RUN DATA --boxes BOXES.csv

Prints one row a map, of the val split, in FP32. The attention of CLS (last layer, mean over heads)
and the cosine of CLS with each patch know no label: they give all labels of a photo one map.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from patchct_edge import navigators
from patchct_edge.datasets import read_boxes, read_dataset
from patchct_edge.evaluation.pointing import score_pointing
from patchct_edge.train.batches import Batches
from patchct_edge.train.checkpoint import load_model
from patchct_edge.train.device import Normalize
from patchct_edge.train.model import PatchCT


def main() -> None:
    """Read the arguments, make the maps of every photo, play the game with each kind."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--boxes", type=Path, required=True)
    args = parser.parse_args()
    model, state = load_model(args.run)
    model.image.model.set_attn_implementation("eager")  # the others keep no weights
    data = read_dataset(args.data, split="val", labels=state.labels)
    boxes = read_boxes(args.boxes, state.labels)
    pixels = Normalize(state.preprocessing, "cpu")
    batches = Batches(data, state.preprocessing, model.config).plain()
    with torch.inference_mode():
        prototypes = model.prototypes()
        parts = [maps_of(model, prototypes, pixels(batch.images)) for batch in batches]
    grid = (model.image.grid, model.image.grid)
    for name in parts[0]:
        maps = torch.cat([part[name] for part in parts]).numpy()
        found = score_pointing(
            zip(data.samples, maps, strict=True), boxes, state.labels, grid, state.preprocessing
        )
        row = {"map": name, "cases": found.ordinary.cases, "pointing": found.ordinary.pointing}
        print(json.dumps({**row, "interval": (found.low, found.high)}), flush=True)


def maps_of(model: PatchCT, prototypes: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """Return each kind of map, float32 (B, M, N), of normalised pixels (B, 3, H, W)."""
    tokens, patches = model.image.encode_with_maps(pixels)
    similarity = model.compute_map_similarity(patches, prototypes)
    full = model.score(tokens, prototypes).similarity[:, -1]
    weights = model.image.model(pixel_values=pixels, output_attentions=True).attentions[-1]
    attention = weights[:, :, 0, -similarity.shape[2] :].mean(1)  # of CLS, over the patches
    cosine = F.cosine_similarity(tokens.cls[:, -1:], tokens.patches[:, -1], dim=2)
    without_label = {"CLS attention": attention, "CLS-patch cosine": cosine}
    return {
        "backward navigator": _backward(similarity, model),
        "backward navigator, full attention": _backward(full, model),
        **{name: each[:, None].expand_as(similarity) for name, each in without_label.items()},
    }


def _backward(similarity: Tensor, model: PatchCT) -> Tensor:
    return torch.from_numpy(navigators.backward(similarity.numpy(), model.config.tau))


if __name__ == "__main__":
    main()
