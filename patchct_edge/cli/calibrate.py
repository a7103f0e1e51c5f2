"""patchct calibrate: honest scores and a threshold for every label, in the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from patchct_edge.cli import console, options

if TYPE_CHECKING:
    import numpy as np

    from patchct_edge.report.calibration import CrossFitted, Fitted, Objective
    from patchct_edge.report.judged import Judged


def calibrate(
    bundle: options.BundlePath,
    data: options.Data,
    objective: Annotated[
        str, typer.Option(help="Of each threshold: f1, precision=P or recall=R.")
    ] = "f1",
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    as_json: options.Json = False,
) -> None:
    """Set thresholds and calibrate scores on a data set (its val split by default).

    Every precision that runs here, each with its fastest engine. tag and eval use them at once.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.report.calibration import Objective
    from patchct_edge.report.judged import judged
    from patchct_edge.runtime.engines.select import Wish, open_engine, runnable

    wanted = Objective.parse(objective)
    opened = Bundle(bundle)
    found = options.read_data(data, prefer="val", split=split, labels=opened.labels, images=images)
    wish = Wish(engine, precision, trust=trust_engine)
    chosen = {each.precision: each.engine for each in reversed(runnable(opened, wish))}
    records: dict[str, dict[str, Any]] = {}
    exact: Tagged | None = None
    for kind in (each for each in opened.precisions() if each in chosen):
        with (
            open_engine(opened, engine=chosen[kind], precision=kind, trust=trust_engine) as running,
            console.counting(f"scoring, {kind}", len(found)) as progress,
        ):
            said = judged(running, opened.manifest.recipe, found, progress)
        for failure in said.failed:
            console.warn(failure)
        result = _fitted(said, wanted, exact, as_json)
        if exact is None:
            exact = Tagged(said.paths, result.calibration.tags(said.logits))
        records[kind] = {
            **result.calibration.to_json(said.labels),
            "objective": objective,
            "pooled": [said.labels[m] for m in result.pooled],
            "engine": said.record.to_json(),
            "data": found.fingerprint(),
            "images": len(said.paths),
        }
    opened.calibrated(records)
    if as_json:
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False))
    left = [each for each in opened.precisions() if each not in records]
    if left and precision is None:
        console.note(f"not calibrated, since no engine here runs it: {', '.join(left)}")
    console.note(f"wrote the calibration of {', '.join(records)} into {bundle}")


class Tagged(NamedTuple):
    """What the most exact precision makes of the images: tags, bool (N, M)."""

    paths: tuple[Path, ...]
    tags: np.ndarray[Any, np.dtype[np.bool_]]


def _fitted(said: Judged, objective: Objective, exact: Tagged | None, quiet: bool) -> Fitted:
    """Calibrate one precision, as the most exact one tags; print what it is worth, unless quiet."""
    from patchct_edge.report.calibration import cross_fitted, fitted, matched

    cells = (said.logits, said.targets, said.ignored)
    result = fitted(*cells, objective)
    if exact is not None and exact.paths == said.paths:
        result = matched(result, said.logits, exact.tags)
    if not quiet:
        crossed = cross_fitted(*cells, objective)
        _print(said, result.calibration.thresholds.tolist(), result.pooled, crossed)
    return result


def _print(
    said: Judged, thresholds: list[float], pooled: tuple[int, ...], crossed: CrossFitted
) -> None:
    from patchct_edge.metrics import expected_calibration_error, multi_label_figures
    from patchct_edge.report.accuracy import precision_and_recall
    from patchct_edge.tagging import Calibration

    typer.echo(f"\n{said.record}, {len(said.paths)} images")
    precision, recall = precision_and_recall(crossed.tags, said.targets, said.ignored)
    positives = (said.targets & ~said.ignored).sum(0)
    rows = [
        (
            label,
            str(positives[m]),
            f"{thresholds[m]:.3f}" + (" *" if m in pooled else "  "),
            console.percent(float(precision[m])),
            console.percent(float(recall[m])),
        )
        for m, label in enumerate(said.labels)
    ]
    console.table(("label", "images", "threshold  ", "precision", "recall"), rows)
    if pooled:
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
