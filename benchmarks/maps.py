"""Compare the navigators with maps that any ViT gives, by the pointing game.

    python benchmarks/maps.py RUN DATA --boxes BOXES.csv

A map hits if its strongest patch lies in a box of its label. Prints a JSON line for each kind of
map, measured on the val split in FP32: cases, the share of hits and its 95 % interval. The
attention of CLS (last layer, mean over heads) and the cosine of CLS with each patch do not depend
on the label: all labels of a photo share one map.
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
    """Read the arguments and play the pointing game with each kind of map."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--boxes", type=Path, required=True)
    args = parser.parse_args()
    model, state = load_model(args.run)
    model.image.model.set_attn_implementation("eager")  # the others do not return attention weights
    dataset = read_dataset(args.data, split="val", labels=state.labels)
    boxes = read_boxes(args.boxes, state.labels)
    normalize = Normalize(state.preprocessing, "cpu")
    batches = Batches(dataset, state.preprocessing, model.config).iter_unaugmented()
    with torch.inference_mode():
        prototypes = model.compute_prototypes()
        maps_by_batch = [
            compute_maps(model, prototypes, normalize(batch.images)) for batch in batches
        ]
    grid = (model.image.grid, model.image.grid)
    for name in maps_by_batch[0]:
        maps = torch.cat([maps_by_kind[name] for maps_by_kind in maps_by_batch]).numpy()
        result = score_pointing(
            zip(dataset.samples, maps, strict=True), boxes, state.labels, grid, state.preprocessing
        )
        row = {"map": name, "cases": result.ordinary.cases, "pointing": result.ordinary.pointing}
        print(json.dumps({**row, "interval": (result.low, result.high)}), flush=True)


def compute_maps(model: PatchCT, prototypes: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """Return each kind of map, float32 (B, M, N), of normalized pixels (B, 3, H, W)."""
    tokens, patches = model.image.encode_with_maps(pixels)
    similarity = model.compute_map_similarity(patches, prototypes)
    full_attention = model.score(tokens, prototypes).similarity[:, -1]
    attentions = model.image.model(pixel_values=pixels, output_attentions=True).attentions
    attention = attentions[-1][:, :, 0, -similarity.shape[2] :].mean(1)  # of CLS, over the patches
    cosine = F.cosine_similarity(tokens.cls[:, -1:], tokens.patches[:, -1], dim=2)
    label_free = {"CLS attention": attention, "CLS-patch cosine": cosine}
    return {
        "backward navigator": _compute_backward(similarity, model),
        "backward navigator, full attention": _compute_backward(full_attention, model),
        **{name: maps[:, None].expand_as(similarity) for name, maps in label_free.items()},
    }


def _compute_backward(similarity: Tensor, model: PatchCT) -> Tensor:
    return torch.from_numpy(navigators.backward(similarity.numpy(), model.config.tau))


if __name__ == "__main__":
    main()
