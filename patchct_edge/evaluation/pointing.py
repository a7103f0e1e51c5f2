"""The pointing game: does the heat map of a label point into the boxes of its objects?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from patchct_edge import images, navigators
from patchct_edge.arrays import Bools, Float64s, Floats
from patchct_edge.bootstrap import bootstrap_interval
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.datasets import Boxes, Dataset, ObjectBox, Sample
from patchct_edge.errors import UserError
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.tagging.pipeline import score_images


class PointingCase(NamedTuple):
    """One label of one image that has boxes of it.

    Args:
        image: index of the image.
        hit: whether the center of the map's strongest patch lies in a box of the label.
        energy: share of the map that lies in those boxes, 0..1.
        center: whether the center of the image lies in one of them.
        difficult: whether all of them are difficult.
    """

    image: int
    label: str
    hit: bool
    energy: float
    center: bool
    difficult: bool


@dataclass(frozen=True)
class PointingFigures:
    """The figures of some cases, 0..1, NaN without a case.

    Args:
        cases: how many labels of images were tried.
        pointing: share of hits.
        energy: mean share of the map that lies in the boxes.
        center: what a map that always points at the center of the image would score.
    """

    cases: int
    pointing: float
    energy: float
    center: float


@dataclass(frozen=True)
class Pointing:
    """The pointing game of one engine.

    Args:
        ordinary: cases with a box that is not difficult.
        low, high: 95% bootstrap interval of `ordinary.pointing`.
        difficult: cases whose boxes are all difficult.
        labels: the ordinary cases of each label.
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
    dataset: Dataset,
    boxes: Boxes,
    advance: Advance = ignore_progress,
) -> Pointing:
    """Play the pointing game (Zhang et al., arXiv 1608.00507) over the images that have boxes.

    A case is a label of an image with a box of it. It is a hit where the center of the strongest
    patch of the label's map lies in any of those boxes.

    Args:
        engine: opened with `similarity=True`.

    Raises:
        UserError: no image of the dataset has a box of one of its labels.
    """
    manifest = bundle.manifest
    samples = [sample for sample in dataset.samples if sample.path.resolve() in boxes]

    def iter_maps() -> Iterator[tuple[Sample, Floats]]:
        paths = [sample.path for sample in samples]
        scored_images = score_images(paths, engine, bundle.preprocessing)
        for row, (sample, scored) in enumerate(zip(samples, scored_images, strict=True)):
            advance(row + 1)
            if scored.similarity is not None:  # else unreadable, which `predict` reports
                yield sample, navigators.backward(scored.similarity, manifest.tau)

    return score_pointing(iter_maps(), boxes, bundle.labels, manifest.grid, bundle.preprocessing)


def score_pointing(
    maps: Iterable[tuple[Sample, Floats]],
    boxes: Boxes,
    labels: Sequence[str],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
) -> Pointing:
    """Score heat maps from any source; see `play_pointing_game`.

    Args:
        maps: images, each with its maps (M, N): one per label over the patches, summing to 1.
        labels: M.
        grid: (rows, columns) of the N patches.

    Raises:
        UserError: no image has a box of one of its labels.
    """
    cases: list[PointingCase] = []
    for image, (sample, heat_maps) in enumerate(maps):
        image_boxes = boxes.get(sample.path.resolve(), [])
        width, height = images.read_dimensions(sample.path)
        placement = preprocessing.place((0, 0, width, height))
        centers = placement.patch_centers(grid) / (width, height)
        maps_by_label = dict(zip(labels, heat_maps, strict=True))
        cases += _iter_cases(image, sample, maps_by_label, centers, image_boxes)
    ordinary = [case for case in cases if not case.difficult]
    if not ordinary:
        raise UserError(
            "no image of the dataset has a box of a label of the model",
            got=f"boxes of {len(boxes)} images, {len(cases)} labels with difficult objects only",
            fix="pass the boxes of these images, or choose their split with --split",
        )
    low, high = _bootstrap_hits(ordinary)
    return Pointing(
        ordinary=_summarize(ordinary),
        low=low,
        high=high,
        difficult=_summarize([case for case in cases if case.difficult]),
        labels={
            label: _summarize([case for case in ordinary if case.label == label])
            for label in labels
        },
    )


def _bootstrap_hits(cases: Sequence[PointingCase]) -> tuple[float, float]:
    """Return the 95% interval of the share of hits; images, not cases, are drawn."""
    hits_by_image: dict[int, list[bool]] = {}
    for case in cases:
        hits_by_image.setdefault(case.image, []).append(case.hit)
    counts = np.array([[sum(hits), len(hits)] for hits in hits_by_image.values()])
    return bootstrap_interval(
        lambda rows: float(np.divide(*counts[rows].sum(0))), len(counts), bounds=(0, 1)
    )


def _iter_cases(
    image: int,
    sample: Sample,
    maps_by_label: Mapping[str, Floats],
    centers: Float64s,
    boxes: Sequence[ObjectBox],
) -> Iterator[PointingCase]:
    for label in dict.fromkeys(sample.labels):
        label_boxes = [box for box in boxes if box.label == label]
        if label_boxes and label in maps_by_label:
            heat_map = maps_by_label[label]
            inside = _points_inside(centers, label_boxes)
            yield PointingCase(
                image,
                label,
                hit=bool(inside[heat_map.argmax()]),
                energy=float(heat_map[inside].sum()),
                center=bool(_points_inside(np.array([[0.5, 0.5]]), label_boxes)[0]),
                difficult=all(box.difficult for box in label_boxes),
            )


def _points_inside(points: Float64s, boxes: Sequence[ObjectBox]) -> Bools:
    """Return whether each point (x, y) lies in any of the boxes, bool (points,)."""
    edges = np.array([[box.xmin, box.ymin, box.xmax, box.ymax] for box in boxes])  # (boxes, 4)
    corners = points[:, None]  # (points, 1, 2)
    within = np.all((edges[:, :2] <= corners) & (corners <= edges[:, 2:]), axis=2)
    return np.asarray(within.any(axis=1), np.bool_)


def _summarize(cases: Sequence[PointingCase]) -> PointingFigures:
    if not cases:
        return PointingFigures(0, float("nan"), float("nan"), float("nan"))
    shares = np.array([(case.hit, case.energy, case.center) for case in cases]).mean(0)
    return PointingFigures(len(cases), *map(float, shares))
