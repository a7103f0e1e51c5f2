"""The pictures of a report, as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from patchct_edge.errors import MissingLibraryError
from patchct_edge.evaluation.curves import BINS, Curves, Scores
from patchct_edge.profiling.latency import BATCHES
from patchct_edge.report.engine_report import EngineReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT = "#010203", "#030201"  # stand for the page's own colours
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P")  # told apart without colours as well
SIZE = (4.8, 3.2)  # inches; the page scales them
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


def latency_histogram(engine: EngineReport) -> str:
    """Draw how the photos' times spread, the slowest hundredth in the last bar."""
    samples = np.array(engine.latency.samples)
    edge = float(np.percentile(samples, 99))

    def draw(axes: Axes) -> None:
        axes.hist(np.minimum(samples, edge), bins=40, color=SERIES[0])
        _name(axes, "ms from file to tags (the last bar: that or more)", "photos")

    return _svg(draw)


def run_order(engine: EngineReport) -> str:
    """Draw the photos' times in the order of the run: a machine that throttles shows here."""
    samples = np.array(engine.latency.samples)

    def draw(axes: Axes) -> None:
        axes.plot(np.arange(1, len(samples) + 1), samples, ".", color=SERIES[0], markersize=3)
        axes.set_ylim(0, float(np.percentile(samples, 99)) * 1.3)
        _name(axes, "photo", "ms from file to tags")

    return _svg(draw)


def throughput(engines: Sequence[EngineReport]) -> str:
    """Draw images/s over the batch size, for each engine."""
    return _over_batches(engines, "images_per_second", "images/s")


def batch_latency(engines: Sequence[EngineReport]) -> str:
    """Draw the time of one batch over its size, for each engine."""
    return _over_batches(engines, "latency_ms", "ms a batch", log=True)


def _over_batches(
    engines: Sequence[EngineReport], field: str, name: str, *, log: bool = False
) -> str:
    names = _names(engines)

    def draw(axes: Axes) -> None:
        for n, each in enumerate(engines):
            batches = [point.batch for point in each.sweep]
            values = [getattr(point, field) for point in each.sweep]
            axes.plot(batches, values, label=names[n], **_style(n))
        axes.set_xscale("log", base=2)
        most = max(point.batch for each in engines for point in each.sweep)
        ticks = [batch for batch in BATCHES if batch <= most]
        axes.set_xticks(ticks, [str(batch) for batch in ticks])
        if log:
            _plain_log(axes)
        else:
            axes.set_ylim(bottom=0)
        _name(axes, "images a batch", name)
        _legend_above(axes)

    return _svg(draw)


def speed_and_accuracy(engines: Sequence[EngineReport]) -> str:
    """Draw mAP, with its interval, over images/s."""

    names = _names(engines)

    def draw(axes: Axes) -> None:
        for n, each in enumerate(engines):
            found, style = each.accuracy, _style(n)
            error = [[100 * (found.map - found.map_low)], [100 * (found.map_high - found.map)]]
            axes.errorbar(
                each.images_per_second,
                100 * found.map,
                error,
                label=names[n],
                capsize=3,
                color=style["color"],
                marker=style["marker"],
            )
        axes.set_xlim(0, 1.1 * max(each.images_per_second for each in engines))
        _name(axes, "images/s, best batch", "mAP, with 95 % interval")
        _legend_above(axes)

    return _svg(draw)


def precision_recall_curve(found: Curves) -> str:
    """Draw precision over recall of all labels together."""

    def draw(axes: Axes) -> None:
        recall, precision = 100 * np.array(found.recall), 100 * np.array(found.pooled)
        axes.plot(recall, precision, color=SERIES[0], linewidth=2.2)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        _name(axes, "recall, %", "precision, %")

    return _svg(draw)


def reliability_diagram(before: Scores, after: Scores) -> str:
    """Draw how often a label is there over the score that it had."""

    def draw(axes: Axes) -> None:
        axes.plot(
            [0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="as it should be"
        )
        for n, (name, each) in enumerate((("before", before), ("after", after))):
            score, share = 100 * np.array(each.mean_score), 100 * np.array(each.share_present)
            axes.plot(score, share, label=name, **_style(1 - n))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        _name(axes, "score, %", "label present, %")
        _legend_above(axes)

    return _svg(draw)


def score_histogram(scores: Scores) -> str:
    """Draw how many image-label pairs have a score, present and absent apart."""

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, 100, BINS + 1)
        middle, width = (edges[:-1] + edges[1:]) / 2, 100 / BINS * 0.42
        axes.bar(middle - width / 2, scores.absent, width, color=SERIES[4], label="absent")
        axes.bar(middle + width / 2, scores.present, width, color=SERIES[0], label="present")
        _plain_log(axes)
        _name(axes, "score, %", "image-label pairs")
        _legend_above(axes)

    return _svg(draw)


def _names(engines: Sequence[EngineReport]) -> list[str]:
    """Return the names of engines, with their bundles where there are two."""
    several = len({each.bundle for each in engines}) > 1
    return [f"{each.bundle}, {each.name}" if several else each.name for each in engines]


def _style(n: int) -> dict[str, Any]:
    return {"color": SERIES[n % len(SERIES)], "marker": MARKERS[n % len(MARKERS)]}


def _plain_log(axes: Axes) -> None:
    """Make the y axis logarithmic, with numbers at 1, 2 and 5 of every decade."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log", subs=[])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")


def _legend_above(axes: Axes) -> None:
    figure: Any = axes.figure
    figure.legend(loc="outside upper left", ncols=3, fontsize=8)


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _svg(draw: Callable[[Axes], None]) -> str:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # not pyplot: a notebook keeps its own backend
    except ImportError:
        raise MissingLibraryError("matplotlib") from None
    file = io.StringIO()
    with rc_context(RC):  # type: ignore[arg-type]
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, name in ((INK, "currentColor"), (FAINT, "var(--line)")):
        text = text.replace(colour, name)
    for n, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{n})")
    return text
