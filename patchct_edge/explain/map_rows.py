"""An explained photo as a row of a sheet: itself, the map of each label, and which label where."""

from __future__ import annotations

import os

from patchct_edge import images
from patchct_edge.explain.figure import FigureRow, Line, Tile
from patchct_edge.explain.maps import Explanation, LabelMap
from patchct_edge.explain.overlay import PALETTE, draw_heat_map, draw_regions

SIDE = 320  # px of the longer side of a photo on a sheet
TITLE = "Where the labels are"
NOTE = (
    "The square marks the strongest patch of a label. Every label has one, present or not: the "
    "colour is as strong as the score, and the similarity (cosine of patch and label, -1 to 1) is "
    "that of the marked patch; compare it with other photos, not with other labels. In the last "
    "picture each patch has the colour of the label that it goes to, grey where to none."
)


def photo_row(picture: Explanation) -> FigureRow:
    """Return the row of a photo; without a map it says that there is no tag."""
    photo, preprocessing = images.shrink(picture.photo, SIDE, "bicubic"), picture.preprocessing
    tiles = [Tile(photo, (Line("photo" if picture.maps else "photo, no tag"),))]
    tiles += [Tile(draw_heat_map(photo, preprocessing, m), _caption(m)) for m in picture.maps]
    coloured = picture.maps[: len(PALETTE)]
    if coloured:
        legend = tuple(Line(m.label, c) for m, c in zip(coloured, PALETTE, strict=False))
        areas = draw_regions(photo, preprocessing, coloured)
        tiles.append(Tile(areas, (Line("which label where"), *legend)))
    return FigureRow(os.fsencode(picture.path).decode("utf-8", "replace"), tuple(tiles))


def _caption(shown: LabelMap) -> tuple[Line, ...]:
    absent = "" if shown.is_tag else "not predicted; "
    return (
        Line(f"{shown.label}  {shown.score:.2f}"),
        Line(f"{absent}similarity {shown.peak:.2f}"),
    )
