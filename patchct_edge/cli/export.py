"""patchct export: turn a training run into a bundle of ONNX graphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import UserError, did_you_mean
from patchct_edge.evaluation.gates import Gates

if TYPE_CHECKING:
    from patchct_edge.bundle import Manifest
    from patchct_edge.bundle.manifest import Stage
    from patchct_edge.export.export import ExportOptions
    from patchct_edge.export.quantization_images import PhotoSources

logger = logging.getLogger(__name__)


class Checkpoint(str, Enum):
    """Which weights of a run to export."""

    BEST = "best"
    LAST = "last"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of patchct train.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="Bundle to write.", metavar="X.patchct")],
    quant_data: Annotated[
        Path | None,
        typer.Option(
            help="Photos to set the INT8 ranges with and to compare the stages on: a dataset or "
            "a folder; none by default.",
            metavar="DATA",
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            help="Dataset to compare the stages on; the val split of --quant-data by default.",
            metavar="DATA",
        ),
    ] = None,
    images: options.Images = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Graphs to write: fp32,fp16,int8; all by default, but int8 only with --quant-data."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to compare the stages on; val by default.")
    ] = None,
    checkpoint: Annotated[
        Checkpoint, typer.Option(help="Epoch to export: best by val mAP, or last.")
    ] = Checkpoint.BEST,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="Show what INT8 costs in each group of layers; takes minutes."
        ),
    ] = False,
    max_fp32_difference: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="NUMBER", help="Gate: largest score difference of FP32, 0..1."
        ),
    ] = Gates.max_fp32_difference,
    max_fp16_difference: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="NUMBER", help="Gate: largest score difference of FP16, 0..1."
        ),
    ] = Gates.max_fp16_difference,
    max_map_drop: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            metavar="NUMBER",
            help="Gate: largest mAP drop of INT8, points of 0..100.",
        ),
    ] = Gates.max_map_drop,
    max_flips: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            metavar="NUMBER",
            help="Gate: largest share of tags that INT8 may change, percent.",
        ),
    ] = Gates.max_flips,
) -> None:
    """Export a run as a bundle: FP32, FP16 and INT8 graphs, each compared with a more exact one."""
    from patchct_edge.export.export import ExportOptions, StageGateError
    from patchct_edge.export.quantization_images import PhotoSources

    gates = Gates(max_fp32_difference, max_fp16_difference, max_map_drop, max_flips)
    photos = PhotoSources(quant_data, val, split, images)
    precisions = _parse_precisions(precision, quant_data)
    export_options = ExportOptions(precisions, photos, checkpoint.value, gates)
    try:
        manifest = export_and_print(run, out, export_options)
    except StageGateError:
        if sensitivity:
            print_sensitivity(out.with_name(f"{out.name}.failed"), photos)
        raise
    if sensitivity:
        print_sensitivity(out, photos)
    logger.info(f"wrote {out} (model {manifest.fingerprint}); next: patchct calibrate {out} DATA")


def export_and_print(run: Path, out: Path, export_options: ExportOptions) -> Manifest:
    """Export a run and print its stages, whether or not their gates pass."""
    from patchct_edge.export.export import StageGateError, export_bundle

    try:
        with console.progress() as progress:
            manifest = export_bundle(run, out, export_options, progress)
    except StageGateError as error:
        print_stages(error.stages)
        raise
    print_stages(manifest.stages)
    return manifest


def print_stages(stages: Sequence[Stage]) -> None:
    """Print what each stage changed, and whether its gate passed."""
    if not stages:
        return
    console.print_table(
        ("stage", "against", "max", "mean", "flips%", "mAP", "95% interval", "drop", "gate"),
        [_stage_row(stage) for stage in stages],
    )
    labeled = "" if stages[0].map is not None else " without labels"
    logger.info(
        f"measured on {stages[0].images} images{labeled}; max, mean: difference of scores, 0..1; "
        "flips%: share of tags that changed; mAP and its drop: 0..100; gates:"
    )
    for gate in dict.fromkeys(stage.gate for stage in stages):
        names = ", ".join(stage.name for stage in stages if stage.gate == gate)
        logger.info(f"  {names}: {gate}")


def print_sensitivity(bundle_path: Path, sources: PhotoSources) -> None:
    """Print what it costs to quantize each group of layers alone, the worst first."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.export.quantization_images import read_export_images
    from patchct_edge.export.sensitivity import measure_sensitivity

    bundle = Bundle(bundle_path)
    images = read_export_images(sources, bundle.labels, bundle.preprocessing)
    if images.quantization is None:
        raise UserError("--sensitivity needs photos to quantize with", fix="--quant-data DATA")
    stages = []
    for stage in measure_sensitivity(bundle.graph_path("fp32"), images.quantization, images.parity):
        logger.info(f"measured {stage.name}")
        stages.append(stage)
    stages.sort(key=lambda stage: -stage.flips)
    console.print_table(
        ("only this in INT8", "max", "mean", "flips%", "mAP", "drop"),
        [
            (
                stage.name,
                f"{stage.max_difference:.0e}",
                f"{stage.mean_difference:.0e}",
                console.percent(stage.flips),
                console.percent(stage.map),
                console.percent(stage.map_drop),
            )
            for stage in stages
        ],
    )


def _stage_row(stage: Stage) -> tuple[str, ...]:
    interval = "-"
    if stage.map is not None:
        interval = f"{console.percent(stage.map_low, 1)}..{console.percent(stage.map_high, 1)}"
    return (
        stage.name,
        stage.against,
        f"{stage.max_difference:.0e}",
        f"{stage.mean_difference:.0e}",
        console.percent(stage.flips),
        console.percent(stage.map),
        interval,
        console.percent(stage.map_drop),
        "passed" if stage.passed else "FAILED",
    )


def _parse_precisions(text: str | None, quant_data: Path | None) -> list[str]:
    from patchct_edge.bundle.precisions import PRECISIONS

    if text is None:
        if quant_data is None:
            logger.warning(
                "no --quant-data: skipping INT8, and comparing the stages on random noise"
            )
            return ["fp32", "fp16"]
        return list(PRECISIONS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PRECISIONS:
            raise UserError("unknown precision", got=f"{name}, {did_you_mean(name, PRECISIONS)}")
    return names
