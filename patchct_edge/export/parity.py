"""Each export stage compared with the one before, on the same pictures, and the gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from patchct_edge.arrays import Bools, Float32s, ImageBatch, Indices
from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.bundle import Calibration
from patchct_edge.bundle.manifest import Stage
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.graph import EngineGraph
from patchct_edge.metrics import mean_average_precision, tag_flips
from patchct_edge.runtime.engines.base import Engine

BATCH = 8


@dataclass(frozen=True)
class ParityImages:
    """What stages are compared on: images uint8 (count, H, W, 3), and labels where known."""

    images: ImageBatch
    targets: Bools | None = None
    ignored: Bools | None = None


@dataclass(frozen=True)
class Run:
    """The logits (count, M) of one stage, and what computed them."""

    name: str
    engine: str
    logits: Float32s


def run_reference(graph: EngineGraph, pictures: ParityImages) -> Run:
    """Compute the reference in PyTorch, float32."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures.images), BATCH):
            batch = torch.from_numpy(pictures.images[start : start + BATCH])
            parts.append(graph(batch)[0].numpy())
    return Run("model", f"torch {torch.__version__.split('+')[0]} fp32", np.concatenate(parts))


def run_engine(name: str, open_engine: Callable[[], Engine], pictures: ParityImages) -> Run:
    """Compute a stage's logits with the engine that ships."""
    with open_engine() as engine:
        parts = [
            engine.infer(pictures.images[start : start + BATCH]).logits
            for start in range(0, len(pictures.images), BATCH)
        ]
        record = engine.record
    return Run(name, f"{record.library} {record.compute_precision}", np.concatenate(parts))


def compare_stage(run: Run, reference: Run, pictures: ParityImages, gates: Gates) -> Stage:
    """Compare a stage with the one before and apply its gate."""
    if not np.isfinite(run.logits).all():  # what overflowed in FP16 differs as much as can be
        return Stage(
            run.name,
            reference.name,
            run.engine,
            len(pictures.images),
            max_difference=1.0,
            mean_difference=1.0,
            flips=1.0,
            gate="scores that are numbers",
            passed=False,
        )
    neutral = Calibration.default(run.logits.shape[1])
    new, old = (neutral.scores(r.logits) for r in (run, reference))
    difference = np.abs(new - old)
    figures: dict[str, Any] = {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "flips": tag_flips(old >= neutral.thresholds, new >= neutral.thresholds),
        **_map_figures(run.logits, reference.logits, pictures),
    }
    gate, passed = _gate(run.name, figures, gates)
    return Stage(
        run.name,
        reference.name,
        run.engine,
        len(pictures.images),
        **figures,
        gate=gate,
        passed=passed,
    )


def _map_figures(
    logits: Float32s, reference: Float32s, pictures: ParityImages
) -> dict[str, float | None]:
    targets, ignored = pictures.targets, pictures.ignored
    if targets is None or ignored is None:
        return {}

    def map_of(rows: Indices, of: Float32s = logits) -> float:
        return mean_average_precision(of[rows], targets[rows], ignored[rows])

    every = np.arange(len(targets))
    value = map_of(every)
    if np.isnan(value):
        return {}
    low, high = bootstrap_interval(map_of, len(targets), bounds=(0, 1))
    drop = map_of(every, reference) - value
    return {"map": value, "map_low": low, "map_high": high, "map_drop": drop}


def _gate(name: str, figures: dict[str, Any], gates: Gates) -> tuple[str, bool]:
    """Return the gate of a stage in words, and whether it passed."""
    if name.startswith("int8"):
        flips, drop = figures["flips"], figures.get("map_drop")
        text, passed = f"flips <= {gates.max_flips:g}%", flips <= gates.max_flips / 100
        if drop is not None:
            text = f"mAP drop <= {gates.max_map_drop:g} points, {text}"
            passed = passed and drop <= gates.max_map_drop / 100
        return text, passed
    limit = gates.max_fp16_difference if name == "fp16" else gates.max_fp32_difference
    return f"max difference <= {limit:g}", figures["max_difference"] <= limit
