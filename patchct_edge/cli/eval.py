"""patchct eval: measure a bundle on labeled photos."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode

if TYPE_CHECKING:
    from patchct_edge.evaluation.accuracy import Accuracy
    from patchct_edge.evaluation.pointing import Pointing
    from patchct_edge.metrics import MultiLabelFigures

logger = logging.getLogger(__name__)


def evaluate(
    bundle_path: options.BundlePath,
    data_path: options.DataPath,
    split: options.Split = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    uncalibrated: options.Uncalibrated = False,
    as_json: options.Json = False,
) -> ExitCode:
    """Measure mAP, precision, recall and F1 on a dataset (its val split by default).

    All figures are percentages. mAP is the mean over labels of the average precision (AP). CP and
    CR are precision and recall averaged over labels; OP and OR count the tags of all labels
    together. CF1 and OF1 are the harmonic means of these pairs.

    With --boxes: pointing is how often the strongest patch of a label's heat map lies in a box of
    that label, center how often the center of the image does, and energy the share of the heat map
    that lies inside the boxes.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import read_boxes
    from patchct_edge.evaluation.evaluate import evaluate_bundle
    from patchct_edge.runtime.engines.select import EngineRequest

    bundle = Bundle(bundle_path)
    dataset = options.read_dataset(
        data_path, default_split="val", split=split, labels=bundle.labels, images=images
    )
    with console.progress() as progress:
        evaluation = evaluate_bundle(
            bundle,
            dataset,
            boxes=None if boxes is None else read_boxes(boxes, bundle.labels),
            request=EngineRequest(engine, precision, trust=trust_engine),
            uncalibrated=uncalibrated,
            progress=progress,
        )
    accuracy = evaluation.accuracy
    if evaluation.same_images:
        logger.info(
            "the thresholds were set on these same images, so precision, recall and F1 look better "
            "than they are; patchct report shows cross-fitted figures"
        )
    for line in accuracy.unreadable:
        logger.warning(line)
    if as_json:
        typer.echo(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
    else:
        logger.info(str(evaluation.record))
        _print_accuracy(accuracy)
        if evaluation.pointing:
            _print_pointing(evaluation.pointing)
    return ExitCode.SOME_INPUTS_FAILED if accuracy.unreadable else ExitCode.OK


def _print_accuracy(accuracy: Accuracy) -> None:
    percent = console.percent
    console.print_table(
        ("label", "images", "predicted", "AP", "precision", "recall", "threshold"),
        [
            (
                label.label,
                str(label.positives),
                str(label.predicted),
                percent(label.ap),
                percent(label.precision),
                percent(label.recall),
                f"{label.threshold:.2f}",
            )
            for label in accuracy.labels
        ],
    )
    interval = f"95% interval {percent(accuracy.map_low)}..{percent(accuracy.map_high)}"
    typer.echo(f"mAP {percent(accuracy.map)} ({interval}; {accuracy.images} images)")
    for name, figures in (("thresholds", accuracy.thresholded), ("top 3", accuracy.top3)):
        typer.echo(f"{name:<12}{_format_figures(figures)}")


def _format_figures(figures: MultiLabelFigures) -> str:
    values = {
        "CP": figures.cp,
        "CR": figures.cr,
        "CF1": figures.cf1,
        "OP": figures.op,
        "OR": figures.or_,
        "OF1": figures.of1,
    }
    return "  ".join(f"{name} {console.percent(value)}" for name, value in values.items())


def _print_pointing(games: Mapping[str, Pointing]) -> None:
    """Print how often the maps point at the objects, for each precision."""
    percent = console.percent
    first = next(iter(games.values()))
    headers = ("label", "cases", *(f"pointing {precision}" for precision in games), "center")
    console.print_table(
        (*headers, *(f"energy {precision}" for precision in games)),
        [
            (
                label,
                str(figures.cases),
                *(percent(game.labels[label].pointing) for game in games.values()),
                percent(figures.center),
                *(percent(game.labels[label].energy) for game in games.values()),
            )
            for label, figures in first.labels.items()
        ],
    )
    for precision, game in games.items():
        ordinary, difficult = game.ordinary, game.difficult
        typer.echo(
            f"pointing {precision}: {percent(ordinary.pointing)} (95% interval "
            f"{percent(game.low)}..{percent(game.high)}; {ordinary.cases} cases), "
            f"center {percent(ordinary.center)}, energy {percent(ordinary.energy)}; "
            f"labels with difficult objects only {percent(difficult.pointing)} "
            f"({difficult.cases} cases)"
        )
