"""A report as one HTML file that needs no other, and its figures as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import ImageError
from patchct_edge.evaluation.comparison import PhotoChange
from patchct_edge.explain.templating import load_templates
from patchct_edge.files import write_atomically
from patchct_edge.report import plots
from patchct_edge.report.label_curves import label_curves, polyline
from patchct_edge.report.report import Report
from patchct_edge.report.verdict import describe_damage

THUMBNAIL = 180  # px of the longer side


class Figure(NamedTuple):
    """A picture (SVG of our own making) with what stands below it."""

    svg: str
    caption: str


def write_report(report: Report, target: Path, *, photos: bool = True) -> Path:
    """Write `target` (.html) and the .json beside it; return the latter.

    Args:
        photos: show those that changed most; else their names and tags alone.

    Raises:
        MissingLibraryError: matplotlib or jinja2 is not installed.
    """
    made = load_templates("patchct_edge.report")
    made.filters.update(percent=_percent, signed=_signed)
    curves = report.curves
    page = made.get_template("report.html").render(
        report=report,
        figures=_figures(report),
        describe_damage=describe_damage,
        thumbnail=_thumbnail if photos else None,
        panels=label_curves(curves, report.engines[report.candidate].accuracy),
        together=polyline(curves.recall, curves.pooled),
    )
    beside = target.with_suffix(".json")
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    write_atomically(beside, text.encode("utf-8", "surrogateescape"))
    write_atomically(target, page.encode("utf-8", "surrogateescape"))
    return beside


def _figures(report: Report) -> dict[str, Figure]:
    chosen = report.engines[report.candidate]
    found: dict[str, tuple[Callable[[], str], str]] = {
        "histogram": (lambda: plots.latency_histogram(chosen), "How the photos' times spread."),
        "run": (
            lambda: plots.run_order(chosen),
            "The photos in the order of the run; a machine that throttles rises to the right.",
        ),
        "throughput": (
            lambda: plots.throughput(report.engines),
            "Throughput, with as many batches under way as the engine likes.",
        ),
        "batches": (lambda: plots.batch_latency(report.engines), "Time of one batch alone."),
        "trade": (
            lambda: plots.speed_and_accuracy(report.engines),
            "Speed against accuracy: up and to the right is better.",
        ),
        "curves": (
            lambda: plots.precision_recall_curve(report.curves),
            "Precision over recall, all labels together.",
        ),
    }
    if report.reliability is not None:
        before, after = report.reliability.before, report.reliability.after
        found |= {
            "reliability": (
                lambda: plots.reliability_diagram(before, after),
                "How often a label is there, over the score that it had.",
            ),
            "scores before": (lambda: plots.score_histogram(before), "Scores before calibration."),
            "scores after": (lambda: plots.score_histogram(after), "Scores after calibration."),
        }
    return {name: Figure(draw(), caption) for name, (draw, caption) in found.items()}


def _thumbnail(photo: PhotoChange) -> RGB | None:
    """Return a small picture, None where the file has gone."""
    try:
        rgb = images.decode(photo.path, min_side=THUMBNAIL)
    except ImageError:
        return None
    return images.resize_longer_side(rgb, THUMBNAIL, "lanczos")


def _percent(share: float, digits: int = 2) -> str:
    return "–" if share != share else f"{100 * share:.{digits}f}"


def _signed(share: float, digits: int = 2) -> str:
    return "–" if share != share else f"{round(100 * share, digits) + 0.0:+.{digits}f}"  # no -0
