"""The patches of a dataset that are most similar to each label: what its prototype has learned.

A prototype is the embedding that stands for a label; an image's patches are compared with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset, Sample
from patchct_edge.errors import UserError
from patchct_edge.explain.figure import CaptionLine, Figure, FigureRow, Tile
from patchct_edge.explain.overlay import draw_outline
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.tagging.pipeline import score_images

PATCHES_PER_LABEL = 16
CROP_SIDE_PX = 90
EDGE_WIDTH_PX = 4
PRESENT_COLOR, ABSENT_COLOR, DIFFICULT_COLOR = "#009e73", "#e69f00", "#999999"
TITLE = "The patches most similar to each label"
NOTE = (
    "The patches of highest similarity (cosine of patch and label, -1 to 1), at most one per "
    "photo, each outlined among its neighbors. ✓ and a green edge: the photo has the label; ✗ "
    "and an orange edge: it does not; ? and a gray edge: the label is marked difficult there."
)


class PatchMatch(NamedTuple):
    """A patch of a dataset and its similarity to a label, by which matches are ordered.

    Args:
        similarity: -1..1.
        sample: index into the samples of the dataset.
        patch: index into the patches of the image, row by row.
    """

    similarity: float
    sample: int
    patch: int


@dataclass(frozen=True)
class Prototypes:
    """The most similar patches of each label, highest first.

    Args:
        matches: by label.
        unreadable: one error, which names the path, for each image that cannot be decoded.
    """

    matches: dict[str, list[PatchMatch]]
    unreadable: tuple[str, ...]


def find_prototypes(
    bundle: Bundle,
    engine: Engine,
    dataset: Dataset,
    labels: Sequence[str],
    advance: Advance = ignore_progress,
) -> Prototypes:
    """Find the patches of a dataset that are most similar to each label.

    Only the best patches stay in memory, however large the dataset is.

    Args:
        engine: opened with `similarity=True`.
        labels: a subset of the model's.

    Raises:
        UserError: no image can be decoded.
        ValueError: the engine was opened without similarity.
    """
    indices = [bundle.labels.index(label) for label in labels]
    heaps: list[list[PatchMatch]] = [[] for _ in labels]
    unreadable = []
    for n, image in enumerate(score_images(dataset.paths, engine, bundle.preprocessing)):
        if image.error is not None:
            unreadable.append(str(image.error))
        elif image.similarity is None:
            raise ValueError("the engine was opened without similarity")
        else:
            for heap, similarities in zip(heaps, image.similarity[indices], strict=True):
                patch = int(similarities.argmax())
                push = heapq.heappush if len(heap) < PATCHES_PER_LABEL else heapq.heappushpop
                push(heap, PatchMatch(float(similarities[patch]), n, patch))
        advance(n + 1)
    if len(unreadable) == len(dataset):
        raise UserError("no image of the dataset can be read", got=unreadable[0])
    matches = {
        label: sorted(heap, key=lambda match: (-match.similarity, match.sample))
        for label, heap in zip(labels, heaps, strict=True)
    }
    return Prototypes(matches, tuple(unreadable))


def draw_prototype_figure(prototypes: Prototypes, bundle: Bundle, dataset: Dataset) -> Figure:
    """Return a figure with a row of crops for each label, one photo in memory at a time."""
    return Figure(TITLE, NOTE, _draw_rows(prototypes, bundle, dataset))


def _draw_rows(prototypes: Prototypes, bundle: Bundle, dataset: Dataset) -> Iterator[FigureRow]:
    for label, matches in prototypes.matches.items():
        tiles = (_draw_tile(label, match, bundle, dataset) for match in matches)
        yield FigureRow(label, tuple(tiles))


def _draw_tile(label: str, match: PatchMatch, bundle: Bundle, dataset: Dataset) -> Tile:
    sample = dataset.samples[match.sample]
    sign, color = _choose_sign(label, sample)
    crop = _draw_patch_crop(sample, match.patch, bundle)
    edges = (0, 0, CROP_SIDE_PX, CROP_SIDE_PX)
    caption = CaptionLine(f"{sign} {match.similarity:.2f}")
    return Tile(draw_outline(crop, edges, color, EDGE_WIDTH_PX), (caption,))


def _choose_sign(label: str, sample: Sample) -> tuple[str, str]:
    """Return the sign and the color that say whether a photo has a label."""
    if label in sample.difficult:
        return "?", DIFFICULT_COLOR
    return ("✓", PRESENT_COLOR) if label in sample.labels else ("✗", ABSENT_COLOR)


def _draw_patch_crop(sample: Sample, patch: int, bundle: Bundle) -> RGB:
    """Return a patch with its neighbors, cut from the photo, and the patch outlined.

    Raises:
        ImageError: the photo can no longer be decoded.
    """
    preprocessing, grid = bundle.preprocessing, bundle.manifest.grid
    photo = preprocessing.decode(sample.path)
    height, width = photo.shape[:2]
    placement = preprocessing.place((0, 0, width, height))
    left, top, right, bottom = placement.patch_box(divmod(patch, grid[1]), grid)
    x0, x1 = _expand_interval(left, right, width)
    y0, y1 = _expand_interval(top, bottom, height)
    crop = images.resize(photo, CROP_SIDE_PX, CROP_SIDE_PX, "bicubic", (x0, y0, x1, y1))
    x_scale, y_scale = CROP_SIDE_PX / (x1 - x0), CROP_SIDE_PX / (y1 - y0)
    patch_in_crop = (
        (left - x0) * x_scale,
        (top - y0) * y_scale,
        (right - x0) * x_scale,
        (bottom - y0) * y_scale,
    )
    return draw_outline(crop, patch_in_crop)


def _expand_interval(start: float, end: float, limit: float) -> tuple[float, float]:
    """Return an interval of three times the length, moved or cut to lie within 0..limit."""
    length = min(3 * (end - start), limit)
    first = min(max(0.0, (start + end - length) / 2), limit - length)
    return first, first + length
