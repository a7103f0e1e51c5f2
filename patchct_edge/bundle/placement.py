"""Where the pixels of a photo lie in the engine's input, and its patches on the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from patchct_edge.arrays import Float64s
from patchct_edge.images import Box


@dataclass(frozen=True)
class Placement:
    """The box of a photo that the engine sees, and the box of the input square that it fills.

    A grid is (rows, columns) of patches, which divide the whole input square. Points are (x, y).

    Args:
        source: in pixels of the photo.
        target: left, top, right, bottom in pixels of the input.
        size: side of the input square in pixels.
    """

    source: Box
    target: tuple[int, int, int, int]
    size: int

    def to_photo(self, points: Float64s) -> Float64s:
        """Return points of the input square, float64 (N, 2) in pixels, in pixels of the photo.

        A point in the bars of `pad` lies outside the photo.
        """
        source, target = np.reshape(self.source, (2, 2)), np.reshape(self.target, (2, 2))
        scale = (source[1] - source[0]) / (target[1] - target[0])
        return np.asarray(source[0] + (points - target[0]) * scale, np.float64)

    def patch_box(self, patch: tuple[int, int], grid: tuple[int, int]) -> Box:
        """Return the box of a patch (row, column) in pixels of the photo; it may lie outside."""
        (row, column), (rows, columns) = patch, grid
        corners = np.array([[column, row], [column + 1, row + 1]])
        (left, top), (right, bottom) = self.to_photo(corners * self.size / (columns, rows)).tolist()
        return left, top, right, bottom

    def patch_centers(self, grid: tuple[int, int]) -> Float64s:
        """Return the centers of all patches, float64 (rows * columns, 2), in pixels of the photo.

        They are in the order of the engine's patches, row by row.
        """
        rows, columns = grid
        x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
        return self.to_photo(np.stack([x, y], -1).reshape(-1, 2) * self.size / (columns, rows))

    def target_in_patches(self, grid: tuple[int, int]) -> Box:
        """Return the target box in units of patches: the cells of the grid that show the photo."""
        rows, columns = grid
        left, top, right, bottom = self.target
        across, down = columns / self.size, rows / self.size
        return left * across, top * down, right * across, bottom * down
