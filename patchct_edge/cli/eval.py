"""patchct eval: how good a bundle is on labelled photos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode

if TYPE_CHECKING:
    from patchct_edge.metrics import MultiLabelFigures
    from patchct_edge.report.accuracy import Accuracy


def evaluate(
    bundle: options.BundlePath,
    data: options.Data,
    split: options.Split = None,
    images: options.Images = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    as_json: options.Json = False,
) -> ExitCode:
    """Measure mAP, precision, recall and F1 on a data set (its val split by default)."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.report.accuracy import accuracy
    from patchct_edge.runtime.engines.select import open_engine

    opened = Bundle(bundle)
    found = options.read_data(data, prefer="val", split=split, labels=opened.labels, images=images)
    with (
        open_engine(opened, engine=engine, precision=precision, trust=trust_engine) as running,
        console.counting("evaluating", len(found)) as progress,
    ):
        calibration = opened.calibration(running.record.precision)
        result = accuracy(running, opened.manifest.recipe, calibration, found, progress)
        record = running.record
    for failure in result.failed:
        console.warn(failure)
    if as_json:
        about = {"model": opened.manifest.fingerprint, "engine": record.to_json()}
        typer.echo(json.dumps({**about, **result.to_json()}, indent=2, ensure_ascii=False))
    else:
        console.note(str(record))
        _print(result)
    return ExitCode.SOME_INPUTS_FAILED if result.failed else ExitCode.OK


def _print(result: Accuracy) -> None:
    shown = console.percent
    labels = [
        (
            each.label,
            str(each.positives),
            str(each.predicted),
            shown(each.ap),
            shown(each.precision),
            shown(each.recall),
            f"{each.threshold:.2f}",
        )
        for each in result.labels
    ]
    console.table(
        ("label", "images", "predicted", "AP", "precision", "recall", "threshold"), labels
    )
    interval = f"95 % interval {shown(result.map_low)}..{shown(result.map_high)}"
    typer.echo(f"mAP {shown(result.map)} ({interval}; {result.images} images)")
    for name, figures in (("thresholds", result.thresholded), ("top 3", result.top3)):
        typer.echo(f"{name:<12}{_line(figures)}")


def _line(figures: MultiLabelFigures) -> str:
    names = (
        ("CP", figures.cp), ("CR", figures.cr), ("CF1", figures.cf1),
        ("OP", figures.op), ("OR", figures.or_), ("OF1", figures.of1),
    )  # fmt: skip
    return "  ".join(f"{name} {console.percent(value)}" for name, value in names)
