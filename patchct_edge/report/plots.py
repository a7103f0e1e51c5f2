"""The figures of a report, as SVG that takes its colors from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from patchct_edge.errors import MissingLibraryError
from patchct_edge.evaluation.curves import PrecisionRecallCurves
from patchct_edge.evaluation.reliability import SCORE_BINS, ScoreReliability
from patchct_edge.profiling.latency import BATCH_SIZES
from patchct_edge.report.engine_report import EngineReport
from patchct_edge.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholders that `_render_svg` replaces with the page's own colors.
INK, FAINT = "#010203", "#030201"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P")  # tell series apart without color
SIZE_INCHES = (4.8, 3.2)  # the page scales them
RC = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


def draw_latency_histogram(engine: EngineReport) -> str:
    """Draw how the photos' times are distributed, the slowest hundredth in the last bar."""
    samples_ms = np.array(engine.latency.samples)
    p99_ms = float(np.percentile(samples_ms, 99))

    def draw(axes: Axes) -> None:
        axes.hist(np.minimum(samples_ms, p99_ms), bins=40, color=SERIES[0])
        _label_axes(axes, "ms from file to tags (last bar: this or more)", "photos")

    return _render_svg(draw)


def draw_latency_series(engine: EngineReport) -> str:
    """Draw the photos' times in the order of the run: a device that throttles shows here."""
    samples_ms = np.array(engine.latency.samples)

    def draw(axes: Axes) -> None:
        photos = np.arange(1, len(samples_ms) + 1)
        axes.plot(photos, samples_ms, ".", color=SERIES[0], markersize=3)
        axes.set_ylim(0, float(np.percentile(samples_ms, 99)) * 1.3)
        _label_axes(axes, "photo", "ms from file to tags")

    return _render_svg(draw)


def draw_throughput(report: Report) -> str:
    """Draw images/s over the batch size, for each engine."""
    return _draw_sweeps(report, "images_per_second", "images/s")


def draw_batch_latency(report: Report) -> str:
    """Draw the time of a single batch over its size, for each engine."""
    return _draw_sweeps(report, "latency_ms", "ms per batch", log=True)


def _draw_sweeps(report: Report, field: str, y_label: str, *, log: bool = False) -> str:
    def draw(axes: Axes) -> None:
        for n, engine in enumerate(report.engines):
            batches = [point.batch for point in engine.sweep]
            values = [getattr(point, field) for point in engine.sweep]
            axes.plot(batches, values, label=report.title(engine), **_series_style(n))
        axes.set_xscale("log", base=2)
        largest = max(point.batch for engine in report.engines for point in engine.sweep)
        ticks = [batch for batch in BATCH_SIZES if batch <= largest]
        axes.set_xticks(ticks, [str(batch) for batch in ticks])
        if log:
            _set_log_scale(axes)
        else:
            axes.set_ylim(bottom=0)
        _label_axes(axes, "images per batch", y_label)
        _place_legend_above(axes)

    return _render_svg(draw)


def draw_speed_and_accuracy(report: Report) -> str:
    """Draw mAP, with its interval, over images/s, for each engine."""

    def draw(axes: Axes) -> None:
        for n, engine in enumerate(report.engines):
            accuracy, style = engine.accuracy, _series_style(n)
            below = 100 * (accuracy.map - accuracy.map_low)
            above = 100 * (accuracy.map_high - accuracy.map)
            axes.errorbar(
                engine.images_per_second,
                100 * accuracy.map,
                [[below], [above]],
                label=report.title(engine),
                capsize=3,
                color=style["color"],
                marker=style["marker"],
            )
        axes.set_xlim(0, 1.1 * max(engine.images_per_second for engine in report.engines))
        _label_axes(axes, "images/s at the best batch size", "mAP, %")
        _place_legend_above(axes)

    return _render_svg(draw)


def draw_precision_recall_curve(curves: PrecisionRecallCurves) -> str:
    """Draw precision over recall of all labels together."""

    def draw(axes: Axes) -> None:
        recall, precision = 100 * np.array(curves.recall), 100 * np.array(curves.pooled)
        axes.plot(recall, precision, color=SERIES[0], linewidth=2.2)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        _label_axes(axes, "recall, %", "precision, %")

    return _render_svg(draw)


def draw_reliability_diagram(before: ScoreReliability, after: ScoreReliability) -> str:
    """Draw how often a label is present over its score."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="ideal")
        for n, (name, scores) in enumerate((("before", before), ("after", after))):
            mean_score, present = np.array(scores.mean_score), np.array(scores.share_present)
            axes.plot(100 * mean_score, 100 * present, label=name, **_series_style(1 - n))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        _label_axes(axes, "score, %", "label present, %")
        _place_legend_above(axes)

    return _render_svg(draw)


def draw_score_histogram(scores: ScoreReliability) -> str:
    """Draw how many image-label pairs have a score, by whether the label is present."""

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, 100, SCORE_BINS + 1)
        middles, width = (edges[:-1] + edges[1:]) / 2, 100 / SCORE_BINS * 0.42
        axes.bar(middles - width / 2, scores.absent, width, color=SERIES[4], label="absent")
        axes.bar(middles + width / 2, scores.present, width, color=SERIES[0], label="present")
        _set_log_scale(axes)
        _label_axes(axes, "score, %", "image-label pairs")
        _place_legend_above(axes)

    return _render_svg(draw)


def _series_style(n: int) -> dict[str, Any]:
    return {"color": SERIES[n % len(SERIES)], "marker": MARKERS[n % len(MARKERS)]}


def _set_log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic, with numbers at 1, 2 and 5 of every decade."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log", subs=[])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")


def _place_legend_above(axes: Axes) -> None:
    figure: Any = axes.figure
    figure.legend(loc="outside upper left", ncols=3, fontsize=8)


def _label_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _render_svg(draw: Callable[[Axes], None]) -> str:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # not pyplot: a notebook keeps its own backend
    except ImportError:
        raise MissingLibraryError("matplotlib") from None
    file = io.StringIO()
    with rc_context(RC):  # type: ignore[arg-type]
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for color, name in ((INK, "currentColor"), (FAINT, "var(--line)")):
        text = text.replace(color, name)
    for n, color in enumerate(SERIES):
        text = text.replace(color, f"var(--series-{n})")
    return text
