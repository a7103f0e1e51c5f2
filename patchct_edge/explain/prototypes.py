"""The patches of a data set that carry each label most: the learned prototypes made visible."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.explain.figure import FigureRow, Line, Tile
from patchct_edge.explain.overlay import draw_outline, patch_box
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.tagging.pipeline import score_images

KEPT = 16  # patches of a label
SIDE = 90  # px of a crop
HAS, LACKS, UNSURE = "#009e73", "#e69f00", "#999999"
TITLE = "The patches that carry each label most"
NOTE = (
    "The patches of highest similarity (the cosine of patch and label, -1 to 1), at most one from "
    "a photo, each outlined among its neighbours. ✓ and a green edge: the photo has the label; ✗ "
    "and an orange edge: it has not; ? and a grey edge: the label is marked difficult there."
)


class PatchMatch(NamedTuple):
    """A patch of a data set; places compare by similarity first."""

    similarity: float
    image: int
    patch: int


@dataclass(frozen=True)
class Prototypes:
    """The strongest places of each label, highest similarity first, and what could not be read."""

    places: dict[str, list[PatchMatch]]
    failed: tuple[str, ...]


def strongest_patches(
    bundle: Bundle,
    engine: Engine,
    data: Dataset,
    labels: Sequence[str],
    progress: Callable[[int], None] = lambda done: None,
) -> Prototypes:
    """Find the patches of highest similarity of each label; memory is that of the places.

    Args:
        engine: opened with `similarity=True`.
        labels: of the model.
        progress: called with the number of images done.

    Raises:
        UserError: no image could be read.
    """
    columns = [bundle.labels.index(label) for label in labels]
    heaps: list[list[PatchMatch]] = [[] for _ in labels]
    failed = []
    for n, scored in enumerate(score_images(data.paths, engine, bundle.preprocessing)):
        if scored.error is not None:
            failed.append(f"{scored.path}: {scored.error}")
        elif scored.similarity is None:
            raise ValueError("the engine was opened without similarity")
        else:
            for heap, similarities in zip(heaps, scored.similarity[columns], strict=True):
                patch = int(similarities.argmax())
                push = heapq.heappush if len(heap) < KEPT else heapq.heappushpop
                push(heap, PatchMatch(float(similarities[patch]), n, patch))
        progress(n + 1)
    if len(failed) == len(data):
        raise UserError("no image of the data set could be read", got=failed[0])
    places = {
        label: sorted(heap, key=lambda place: (-place.similarity, place.image))
        for label, heap in zip(labels, heaps, strict=True)
    }
    return Prototypes(places, tuple(failed))


def prototype_rows(found: Prototypes, bundle: Bundle, data: Dataset) -> Iterator[FigureRow]:
    """Yield a row of crops for each label, one photo in memory at a time."""
    for label, places in found.places.items():
        yield FigureRow(label, tuple(_tile(label, place, bundle, data) for place in places))


def _tile(label: str, place: PatchMatch, bundle: Bundle, data: Dataset) -> Tile:
    sample = data.samples[place.image]
    sign, colour = _truth(label, sample)
    crop = draw_outline(_crop(sample, place.patch, bundle), (0, 0, SIDE, SIDE), colour, 4)
    return Tile(crop, (Line(f"{sign} {place.similarity:.2f}"),))


def _truth(label: str, sample: Sample) -> tuple[str, str]:
    if label in sample.difficult:
        return "?", UNSURE
    return ("✓", HAS) if label in sample.labels else ("✗", LACKS)


def _crop(sample: Sample, patch: int, bundle: Bundle) -> RGB:
    """Return a patch with its neighbours, as the engine saw them, and the patch outlined.

    Raises:
        ImageError: the photo cannot be decoded any more.
    """
    preprocessing, grid = bundle.preprocessing, bundle.manifest.grid
    photo = images.decode(sample.path, at_least=2 * preprocessing.size)
    height, width = photo.shape[:2]
    left, top, right, bottom = patch_box(divmod(patch, grid[1]), grid, preprocessing, width, height)
    x0, x1 = _around(left, right, width)
    y0, y1 = _around(top, bottom, height)
    crop = images.resize(photo, SIDE, SIDE, "bicubic", (x0, y0, x1, y1))
    across, down = SIDE / (x1 - x0), SIDE / (y1 - y0)
    inner = (left - x0) * across, (top - y0) * down, (right - x0) * across, (bottom - y0) * down
    return draw_outline(crop, inner)


def _around(start: float, end: float, limit: float) -> tuple[float, float]:
    """Return the edges of a patch and its neighbours, moved or cut to lie within 0..limit."""
    side = min(3 * (end - start), limit)
    first = min(max(0.0, (start + end - side) / 2), limit - side)
    return first, first + side
