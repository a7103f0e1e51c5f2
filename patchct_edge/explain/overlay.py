"""Label maps drawn over photos, and the figure that shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB, Bytes, Float64s
from patchct_edge.bundle import Preprocessing
from patchct_edge.explain.figure import CaptionLine, Figure, FigureRow, Tile
from patchct_edge.explain.maps import Explanation, LabelMap

HEAT_COLOR = (255, 130, 0)  # orange: distinct from gray for any color vision
# Okabe and Ito's colors, distinct for any color vision.
REGION_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
MAX_REGION_OPACITY = 178  # of 255: the photo shows through a patch that goes to one label alone
PHOTO_SIDE_PX = 320  # the longer side of a photo in a figure
TITLE = "Where the labels are"
NOTE = (
    "A white square marks the strongest patch of each label. Every label has one, whether or not "
    "it is in the photo: the color is as strong as the score. The similarity (cosine of patch and "
    "label, -1 to 1) is that of the marked patch; compare it between photos, not between labels. "
    "In the last picture each patch has the color of the label that it goes to, or gray if it goes "
    "to none."
)


def draw_map_figure(explanations: Iterable[Explanation]) -> Figure:
    """Return a figure with a row for each photo: the photo, its label maps, its regions."""
    return Figure(TITLE, NOTE, map(draw_photo_row, explanations))


def draw_photo_row(explanation: Explanation) -> FigureRow:
    """Return the row of one photo; without maps it is the photo alone."""
    preprocessing, maps = explanation.preprocessing, explanation.maps
    photo = images.resize_longer_side(explanation.photo, PHOTO_SIDE_PX, "bicubic")
    tiles = [Tile(photo, (CaptionLine("photo" if maps else "photo, no tag"),))]
    for label_map in maps:
        tiles.append(Tile(draw_heat_map(photo, preprocessing, label_map), _make_caption(label_map)))
    if maps:
        in_color = maps[: len(REGION_COLORS)]
        legend = (
            CaptionLine(label_map.label, color)
            for label_map, color in zip(in_color, REGION_COLORS, strict=False)
        )
        regions = draw_regions(photo, preprocessing, in_color)
        tiles.append(Tile(regions, (CaptionLine("label of each patch"), *legend)))
    return FigureRow(os.fsencode(explanation.path).decode("utf-8", "replace"), tuple(tiles))


def _make_caption(label_map: LabelMap) -> tuple[CaptionLine, ...]:
    prefix = "" if label_map.is_tag else "not predicted; "
    return (
        CaptionLine(f"{label_map.label}  {label_map.score:.2f}"),
        CaptionLine(f"{prefix}similarity {label_map.peak_similarity:.2f}"),
    )


def spread_over_photo(
    cells: Bytes, preprocessing: Preprocessing, width: int, height: int, interpolation: str
) -> Bytes:
    """Spread a grid of patches over a photo: uint8 (rows, columns) to (height, width).

    Pixels that the preprocessing cuts off, which the engine does not see, are 0.

    Args:
        interpolation: a key of `images.INTERPOLATIONS`.
    """
    placement = preprocessing.place((0, 0, width, height))
    left, top = int(placement.source[0]), int(placement.source[1])
    right = left + int(placement.source[2] - placement.source[0])
    bottom = top + int(placement.source[3] - placement.source[1])
    rows, columns = cells.shape
    rgb = np.repeat(cells[:, :, None], 3, 2)
    box = placement.target_in_patches((rows, columns))
    pixels = np.zeros((height, width), np.uint8)
    pixels[top:bottom, left:right] = images.resize(
        rgb, right - left, bottom - top, interpolation, box
    )[:, :, 0]
    return pixels


def draw_heat_map(photo: RGB, preprocessing: Preprocessing, label_map: LabelMap) -> RGB:
    """Draw a label's map over a photo: orange where it is strong, gray where it is weak.

    A map sums to 1 however low the score is, so the color is as strong as the score. It does not
    follow the similarity, whose level for an absent label differs from label to label.
    """
    height, width = photo.shape[:2]
    strength = label_map.score * label_map.backward / label_map.backward.max()
    cells = (255 * strength).round().astype(np.uint8)
    opacity = spread_over_photo(cells, preprocessing, width, height, "bilinear")[:, :, None] / 255
    heated = 0.35 * photo + 0.65 * np.array(HEAT_COLOR)
    pixels = _round_to_rgb(opacity * heated + (1 - opacity) * _fade(photo))
    grid = label_map.backward.shape
    box = preprocessing.place((0, 0, width, height)).patch_box(label_map.strongest_patch, grid)
    return draw_outline(pixels, box)


def draw_regions(photo: RGB, preprocessing: Preprocessing, maps: Sequence[LabelMap]) -> RGB:
    """Color every patch of a photo by the label of largest F(m|n), the larger the denser.

    A patch stays gray where B(n|m) of that label is below a uniform share, 1/N.

    Args:
        maps: at most as many as `REGION_COLORS`, whose order they follow.
    """
    height, width = photo.shape[:2]
    forward = np.stack([label_map.forward for label_map in maps])  # (maps, rows, columns)
    backward = np.stack([label_map.backward for label_map in maps])
    strongest = forward.argmax(0)  # (rows, columns)
    share = np.take_along_axis(backward, strongest[None], 0)[0]
    in_color = share >= (1 - 1e-3) / share.size  # a uniform map is colored all over
    cells = (MAX_REGION_OPACITY * forward.max(0) * in_color).round().astype(np.uint8)
    opacity = spread_over_photo(cells, preprocessing, width, height, "nearest")[:, :, None] / 255
    indices = spread_over_photo(strongest.astype(np.uint8), preprocessing, width, height, "nearest")
    colors = np.array([_parse_color(color) for color in REGION_COLORS])[indices]
    return _round_to_rgb(opacity * colors + (1 - opacity) * _fade(photo))


def draw_outline(rgb: RGB, box: images.Box, color: str = "#ffffff", width_px: int = 2) -> RGB:
    """Return a copy with the outline of a box, as far as it lies inside the image.

    Args:
        width_px: width of the colored line, which runs inside the box; a black line surrounds it.
    """
    outlined: RGB = rgb.copy()
    _draw_frame(outlined, box, -1, (0, 0, 0))
    for inset in range(width_px):
        _draw_frame(outlined, box, inset, _parse_color(color))
    return outlined


def _draw_frame(rgb: RGB, box: images.Box, inset: int, color: tuple[int, int, int]) -> None:
    height, width = rgb.shape[:2]
    left, top = (max(round(edge) + inset, 0) for edge in box[:2])
    right, bottom = min(round(box[2]) - inset, width), min(round(box[3]) - inset, height)
    inside = rgb[top : max(bottom, 0), left : max(right, 0)]
    if inside.size:
        inside[[0, -1], :] = color
        inside[:, [0, -1]] = color


def _fade(photo: RGB) -> Float64s:
    """Return a photo in pale gray, float64 (height, width, 1)."""
    gray: Float64s = 0.6 * photo.mean(2, keepdims=True) + 0.4 * 128
    return gray


def _round_to_rgb(colors: Float64s) -> RGB:
    rgb: RGB = colors.round().astype(np.uint8)
    return rgb


def _parse_color(color: str) -> tuple[int, int, int]:
    """Return the red, green and blue of a color such as "#e69f00"."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue
