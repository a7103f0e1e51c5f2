"""The preprocessing: how a picture becomes the engine's input. Data, with its one implementation.

Photos, camera frames and training crops all pass through `Preprocessing.apply`. Normalisation is
not done here: it is part of the engine's graph, with the preprocessing's `mean` and `std`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import UserError

FITS = ("squash", "crop", "pad")


class Placement(NamedTuple):
    """Which box of a picture fills which box of the input square; both in pixels of their own."""

    source: images.Box
    target: tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Preprocessing:
    """RGB array (h, w, 3) to uint8 (size, size, 3).

    Args:
        size: side of the square input, in pixels.
        fit: `squash` changes the aspect ratio, `crop` cuts the centre square, `pad` adds grey bars.
        interpolation: one of `images.FILTERS`.
        mean, std: per channel, of pixels scaled to 0..1; applied inside the engine.
    """

    size: int
    fit: str = "squash"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UserError("unknown fit", got=self.fit, expected=" or ".join(FITS))
        if self.interpolation not in images.FILTERS:
            known = " or ".join(images.FILTERS)
            raise UserError("unknown interpolation", got=self.interpolation, expected=known)
        if self.size < 1 or min(self.std) <= 0:
            raise UserError("size and std must be positive", got=(self.size, self.std))

    def apply(self, rgb: RGB, box: images.Box | None = None) -> RGB:
        """Fit `box` of the picture (all of it by default) into the input square."""
        source, (left, top, right, bottom) = self.placement(
            box or (0, 0, rgb.shape[1], rgb.shape[0])
        )
        inner = images.resize(rgb, right - left, bottom - top, self.interpolation, source)
        if self.fit != "pad":
            return inner
        canvas = np.full((self.size, self.size, 3), 128, np.uint8)
        canvas[top:bottom, left:right] = inner
        return canvas

    def placement(self, box: images.Box) -> Placement:
        """Return what of `box` the engine sees, and where in the input square."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        whole = (0, 0, self.size, self.size)
        if self.fit == "squash":
            return Placement(box, whole)
        if self.fit == "crop":
            side = min(width, height)
            left, top = left + (width - side) / 2, top + (height - side) / 2
            return Placement((left, top, left + side, top + side), whole)
        scale = self.size / max(width, height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        x, y = (self.size - w) // 2, (self.size - h) // 2
        return Placement(box, (x, y, x + w, y + h))

    def read(self, source: str | os.PathLike[str] | bytes) -> RGB:
        """Decode an image no larger than needed, and fit the whole picture.

        Twice the input's size keeps the scores: a quarter of a grey level of difference on average
        on photos of 12 megapixels (docs/results.md).

        Raises:
            ImageError: as `images.decode`.
        """
        return self.apply(images.decode(source, at_least=2 * self.size))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Preprocessing:
        mean, std = (tuple(float(x) for x in fields[name]) for name in ("mean", "std"))
        return cls(**{**fields, "mean": mean, "std": std})
