"""Parity: every export stage is compared with an earlier one, on the same images."""

from __future__ import annotations

import math
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
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.runtime.engines.base import Engine

BATCH_SIZE = 8


@dataclass(frozen=True)
class ParityImages:
    """The images that stages are compared on, uint8 (N, H, W, 3).

    `targets` and `ignored`, bool (N, M), are None if the images have no labels; `ignored` marks
    difficult labels.
    """

    images: ImageBatch
    targets: Bools | None = None
    ignored: Bools | None = None


@dataclass(frozen=True)
class StageRun:
    """The logits of one stage, float32 (N, M), and the engine that computed them."""

    name: str
    engine: str
    logits: Float32s


def run_reference(
    graph: EngineGraph, parity: ParityImages, advance: Advance = ignore_progress
) -> StageRun:
    """Compute the logits in PyTorch, float32: the stage `model`."""
    logits = []
    with torch.inference_mode():
        for start in range(0, len(parity.images), BATCH_SIZE):
            batch = torch.from_numpy(parity.images[start : start + BATCH_SIZE])
            logits.append(graph(batch)[0].numpy())
            advance(start + len(batch))
    library = f"torch {torch.__version__.split('+')[0]}"
    return StageRun("model", f"{library} fp32", np.concatenate(logits))


def run_engine(
    name: str,
    open_engine: Callable[[], Engine],
    parity: ParityImages,
    advance: Advance = ignore_progress,
) -> StageRun:
    """Compute the logits of the stage `name` with an engine."""
    logits = []
    with open_engine() as engine:
        for start in range(0, len(parity.images), BATCH_SIZE):
            batch = parity.images[start : start + BATCH_SIZE]
            logits.append(engine.infer(batch).logits)
            advance(start + len(batch))
        record = engine.record
    return StageRun(name, f"{record.library} {record.compute_precision}", np.concatenate(logits))


def compare_stage(run: StageRun, reference: StageRun, parity: ParityImages, gates: Gates) -> Stage:
    """Compare a stage with an earlier one, and apply its gate.

    Logits that are NaN or infinite fail the gate with the largest possible differences.
    """
    if not np.isfinite(run.logits).all():
        return Stage(
            run.name,
            reference.name,
            run.engine,
            len(parity.images),
            max_difference=1.0,
            mean_difference=1.0,
            flips=1.0,
            gate="finite scores",
            passed=False,
        )
    uncalibrated = Calibration.default(run.logits.shape[1])
    scores, reference_scores = (uncalibrated.scores(r.logits) for r in (run, reference))
    difference = np.abs(scores - reference_scores)
    thresholds = uncalibrated.thresholds
    figures: dict[str, Any] = {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "flips": tag_flips(reference_scores >= thresholds, scores >= thresholds),
        **_compute_map_figures(run.logits, reference.logits, parity),
    }
    gate, passed = _apply_gate(run.name, figures, gates)
    return Stage(
        run.name,
        reference.name,
        run.engine,
        len(parity.images),
        **figures,
        gate=gate,
        passed=passed,
    )


def _compute_map_figures(
    logits: Float32s, reference_logits: Float32s, parity: ParityImages
) -> dict[str, float]:
    """Return mAP, its interval and its drop, 0..1; nothing if no label has a positive."""
    targets, ignored = parity.targets, parity.ignored
    if targets is None or ignored is None:
        return {}

    def compute_map(rows: Indices, of: Float32s = logits) -> float:
        return mean_average_precision(of[rows], targets[rows], ignored[rows])

    all_rows = np.arange(len(targets))
    value = compute_map(all_rows)
    if np.isnan(value):
        return {}
    low, high = bootstrap_interval(compute_map, len(targets), bounds=(0, 1))
    drop = compute_map(all_rows, reference_logits) - value
    return {"map": value, "map_low": low, "map_high": high, "map_drop": drop}


def _apply_gate(name: str, figures: dict[str, Any], gates: Gates) -> tuple[str, bool]:
    """Return the gate of a stage in words, and whether it passed."""
    if name.startswith("int8"):
        flips, drop = figures["flips"], figures.get("map_drop")
        limit_text = (
            "any flips" if math.isinf(gates.max_flips) else f"flips <= {gates.max_flips:g}%"
        )
        text, passed = limit_text, flips <= gates.max_flips / 100
        if drop is not None:
            text = f"mAP drop <= {gates.max_map_drop:g} points, {text}"
            passed = passed and drop <= gates.max_map_drop / 100
        return text, passed
    limit = gates.max_fp16_difference if name == "fp16" else gates.max_fp32_difference
    return f"max difference <= {limit:g}", figures["max_difference"] <= limit
