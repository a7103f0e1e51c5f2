"""Is the heat map true: does it point into the boxes of the objects (the pointing game)?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from patchct_edge import images, navigators
from patchct_edge.arrays import Bools, Float32s, Float64s
from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.datasets import Boxes, Dataset, ObjectBox, Sample
from patchct_edge.errors import UserError
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.tagging.pipeline import score_images


class Case(NamedTuple):
    """One label of one image that has boxes of it."""

    image: int
    label: str
    hit: bool  # the strongest patch's centre lies in a box of the label
    energy: float  # share of the map in those boxes, 0..1
    centre: bool  # the picture's centre lies in one
    difficult: bool  # all of its boxes are


@dataclass(frozen=True)
class PointingFigures:
    """Of some cases: shares 0..1, NaN without a case."""

    cases: int
    pointing: float
    energy: float
    centre: float


@dataclass(frozen=True)
class Pointing:
    """The pointing game of one engine; the interval of `ordinary.pointing` is 95 % bootstrap.

    `ordinary` are the cases with a box that is not difficult, `difficult` those without; `labels`
    are of the ordinary ones.
    """

    ordinary: PointingFigures
    low: float
    high: float
    difficult: PointingFigures
    labels: dict[str, PointingFigures]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def play_pointing_game(
    bundle: Bundle,
    engine: Engine,
    data: Dataset,
    boxes: Boxes,
    progress: Callable[[int], None] = lambda done: None,
) -> Pointing:
    """Play the pointing game (Zhang et al., arXiv 1608.00507) over the images that have boxes.

    A case is a label of an image with a box of it. It is a hit where the centre of the strongest
    patch of the label's map lies in any of those boxes.

    Args:
        engine: opened with `similarity=True`.
        progress: called with the number of images done.

    Raises:
        UserError: no image of the data set has a box of one of its labels.
    """
    manifest = bundle.manifest
    samples = [each for each in data.samples if each.path.resolve() in boxes]

    def maps() -> Iterator[tuple[Sample, Float32s]]:
        scored = score_images([each.path for each in samples], engine, manifest.preprocessing)
        for n, (sample, each) in enumerate(zip(samples, scored, strict=True)):
            progress(n + 1)
            if each.similarity is not None:  # else it cannot be read; `eval` names it
                yield sample, navigators.backward(each.similarity, manifest.tau)

    return score_pointing(maps(), boxes, bundle.labels, manifest.grid, manifest.preprocessing)


def score_pointing(
    maps: Iterable[tuple[Sample, Float32s]],
    boxes: Boxes,
    labels: Sequence[str],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
) -> Pointing:
    """Play the pointing game with maps from anywhere; see `pointing`.

    Args:
        maps: images, and their maps (M, N): of each label one over the patches, its sum 1.
        labels: M.
        grid: (rows, columns) of the N patches.

    Raises:
        UserError: no image has a box of one of its labels.
    """
    found: list[Case] = []
    for n, (sample, heat) in enumerate(maps):
        mine = boxes.get(sample.path.resolve(), [])
        width, height = images.read_dimensions(sample.path)
        placement = preprocessing.place((0, 0, width, height))
        points = placement.patch_centers(grid) / (width, height)
        found += _cases(n, sample, dict(zip(labels, heat, strict=True)), points, mine)
    ordinary = [case for case in found if not case.difficult]
    if not ordinary:
        raise UserError(
            "no image of the data set has a box of a label of the model",
            got=f"boxes of {len(boxes)} images, {len(found)} labels with difficult objects alone",
            fix="boxes of the same pictures; a split that they are of (--split)",
        )
    by_image: dict[int, list[bool]] = {}
    for case in ordinary:
        by_image.setdefault(case.image, []).append(case.hit)
    hits = np.array([[sum(each), len(each)] for each in by_image.values()])
    low, high = bootstrap_interval(
        lambda rows: float(np.divide(*hits[rows].sum(0))), len(hits), bounds=(0, 1)
    )
    return Pointing(
        ordinary=_figures(ordinary),
        low=low,
        high=high,
        difficult=_figures([case for case in found if case.difficult]),
        labels={
            label: _figures([case for case in ordinary if case.label == label]) for label in labels
        },
    )


def _cases(
    n: int,
    sample: Sample,
    maps: Mapping[str, Float32s],
    points: Float64s,
    boxes: Sequence[ObjectBox],
) -> Iterator[Case]:
    """Yield the cases of image n, from the maps of the model's labels."""
    for label in dict.fromkeys(sample.labels):
        mine = [box for box in boxes if box.label == label]
        if mine and label in maps:
            yield _case(n, label, maps[label], points, mine)


def _case(n: int, label: str, heat: Float32s, points: Float64s, boxes: Sequence[ObjectBox]) -> Case:
    inside = _inside(points, boxes)
    return Case(
        n,
        label,
        hit=bool(inside[heat.argmax()]),
        energy=float(heat[inside].sum()),
        centre=bool(_inside(np.array([[0.5, 0.5]]), boxes)[0]),
        difficult=all(box.difficult for box in boxes),
    )


def _inside(points: Float64s, boxes: Sequence[ObjectBox]) -> Bools:
    """Return whether each point lies in any of the boxes."""
    edges = np.array([[box.xmin, box.ymin, box.xmax, box.ymax] for box in boxes])  # (boxes, 4)
    corners = points[:, None]  # (points, 1, 2)
    within = np.all((edges[:, :2] <= corners) & (corners <= edges[:, 2:]), axis=2)
    return np.asarray(within.any(axis=1), np.bool_)


def _figures(cases: Sequence[Case]) -> PointingFigures:
    if not cases:
        return PointingFigures(0, float("nan"), float("nan"), float("nan"))
    shares = np.array([(case.hit, case.energy, case.centre) for case in cases]).mean(0)
    return PointingFigures(len(cases), *map(float, shares))
