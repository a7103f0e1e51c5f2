"""The export, stage by stage: from a run to a bundle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle import Manifest
from patchct_edge.bundle.manifest import Stage, compute_fingerprint
from patchct_edge.bundle.precisions import INT8_FP16_GRAPH, PRECISIONS, graph_name
from patchct_edge.bundle.write import create_bundle, write_manifest
from patchct_edge.errors import GateError, UserError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.fp16 import convert_to_fp16, find_overflows
from patchct_edge.export.graph import EngineGraph, compute_prototypes, export_graph
from patchct_edge.export.int8 import quantize_to_int8
from patchct_edge.export.parity import (
    ParityImages,
    StageRun,
    compare_stage,
    run_engine,
    run_reference,
)
from patchct_edge.export.quantization_images import ExportImages, PhotoSources, read_export_images
from patchct_edge.export.simplify import simplify_graph
from patchct_edge.files import sha256
from patchct_edge.progress import NO_PROGRESS, Advance, Progress
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.onnxruntime import ONNXRuntimeEngine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine
from patchct_edge.train.checkpoint import RunState, load_model
from patchct_edge.train.model import PatchCT
from patchct_edge.version import __version__

logger = logging.getLogger(__name__)

RAW_GRAPH_NAME = "graph.onnx"  # before it is simplified; not part of the bundle
MAX_OVERFLOW_IMAGES = 16  # images on which every FP16 tensor is checked


class StageGateError(GateError):
    """A stage whose gate failed; carries the figures of all stages."""

    def __init__(self, problem: str, *, stages: Sequence[Stage], got: str, expected: str, fix: str):
        super().__init__(problem, got=got, expected=expected, fix=fix)
        self.stages = tuple(stages)


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how far each stage may differ from an earlier one.

    Attributes:
        precisions: of `fp32`, `fp16`, `int8`; the FP32 graph is always written.
        photos: photos to quantize with, without which there is no INT8, and to compare on.
        checkpoint: `best` by validation mAP, or `last`.
        gates: limits of the comparison.
    """

    precisions: Sequence[str] = ("fp32", "fp16")
    photos: PhotoSources = field(default_factory=PhotoSources)
    checkpoint: str = "best"
    gates: Gates = field(default_factory=Gates)


@dataclass(frozen=True)
class ExportStep:
    """One graph of an export: how it is written, and the stage that it is compared with."""

    name: str
    against: str
    precision: str
    path: Path
    write: Callable[[], None]

    @property
    def is_fp16(self) -> bool:
        """Whether the graph computes in FP16, alone or around INT8."""
        return "fp16" in self.name

    def open_engine(self) -> Engine:
        """Open the engine that ships for the graph.

        The FP16 graphs are for GPUs; ONNX Runtime runs them as they are on a CPU.
        """
        engine = ONNXRuntimeEngine if self.is_fp16 else OpenVINOEngine
        return engine(self.path, self.precision)


def export_bundle(
    run: Path,
    target: Path,
    options: ExportOptions = ExportOptions(),
    progress: Progress = NO_PROGRESS,
) -> Manifest:
    """Export a run as a bundle; every stage is compared with an earlier one.

    Args:
        run: run folder of `train_model`.
        target: bundle to write; its name ends in `.patchct`. An old bundle there is replaced.
        options: precisions, photos, checkpoint and gates.
        progress: shows the stages.

    Raises:
        StageGateError: a stage differs too much from an earlier one; the files are left at
            `target` + ".failed".
        GateError: nothing in the graph can be quantized.
        UserError: the run, the photos or the options cannot be used.
    """
    model, state = load_model(run, options.checkpoint)
    images = read_export_images(options.photos, state.labels, state.preprocessing)
    if "int8" in options.precisions:
        _check_quantization_images(images, options.photos)
    with create_bundle(target) as folder:
        prototypes = compute_prototypes(model)
        engine_graph = EngineGraph(model, state.preprocessing, prototypes).eval()
        advance = progress.stage("reference in PyTorch", len(images.parity.images))
        comparison = StageComparison(
            run_reference(engine_graph, images.parity, advance), images.parity, options.gates
        )
        for step in list_steps(model, state, prototypes, images.quantization, folder):
            if step.precision in ("fp32", *options.precisions):
                comparison.run_step(step, progress)
        (folder / RAW_GRAPH_NAME).unlink()
        manifest = _create_manifest(model, state, images, comparison.stages, folder)
        write_manifest(folder, manifest)
        _check_gates(comparison.stages, target)
    return manifest


