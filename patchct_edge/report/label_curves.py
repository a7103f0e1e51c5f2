"""Precision over recall as small pictures side by side, one a label, the worst label first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from patchct_edge.evaluation.accuracy import Accuracy, LabelAccuracy
from patchct_edge.evaluation.curves import Curves


class Point(NamedTuple):
    """A place in a square of 100 x 100 as SVG counts: recall to the right, precision upwards."""

    x: float
    y: float

    @classmethod
    def of(cls, recall: float, precision: float) -> Point:
        """Place a recall and a precision, 0..1."""
        return cls(round(100 * recall, 1), round(100 - 100 * precision, 1))


class Panel(NamedTuple):
    """The curve of one label, and where its threshold lies: None where it tags nothing."""

    label: LabelAccuracy
    line: str
    threshold: Point | None


def label_curves(curves: Curves, accuracy: Accuracy) -> list[Panel]:
    """Return the labels that have a curve, the lowest AP first.

    Args:
        curves, accuracy: of one engine on the same images.
    """
    return [
        Panel(label, polyline(curves.recall, curve), _threshold(label))
        for label in sorted(accuracy.labels, key=lambda label: label.ap)
        if (curve := curves.labels[label.label]) is not None
    ]


def polyline(recall: Sequence[float], precision: Sequence[float]) -> str:
    """Return a curve as the `points` of an SVG polyline; see `Point`."""
    places = (Point.of(*each) for each in zip(recall, precision, strict=True))
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _threshold(label: LabelAccuracy) -> Point | None:
    return Point.of(label.recall, label.precision) if label.predicted else None
