"""The report as one self-contained HTML file, and its figures as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import ImageError, MissingLibraryError
from patchct_edge.evaluation.comparison import PhotoChange
from patchct_edge.explain.templating import load_templates
from patchct_edge.files import write_atomically
from patchct_edge.report import plots
from patchct_edge.report.label_curves import draw_label_curves, format_polyline
from patchct_edge.report.report import Report
from patchct_edge.report.verdict import describe_damage

LIBRARIES = ("matplotlib", "jinja2", "psutil")
THUMBNAIL_PX = 180  # longer side


class CaptionedFigure(NamedTuple):
    """A figure as SVG, and the caption below it."""

    svg: str
    caption: str


def check_libraries() -> None:
    """Raise before anything is measured if a library of the report is missing.

    Raises:
        MissingLibraryError: names the library and how to install it.
    """
    for name in LIBRARIES:
        if find_spec(name) is None:
            raise MissingLibraryError(name)


def write_report(report: Report, target: Path, *, photos: bool = True) -> Path:
    """Write the page to `target` (.html) and the figures to the .json beside it; return the latter.

    Args:
        photos: show the photos that changed most; otherwise their names and tags only.

    Raises:
        MissingLibraryError: matplotlib or jinja2 is not installed.
    """
    environment = load_templates("patchct_edge.report")
    environment.filters.update(percent=_format_percent, signed=_format_signed)
    page = environment.get_template("report.html").render(
        report=report,
        figures=_draw_figures(report),
        describe_damage=describe_damage,
        thumbnail=_read_thumbnail if photos else None,
        label_curves=draw_label_curves(report.curves, report.candidate.accuracy),
        pooled_curve=format_polyline(report.curves.recall, report.curves.pooled),
    )
    json_path = target.with_suffix(".json")
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    write_atomically(json_path, text.encode("utf-8", "surrogateescape"))
    write_atomically(target, page.encode("utf-8", "surrogateescape"))
    return json_path


def _draw_figures(report: Report) -> dict[str, CaptionedFigure]:
    candidate = report.candidate
    drawings: dict[str, tuple[Callable[[], str], str]] = {
        "latency histogram": (
            lambda: plots.draw_latency_histogram(candidate),
            "Distribution of the time of one photo.",
        ),
        "latency series": (
            lambda: plots.draw_latency_series(candidate),
            "Time of each photo, in the order of the run. It rises if the device throttles.",
        ),
        "throughput": (
            lambda: plots.draw_throughput(report),
            "Throughput by batch size, with overlapping batches.",
        ),
        "batch latency": (
            lambda: plots.draw_batch_latency(report),
            "Time of a single batch, by batch size.",
        ),
        "speed and accuracy": (
            lambda: plots.draw_speed_and_accuracy(report),
            "Accuracy against speed: up and to the right is better. Bars are 95% intervals.",
        ),
        "precision-recall curve": (
            lambda: plots.draw_precision_recall_curve(report.curves),
            "Precision against recall, all labels together.",
        ),
    }
    if report.reliability is not None:
        before, after = report.reliability.before, report.reliability.after
        drawings |= {
            "reliability diagram": (
                lambda: plots.draw_reliability_diagram(before, after),
                "How often a label is present, by its score. Honest scores lie on the diagonal.",
            ),
            "scores before": (
                lambda: plots.draw_score_histogram(before),
                "Scores before calibration.",
            ),
            "scores after": (
                lambda: plots.draw_score_histogram(after),
                "Scores after calibration.",
            ),
        }
    return {name: CaptionedFigure(draw(), caption) for name, (draw, caption) in drawings.items()}


def _read_thumbnail(photo: PhotoChange) -> RGB | None:
    """Read a photo at the size of a thumbnail; None if it can no longer be read."""
    try:
        rgb = images.decode(photo.path, min_side=THUMBNAIL_PX)
    except ImageError:
        return None
    return images.resize_longer_side(rgb, THUMBNAIL_PX, "lanczos")


def _format_percent(share: float, digits: int = 2) -> str:
    return "–" if share != share else f"{100 * share:.{digits}f}"


def _format_signed(share: float, digits: int = 2) -> str:
    """Format a difference of shares in points, with its sign; never "-0.00"."""
    return "–" if share != share else f"{round(100 * share, digits) + 0.0:+.{digits}f}"