def list_steps(
    model: PatchCT,
    state: RunState,
    prototypes: Tensor,
    quantization_images: ImageBatch | None,
    folder: Path,
) -> list[ExportStep]:
    """Return all steps of an export in order; those of one precision may be left out."""
    raw, fp32 = folder / RAW_GRAPH_NAME, folder / graph_name("fp32")
    fp16, int8, int8_fp16 = (
        folder / graph_name(name) for name in ("fp16", "int8", INT8_FP16_GRAPH)
    )

    def write_int8() -> None:
        assert quantization_images is not None  # checked before the first step
        quantize_to_int8(fp32, int8, quantization_images)

    return [
        ExportStep(
            "graph",
            against="model",
            precision="fp32",
            path=raw,
            write=lambda: export_graph(model, state.preprocessing, prototypes, raw),
        ),
        ExportStep(
            "fp32",
            against="graph",
            precision="fp32",
            path=fp32,
            write=lambda: simplify_graph(raw, fp32),
        ),
        ExportStep(
            "fp16",
            against="fp32",
            precision="fp16",
            path=fp16,
            write=lambda: convert_to_fp16(fp32, fp16),
        ),
        ExportStep("int8", against="fp32", precision="int8", path=int8, write=write_int8),
        ExportStep(
            INT8_FP16_GRAPH,
            against="fp32",
            precision="int8",
            path=int8_fp16,
            write=lambda: convert_to_fp16(int8, int8_fp16),
        ),
    ]


class StageComparison:
    """The stages so far, each with its logits, so that later ones can be compared with them."""

    def __init__(self, reference: StageRun, parity: ParityImages, gates: Gates) -> None:
        self._runs = {reference.name: reference}
        self._parity, self._gates = parity, gates
        self.stages: list[Stage] = []

    def run_step(self, step: ExportStep, progress: Progress) -> None:
        """Write the graph of a step, and compare it with an earlier stage."""
        advance = progress.stage(step.name, 1)
        logger.debug("%s: writing the graph", step.name)
        step.write()
        advance(1)
        logger.info(
            "%s: comparing %d images with '%s'", step.name, len(self._parity.images), step.against
        )
        advance = progress.stage(f"{step.name}: parity", len(self._parity.images))
        self.stages.append(self._compare(step, advance))

    def _compare(self, step: ExportStep, advance: Advance) -> Stage:
        run = run_engine(step.name, step.open_engine, self._parity, advance)
        self._runs[step.name] = run
        stage = compare_stage(run, self._runs[step.against], self._parity, self._gates)
        if not step.is_fp16:
            return stage
        tensor_names = find_overflows(step.path, self._parity.images[:MAX_OVERFLOW_IMAGES])
        if not tensor_names:
            return stage
        gate = f"finite FP16 tensors; {len(tensor_names)} overflow, the first is {tensor_names[0]}"
        return replace(stage, gate=gate, passed=False)


def _check_quantization_images(images: ExportImages, sources: PhotoSources) -> None:
    if images.quantization is None:
        source = sources.quantization
        raise UserError(
            "INT8 needs photos to quantize with",
            got=source and f"{source}, which has no train split",
            fix="--quant-data DATA (a dataset or a folder of photos), or --precision fp32,fp16",
        )


def _create_manifest(
    model: PatchCT, state: RunState, images: ExportImages, stages: Sequence[Stage], folder: Path
) -> Manifest:
    tau, grid = float(model.tau.detach()), (model.image.grid, model.image.grid)
    graph_hash = sha256(folder / graph_name("fp32"))
    return Manifest(
        labels=state.labels,
        prompts=state.prompts,
        label_encoder=_strip_folders(model.config.label_encoder),
        preprocessing=state.preprocessing,
        tau=tau,
        grid=grid,
        producer=f"patchct-edge {__version__}",
        fingerprint=compute_fingerprint(graph_hash, state.labels, state.preprocessing, tau, grid),
        quantization_data=images.fingerprint,
        stages=tuple(stages),
    )


def _strip_folders(source: str) -> str:
    """Return the name of a local file or folder, and a hub id as it is: a bundle is shared."""
    return Path(source).name if Path(source).exists() or Path(source).is_absolute() else source


def _gate_options(precisions: Set[str]) -> str:
    """Return the options of `patchct export` that set the gates of these precisions."""
    options = {
        "--max-fp32-difference": {"graph", "fp32"},
        "--max-fp16-difference": {"fp16"},
        "--max-map-drop": {"int8"},
        "--max-flips": {"int8"},
    }
    return ", ".join(option for option, gated in options.items() if gated & precisions)


def _check_gates(stages: Sequence[Stage], target: Path) -> None:
    """Raise a StageGateError if the gate of a stage failed."""
    failed = [stage for stage in stages if not stage.passed]
    if not failed:
        return
    stage = failed[0]
    drop = "" if stage.map_drop is None else f", mAP drop {stage.map_drop * 100:.2f} points"
    failed_precisions = {stage.name.split("-")[0] for stage in failed}
    other_precisions = ",".join(p for p in PRECISIONS if p not in failed_precisions)
    omit = ""
    if other_precisions and failed_precisions.isdisjoint({"graph", "fp32"}):
        omit = f"export without it: --precision {other_precisions}; or "
    advice = ""
    if failed_precisions == {"int8"}:
        advice = "; more photos for training and quantization improve INT8"
    raise StageGateError(
        "gate failed: " + ", ".join(f"'{stage.name}'" for stage in failed),
        stages=stages,
        got=f"'{stage.name}': max difference {stage.max_difference:.2g}, flips {stage.flips:.2%}"
        f"{drop}",
        expected=stage.gate,
        fix=f"{omit}raise the limit: {_gate_options(failed_precisions)}{advice}. The bundle is in "
        f"{target}.failed, which patchct show, eval and tag can open",
    )
