"""patchct calibrate: honest scores and a threshold for every label, in the bundle."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode

if TYPE_CHECKING:
    from patchct_edge.evaluation.calibration_fit import CalibrationFit, Objective
    from patchct_edge.evaluation.predictions import Predictions

logger = logging.getLogger(__name__)


def calibrate(
    bundle: options.BundlePath,
    data: options.DataPath,
    objective: Annotated[
        str, typer.Option(help="Of each threshold: f1, precision=P or recall=R.")
    ] = "f1",
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    as_json: options.Json = False,
) -> ExitCode:
    """Set thresholds and calibrate scores on a data set (its val split by default).

    Every precision that runs here, each with its fastest engine. tag and eval use them at once.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.evaluation.calibration_fit import Objective, ReferenceTags, fit_to_reference
    from patchct_edge.evaluation.predictions import predict
    from patchct_edge.runtime.engines.select import (
        EngineRequest,
        iter_candidates,
        open_engine,
        runnable_candidates,
        skipped_candidates,
    )

    wanted = Objective.parse(objective)
    opened = Bundle(bundle)
    found = options.read_dataset(
        data, prefer="val", split=split, labels=opened.labels, images=images
    )
    wish = EngineRequest(engine, precision, trust=trust_engine)
    chosen = {each.precision: each.engine for each in reversed(runnable_candidates(opened, wish))}
    every = list(iter_candidates(opened, EngineRequest(engine, trust=trust_engine)))
    fits = {each.precision: each.engine for each in reversed(every) if each.skip_reason is None}
    scored = fits | chosen
    kinds = [each for each in opened.precisions() if each in scored]
    records: dict[str, dict[str, Any]] = {}
    exact: ReferenceTags | None = None
    failed: dict[str, None] = {}  # in order, each once
    # The most exact one first, whose tags the others follow, whether or not it was asked for.
    for kind in (each for each in kinds if each in chosen or each == kinds[0]):
        with (
            open_engine(
                opened, EngineRequest(engine=scored[kind], precision=kind, trust=trust_engine)
            ) as running,
            console.counting(f"scoring, {kind}", len(found)) as progress,
        ):
            said = predict(running, opened.preprocessing, found, progress)
        failed.update(dict.fromkeys(said.failed))
        result = fit_to_reference(said, wanted, exact)
        if exact is None:
            exact = ReferenceTags(said.paths, result.calibration.tags(said.logits))
        if kind not in chosen:
            continue
        if not as_json:
            _print(said, result, wanted)
        records[kind] = {
            **result.calibration.to_json(said.labels),
            "objective": objective,
            "pooled": [said.labels[m] for m in result.pooled],
            "engine": said.record.to_json(),
            "data": found.fingerprint(),
            "images": len(said.paths),
        }
    opened.store_calibrations(records)
    if as_json:
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False))
    for failure in failed:
        logger.warning(failure)
    for each in skipped_candidates(every, wish):
        if each.precision in opened.precisions() and each.precision not in records:
            earlier = opened.calibration_record(each.precision) is not None
            what = "keeps its earlier calibration" if earlier else "not calibrated"
            logger.info(f"{what}: {each}")
    logger.info(f"wrote the calibration of {', '.join(records)} into {bundle}")
    return ExitCode.SOME_INPUTS_FAILED if failed else ExitCode.OK


def _print(said: Predictions, found: CalibrationFit, objective: Objective) -> None:
    """Print what the calibration of one precision is worth."""
    from patchct_edge.bundle import Calibration
    from patchct_edge.evaluation.accuracy import precision_and_recall
    from patchct_edge.evaluation.calibration_fit import cross_fit
    from patchct_edge.metrics import expected_calibration_error, multi_label_figures

    crossed = cross_fit(said.logits, said.targets, said.ignored, objective)
    thresholds = found.calibration.thresholds
    typer.echo(f"\n{said.record}, {len(said.paths)} images")
    precision, recall = precision_and_recall(crossed.tags, said.targets, said.ignored)
    positives = (said.targets & ~said.ignored).sum(0)
    rows = [
        (
            label,
            str(positives[m]),
            f"{thresholds[m]:.3f}" + (" *" if m in found.pooled else "  "),
            console.percent(float(precision[m])),
            console.percent(float(recall[m])),
        )
        for m, label in enumerate(said.labels)
    ]
    console.print_table(("label", "images", "threshold  ", "precision", "recall"), rows)
    if found.pooled:
        typer.echo("* too few images, or out of reach: the threshold of all labels together")
    neutral = Calibration.default(len(said.labels))
    before = neutral.scores(said.logits)
    for name, scores, tags in (
        ("before", before, before >= neutral.thresholds),
        ("after", crossed.scores, crossed.tags),
    ):
        figures = multi_label_figures(tags, said.targets, said.ignored)
        error = expected_calibration_error(scores, said.targets, said.ignored)
        typer.echo(
            f"{name:<8}ECE {console.percent(error)}  CP {console.percent(figures.cp)}  "
            f"CR {console.percent(figures.cr)}  CF1 {console.percent(figures.cf1)}  "
            f"OF1 {console.percent(figures.of1)}"
        )
    typer.echo("Precision, recall and 'after' are cross-fitted: judged on images not fitted to.")
