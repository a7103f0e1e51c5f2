"""Maps drawn over photos: from the grid of patches onto the whole photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB, Bytes, Float64s
from patchct_edge.bundle import Preprocessing
from patchct_edge.explain.maps import LabelMap

ORANGE = (255, 130, 0)  # told from grey with any colour vision
# Okabe and Ito's colours, which any colour vision tells apart.
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
DENSEST = 178  # of 255: the photo shows through a patch that goes to one label alone


def spread_over_photo(
    cells: Bytes, preprocessing: Preprocessing, width: int, height: int, interpolation: str
) -> Bytes:
    """Lay a grid of patches over a photo: uint8 (rows, columns) to (height, width).

    What the preprocessing cuts off, the engine did not see, and it is 0 there.
    """
    source, target = preprocessing.placement((0, 0, width, height))
    rows, columns = cells.shape
    scales = (columns / preprocessing.size, rows / preprocessing.size) * 2
    seen = tuple(edge * scale for edge, scale in zip(target, scales, strict=True))
    left, top = int(source[0]), int(source[1])
    w, h = int(source[2] - source[0]), int(source[3] - source[1])
    found = np.zeros((height, width), np.uint8)
    rgb = np.repeat(cells[:, :, None], 3, 2)
    large = images.resize(rgb, w, h, interpolation, (seen[0], seen[1], seen[2], seen[3]))
    found[top : top + h, left : left + w] = large[:, :, 0]
    return found


def patch_box(
    patch: tuple[int, int],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
    width: int,
    height: int,
) -> images.Box:
    """Return the box of a patch (row, column) in pixels of a photo of that width and height.

    It may lie outside: where the preprocessing pads, there are patches outside the photo.
    """
    source, target = preprocessing.placement((0, 0, width, height))
    row, column = patch
    edges = []
    for axis, (place, count) in enumerate(((column, grid[1]), (row, grid[0]))):
        scale = (source[axis + 2] - source[axis]) / (target[axis + 2] - target[axis])
        for cell in (place, place + 1):
            edges.append(source[axis] + (cell * preprocessing.size / count - target[axis]) * scale)
    left, right, top, bottom = edges
    return left, top, right, bottom


def draw_heat_map(photo: RGB, preprocessing: Preprocessing, shown: LabelMap) -> RGB:
    """Draw a label's map over a photo: orange where it is strong, grey where it is not.

    A map sums to 1 however weak its label is, so its colour is as strong as the label's score. Not
    as its similarity: how high that is for a label that is absent differs from label to label.
    """
    height, width = photo.shape[:2]
    strength = shown.score * shown.backward / shown.backward.max()
    cells = (255 * strength).round().astype(np.uint8)
    cover = spread_over_photo(cells, preprocessing, width, height, "bilinear")[:, :, None] / 255
    lit = 0.35 * photo + 0.65 * np.array(ORANGE)
    blended = _as_pixels(cover * lit + (1 - cover) * _faded(photo))
    box = patch_box(shown.strongest, shown.backward.shape, preprocessing, width, height)
    return draw_outline(blended, box)


def draw_regions(photo: RGB, preprocessing: Preprocessing, maps: Sequence[LabelMap]) -> RGB:
    """Colour every patch of a photo by the label of highest F(m|n), the denser the higher.

    A patch stays grey where that label's B(n|m) gives it less than an even share.

    Args:
        maps: as many as `PALETTE` has colours at most, in its order.
    """
    height, width = photo.shape[:2]
    forward = np.stack([each.forward for each in maps])  # (maps, rows, columns)
    best = forward.argmax(0)
    backward = np.take_along_axis(np.stack([each.backward for each in maps]), best[None], 0)[0]
    shared = backward >= (1 - 1e-3) / backward.size  # a map that is even everywhere is coloured
    cells = (DENSEST * forward.max(0) * shared).round().astype(np.uint8)
    cover = spread_over_photo(cells, preprocessing, width, height, "nearest")[:, :, None] / 255
    index = spread_over_photo(best.astype(np.uint8), preprocessing, width, height, "nearest")
    colours = np.array([_rgb(colour) for colour in PALETTE])[index]
    return _as_pixels(cover * colours + (1 - cover) * _faded(photo))


def draw_outline(rgb: RGB, box: images.Box, colour: str = "#ffffff", thick: int = 2) -> RGB:
    """Return a picture with a box outlined, as far as it lies inside: black without, then colour.

    Args:
        thick: px of the colour.
    """
    drawn = rgb.copy()
    _frame(drawn, box, -1, (0, 0, 0))
    for inset in range(thick):
        _frame(drawn, box, inset, _rgb(colour))
    return drawn


def _frame(rgb: RGB, box: images.Box, inset: int, colour: tuple[int, int, int]) -> None:
    height, width = rgb.shape[:2]
    left, top = (max(round(edge) + inset, 0) for edge in box[:2])
    right, bottom = min(round(box[2]) - inset, width), min(round(box[3]) - inset, height)
    inside = rgb[top : max(bottom, 0), left : max(right, 0)]
    if inside.size:
        inside[[0, -1], :] = colour
        inside[:, [0, -1]] = colour


def _faded(photo: RGB) -> Float64s:
    grey: Float64s = 0.6 * photo.mean(2, keepdims=True) + 0.4 * 128
    return grey


def _as_pixels(colours: Float64s) -> RGB:
    pixels: RGB = colours.round().astype(np.uint8)
    return pixels


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
