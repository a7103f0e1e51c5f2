"""The export, stage by stage: from a run to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from patchct_edge import __version__
from patchct_edge.bundle import Manifest
from patchct_edge.bundle.manifest import Stage, compute_fingerprint
from patchct_edge.bundle.precisions import INT8_FP16_GRAPH, PRECISIONS, graph_name
from patchct_edge.bundle.write import create_bundle, write_manifest
from patchct_edge.errors import GateError, UserError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.export.fp16 import convert_to_fp16, find_overflows
from patchct_edge.export.graph import EngineGraph, compute_prototypes, export_graph
from patchct_edge.export.int8 import quantize_to_int8
from patchct_edge.export.parity import Run, compare_stage, run_engine, run_reference
from patchct_edge.export.quantization_images import ExportImages, PhotoSources, read_export_images
from patchct_edge.export.simplify import simplify_graph
from patchct_edge.files import sha256
from patchct_edge.runtime.engines.onnxruntime import ONNXRuntimeEngine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine
from patchct_edge.train.checkpoint import load_model

Report = Callable[[str], None]
FEW = 16  # pictures in which FP16 overflows are looked for, tensor by tensor


class StageGateError(GateError):
    """A stage that did not pass its gate; carries the figures of all stages."""

    def __init__(self, what: str, *, stages: Sequence[Stage], got: str, expected: str, fix: str):
        super().__init__(what, got=got, expected=expected, fix=fix)
        self.stages = tuple(stages)


@dataclass(frozen=True)
class ExportOptions:
    """What to export. Without photos to calibrate with there is no INT8."""

    precisions: Sequence[str]
    photos: PhotoSources = field(default_factory=PhotoSources)
    checkpoint: str = "best"
    gates: Gates = field(default_factory=Gates)


def export_bundle(run: Path, target: Path, options: ExportOptions, report: Report) -> Manifest:
    """Export a run as a bundle; each stage is compared with the one before.

    Args:
        report: called with one line before each stage.

    Raises:
        GateError: a stage is too far from the one before; what was made is left at
            `target` + ".failed".
        UserError: the run, the photos or the options cannot be used.
    """
    report("reading the run")
    model, state = load_model(run, options.checkpoint)
    photos = read_export_images(options.photos, state.labels, state.preprocessing)
    source = options.photos.calibration
    if "int8" in options.precisions and photos.calibration is None:
        raise UserError(
            "INT8 needs photos to calibrate with",
            got=source and f"{source}, without a train split",
            fix="--quant-data DATA (a data set or a folder of photos), or --precision fp32,fp16",
        )
    tau, grid = float(model.tau.detach()), model.image.grid

    with create_bundle(target) as folder:
        report("prototypes, and the reference in PyTorch")
        prototypes = compute_prototypes(model)
        reference = run_reference(
            EngineGraph(model, state.preprocessing, prototypes).eval(), photos.parity
        )

        report("graph")
        graph, fp32 = folder / "graph.onnx", folder / graph_name("fp32")
        export_graph(model, state.preprocessing, prototypes, graph)
        stages = Stages(reference, photos, options.gates, report)
        stages.add("graph", graph)

        report("simplify")
        simplify_graph(graph, fp32)
        stages.add("fp32", fp32)

        if "fp16" in options.precisions:
            report("FP16")
            convert_to_fp16(fp32, folder / graph_name("fp16"))
            stages.add("fp16", folder / graph_name("fp16"), against="fp32")

        if "int8" in options.precisions:
            report("INT8")
            assert photos.calibration is not None
            quantize_to_int8(fp32, folder / graph_name("int8"), photos.calibration)
            stages.add("int8", folder / graph_name("int8"), against="fp32")
            convert_to_fp16(folder / graph_name("int8"), folder / graph_name(INT8_FP16_GRAPH))
            stages.add(INT8_FP16_GRAPH, folder / graph_name(INT8_FP16_GRAPH), against="fp32")

        graph.unlink()
        manifest = Manifest(
            labels=state.labels,
            prompts=state.prompts,
            label_source=_public(model.config.label_encoder),
            preprocessing=state.preprocessing,
            tau=tau,
            grid=(grid, grid),
            producer=f"patchct-edge {__version__}",
            fingerprint=compute_fingerprint(
                sha256(fp32), state.labels, state.preprocessing, tau, (grid, grid)
            ),
            quantization_data=photos.fingerprint,
            stages=tuple(stages.done),
        )
        write_manifest(folder, manifest)
        _raise_for_gates(stages.done, target)
    return manifest


class Stages:
    """The stages so far, each with its logits, so that the next can be compared with it."""

    def __init__(self, reference: Run, photos: ExportImages, gates: Gates, report: Report) -> None:
        self.runs = {reference.name: reference}
        self.previous = reference.name
        self.photos, self.gates, self.report = photos, gates, report
        self.done: list[Stage] = []

    def add(self, name: str, graph: Path, against: str | None = None) -> None:
        """Run a graph and compare it with the stage before, or with `against`."""
        self.report(f"{name}: comparing {len(self.photos.parity.images)} pictures")
        # The FP16 form of the INT8 graph is for TensorRT; ONNX Runtime runs it as it stands. The
        # other graphs run in the engine that ships.
        precision = name.split("-")[0].replace("graph", "fp32")
        engine = ONNXRuntimeEngine if "fp16" in name else OpenVINOEngine
        run = run_engine(name, lambda: engine(graph, precision), self.photos.parity)
        reference = self.runs[against or self.previous]
        stage = compare_stage(run, reference, self.photos.parity, self.gates)
        if "fp16" in name and (lost := find_overflows(graph, self.photos.parity.images[:FEW])):
            gate = f"every tensor finite in FP16; {len(lost)} are not, the first is {lost[0]}"
            stage = replace(stage, gate=gate, passed=False)
        self.done.append(stage)
        self.runs[name] = run
        self.previous = name


def _public(source: str) -> str:
    """Name a hub id as it is, and a file or folder without the way to it on this machine."""
    return Path(source).name if Path(source).exists() or Path(source).is_absolute() else source


def _raise_for_gates(stages: Sequence[Stage], target: Path) -> None:
    failed = [stage for stage in stages if not stage.passed]
    if not failed:
        return
    stage = failed[0]
    drop = "" if stage.map_drop is None else f", mAP drop {stage.map_drop * 100:.2f} points"
    names = ", ".join(f"'{each.name}'" for each in failed)
    left_out = {each.name.split("-")[0] for each in failed}
    rest = ",".join(each for each in PRECISIONS if each not in left_out)
    spared = rest and not left_out & {"graph", "fp32"}  # without which there is nothing
    leave_out = f"leave it out: --precision {rest}; or " if spared else ""
    raise StageGateError(
        f"too far from the stage before: {names}",
        stages=stages,
        got=f"'{stage.name}': max difference {stage.max_difference:.2g}, flips {stage.flips:.2%}"
        f"{drop}",
        expected=stage.gate,
        fix=f"{leave_out}move the gate (--max-..., see --help); more photos to train and calibrate "
        f"with help INT8. What was made is in {target}.failed: patchct show, eval, tag take it",
    )
