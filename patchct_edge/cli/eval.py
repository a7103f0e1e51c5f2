"""patchct eval: how good a bundle is on labelled photos."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.cli.pointing import run_pointing
from patchct_edge.errors import ExitCode

if TYPE_CHECKING:
    from patchct_edge.datasets import Dataset
    from patchct_edge.evaluation.accuracy import Accuracy
    from patchct_edge.metrics import MultiLabelFigures

logger = logging.getLogger(__name__)


def evaluate(
    bundle: options.BundlePath,
    data: options.DataPath,
    split: options.Split = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    uncalibrated: options.Uncalibrated = False,
    as_json: options.Json = False,
) -> ExitCode:
    """Measure mAP, precision, recall and F1 on a data set (its val split by default)."""
    from patchct_edge.bundle import Bundle, Calibration
    from patchct_edge.datasets import read_boxes
    from patchct_edge.evaluation.accuracy import compute_accuracy
    from patchct_edge.evaluation.predictions import predict
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    opened = Bundle(bundle)
    found = options.read_dataset(
        data, prefer="val", split=split, labels=opened.labels, images=images
    )
    boxed = None if boxes is None else read_boxes(boxes, opened.labels)
    with (
        open_engine(
            opened, EngineRequest(engine=engine, precision=precision, trust=trust_engine)
        ) as running,
        console.counting("evaluating", len(found)) as progress,
    ):
        said = predict(running, opened.preprocessing, found, progress)
    record = said.record
    if uncalibrated:
        calibration = Calibration.default(len(opened.labels))
    else:
        calibration = opened.calibration(record.precision)
        _note_if_seen(opened.calibration_record(record.precision), found)
    result = compute_accuracy(said, calibration)
    for failure in result.failed:
        logger.warning(failure)
    about = {"model": opened.manifest.fingerprint, "engine": record.to_json(), **result.to_json()}
    if not as_json:
        logger.info(str(record))
        _print(result)
    if boxed is not None:
        about["pointing"] = run_pointing(opened, said.record, found, boxed, trust_engine, as_json)
    if as_json:
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False))
    return ExitCode.SOME_INPUTS_FAILED if result.failed else ExitCode.OK


def _note_if_seen(record: dict[str, Any] | None, data: Dataset) -> None:
    if record is not None and record.get("data") == data.fingerprint():
        logger.info(
            "the thresholds were set on these very images: precision, recall and F1 look better "
            "than they are; patchct report has them cross-fitted"
        )


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
    console.print_table(
        ("label", "images", "predicted", "AP", "precision", "recall", "threshold"), labels
    )
    interval = f"95 % interval {shown(result.map_low)}..{shown(result.map_high)}"
    typer.echo(f"mAP {shown(result.map)} ({interval}; {result.images} images)")
    for name, figures in (("thresholds", result.thresholded), ("top 3", result.top3)):
        typer.echo(f"{name:<12}{_line(figures)}")


def _line(figures: MultiLabelFigures) -> str:
    names = (
        ("CP", figures.cp),
        ("CR", figures.cr),
        ("CF1", figures.cf1),
        ("OP", figures.op),
        ("OR", figures.or_),
        ("OF1", figures.of1),
    )
    return "  ".join(f"{name} {console.percent(value)}" for name, value in names)
