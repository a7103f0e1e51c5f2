"""patchct export: a run as a bundle of ONNX graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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
    """Of a run."""

    BEST = "best"
    LAST = "last"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `patchct train`.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="Bundle to write.", metavar="X.patchct")],
    calib: Annotated[
        Path | None,
        typer.Option(
            help="Photos for INT8 and for the comparison: a data set or a folder; none by default.",
            metavar="DATA",
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            help="Data set to compare on; the val split of --calib by default.", metavar="DATA"
        ),
    ] = None,
    images: options.Images = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32,fp16,int8; all by default, without int8 where --calib is missing."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to compare on; val by default.")] = None,
    checkpoint: Annotated[
        Checkpoint, typer.Option(help="Weights of which epoch.")
    ] = Checkpoint.BEST,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="Show what each group of layers costs in INT8; takes minutes."
        ),
    ] = False,
    max_fp32_difference: Annotated[
        float, typer.Option(help="Gate: largest score difference of FP32, 0..1.")
    ] = Gates.max_fp32_difference,
    max_fp16_difference: Annotated[
        float, typer.Option(help="Gate: largest score difference of FP16, 0..1.")
    ] = Gates.max_fp16_difference,
    max_map_drop: Annotated[
        float, typer.Option(help="Gate: largest mAP drop of INT8, points of 100.")
    ] = Gates.max_map_drop,
    max_flips: Annotated[
        float,
        typer.Option(min=0, max=100, help="Gate: most tags that INT8 changes, percent."),
    ] = Gates.max_flips,
) -> None:
    """Export a run: graphs in FP32, FP16 and INT8, each compared with the one before."""
    from patchct_edge.export.export import ExportOptions, StageGateError
    from patchct_edge.export.quantization_images import PhotoSources

    gates = Gates(max_fp32_difference, max_fp16_difference, max_map_drop, max_flips)
    photos = PhotoSources(calib, val, split, images)
    choice = ExportOptions(_precisions(precision, calib), photos, checkpoint.value, gates)
    try:
        manifest = export_with_table(run, out, choice, logger.info)
    except StageGateError:
        if sensitivity:
            print_sensitivity(out.with_name(f"{out.name}.failed"), photos)
        raise
    if sensitivity:
        print_sensitivity(out, photos)
    logger.info(f"wrote {out} (model {manifest.fingerprint}); patchct tag PHOTOS --model {out}")


def export_with_table(
    run: Path, out: Path, choice: ExportOptions, report: Callable[[str], None]
) -> Manifest:
    """Export, and show the stages whether or not they pass."""
    from patchct_edge.export.export import StageGateError, export_bundle

    try:
        manifest = export_bundle(run, out, choice, report)
    except StageGateError as error:
        print_stages(error.stages)
        raise
    print_stages(manifest.stages)
    return manifest


def print_stages(stages: Sequence[Stage]) -> None:
    """Show what each stage changed, and its gate."""
    if not stages:
        return
    console.print_table(
        ("stage", "against", "max", "mean", "flips%", "mAP", "95 % range", "drop", "gate"),
        [_row(stage) for stage in stages],
    )
    pictures, labelled = stages[0].images, stages[0].map is not None
    logger.info(
        f"{pictures} pictures{'' if labelled else ' without labels'}; max and mean difference of "
        "scores (0..1), tags that flip, mAP and its drop in points of 100. Gates:"
    )
    for gate in dict.fromkeys(stage.gate for stage in stages):
        names = ", ".join(stage.name for stage in stages if stage.gate == gate)
        logger.info(f"  {names}: {gate}")


def print_sensitivity(bundle: Path, sources: PhotoSources) -> None:
    """Show what it costs to quantise each group of layers alone, the worst first."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.bundle.precisions import graph_name
    from patchct_edge.export.quantization_images import read_export_images
    from patchct_edge.export.sensitivity import measure_sensitivity

    opened = Bundle(bundle)
    photos = read_export_images(sources, opened.labels, opened.preprocessing)
    if photos.calibration is None:
        raise UserError("--sensitivity needs photos to calibrate with", fix="--calib DATA")
    graph = opened.path / graph_name("fp32")
    found = []
    for stage in measure_sensitivity(graph, photos.calibration, photos.parity):
        logger.info(f"sensitivity: {stage.name}")
        found.append(stage)
    found.sort(key=lambda stage: -stage.flips)
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
            for stage in found
        ],
    )


def _row(stage: Stage) -> tuple[str, ...]:
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


def _precisions(text: str | None, calib: Path | None) -> list[str]:
    from patchct_edge.bundle.precisions import PRECISIONS

    if text is None:
        if calib is None:
            logger.warning("without --calib: no INT8, and the stages are compared on noise")
            return ["fp32", "fp16"]
        return list(PRECISIONS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PRECISIONS:
            raise UserError("unknown precision", got=name, expected=did_you_mean(name, PRECISIONS))
    return names
