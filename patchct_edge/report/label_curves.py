"""Precision-recall curves as small multiples, one per label, the worst label first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from patchct_edge.evaluation.accuracy import Accuracy, LabelAccuracy
from patchct_edge.evaluation.curves import PrecisionRecallCurves


class Point(NamedTuple):
    """A place in an SVG square of 100 x 100: recall to the right, precision upwards."""

    x: float
    y: float

    @classmethod
    def from_figures(cls, recall: float, precision: float) -> Point:
        """Place a recall and a precision, 0..1."""
        return cls(round(100 * recall, 1), round(100 - 100 * precision, 1))


class LabelCurve(NamedTuple):
    """The curve of one label, and the place of its threshold: None where it tags nothing."""

    label: LabelAccuracy
    line: str
    threshold: Point | None


def draw_label_curves(curves: PrecisionRecallCurves, accuracy: Accuracy) -> list[LabelCurve]:
    """Draw the labels that have a curve, the lowest AP first.

    Args:
        curves, accuracy: of one engine on the same images.
    """
    return [
        LabelCurve(label, format_polyline(curves.recall, curve), _place_threshold(label))
        for label in sorted(accuracy.labels, key=lambda label: label.ap)
        if (curve := curves.labels[label.label]) is not None
    ]


def format_polyline(recall: Sequence[float], precision: Sequence[float]) -> str:
    """Format a curve as the `points` of an SVG polyline; see `Point`."""
    points = (Point.from_figures(*pair) for pair in zip(recall, precision, strict=True))
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _place_threshold(label: LabelAccuracy) -> Point | None:
    return Point.from_figures(label.recall, label.precision) if label.predicted else None
