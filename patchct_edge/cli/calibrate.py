"""patchct calibrate: fit scores and a threshold for every label, and store them in the bundle."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode

if TYPE_CHECKING:
    from patchct_edge.evaluation.calibrate import PrecisionCalibration

logger = logging.getLogger(__name__)


def calibrate(
    bundle_path: options.BundlePath,
    data_path: options.DataPath,
    objective: Annotated[
        str,
        typer.Option(
            help="What each threshold aims at: f1, precision=P or recall=R; P and R in 0..1."
        ),
    ] = "f1",
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    as_json: options.Json = False,
) -> ExitCode:
    """Calibrate scores and set thresholds on a dataset (its val split by default).

    Calibrates every precision that runs here, each with its fastest engine. The other commands use
    the result at once. ECE is the expected calibration error: how far scores differ from the share
    of correct tags. For CP, CR, CF1 and OF1 see patchct eval --help.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.evaluation.calibrate import calibrate_bundle
    from patchct_edge.evaluation.objective import Objective
    from patchct_edge.runtime.engines.select import EngineRequest

    threshold_objective = Objective.parse(objective)
    bundle = Bundle(bundle_path)
    dataset = options.read_dataset(
        data_path, default_split="val", split=split, labels=bundle.labels, images=images
    )
    with console.progress() as progress:
        result = calibrate_bundle(
            bundle,
            dataset,
            threshold_objective,
            request=EngineRequest(engine, precision, trust=trust_engine),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(result.records, indent=2, ensure_ascii=False))
    else:
        for calibration in result.calibrations.values():
            _print_calibration(calibration)
    for line in result.unreadable:
        logger.warning(line)
    for candidate in result.skipped:
        outcome = (
            "kept the earlier calibration"
            if candidate.precision in result.retained_precisions
            else "skipped"
        )
        logger.info(f"{outcome}: {candidate}")
    logger.info(f"wrote the calibration of {', '.join(result.records)} to {bundle_path}")
    return ExitCode.SOME_INPUTS_FAILED if result.unreadable else ExitCode.OK


def _print_calibration(calibration: PrecisionCalibration) -> None:
    """Print the thresholds of one precision and what its calibration is worth."""
    percent = console.percent
    predictions, reliability = calibration.predictions, calibration.reliability
    typer.echo(f"\n{predictions.record}, {len(predictions.paths)} images")
    console.print_table(
        ("label", "images", "threshold  ", "precision", "recall"),
        [
            (
                label.label,
                str(label.positives),
                f"{label.threshold:.3f}" + (" *" if label.pooled else "  "),
                percent(label.precision),
                percent(label.recall),
            )
            for label in reliability.labels
        ],
    )
    if any(label.pooled for label in reliability.labels):
        typer.echo(
            "* too few images, or the objective is out of reach: this threshold was fitted on all "
            "labels together"
        )
    for name, scores in (("before", reliability.before), ("after", reliability.after)):
        figures = scores.figures
        typer.echo(
            f"{name:<8}ECE {percent(scores.ece)}  CP {percent(figures.cp)}  "
            f"CR {percent(figures.cr)}  CF1 {percent(figures.cf1)}  OF1 {percent(figures.of1)}"
        )
    typer.echo(
        "Precision, recall and 'after' are cross-fitted: measured on images that the fit did not "
        "see."
    )
