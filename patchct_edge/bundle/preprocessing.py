"""The preprocessing: how a photo becomes the engine's input, as data with one implementation.

Photos, camera frames and training crops all pass through `Preprocessing.apply`. The engine's graph
normalizes the pixels, with the preprocessing's `mean` and `std`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle.placement import Placement
from patchct_edge.errors import UserError

FITS = ("squash", "crop", "pad")


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB array (height, width, 3) becomes uint8 (size, size, 3).

    Args:
        size: side of the square input, in pixels.
        fit: `squash` changes the aspect ratio, `crop` cuts the center square, `pad` adds gray bars.
        interpolation: one of `images.INTERPOLATIONS`.
        mean: per channel, of pixels scaled to 0..1; subtracted inside the engine.
        std: per channel, of pixels scaled to 0..1; divided by inside the engine.

    Raises:
        UserError: a value is unknown or out of range.
    """

    size: int
    fit: str = "squash"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UserError("unknown fit", got=self.fit, expected=" or ".join(FITS))
        if self.interpolation not in images.INTERPOLATIONS:
            known = " or ".join(images.INTERPOLATIONS)
            raise UserError("unknown interpolation", got=self.interpolation, expected=known)
        if self.size < 1 or min(self.std) <= 0:
            raise UserError("size and std must be positive", got=(self.size, self.std))

    def apply(self, rgb: RGB, box: images.Box | None = None) -> RGB:
        """Fit `box` of a photo (all of it by default) into the input square."""
        placement = self.place(box or (0, 0, rgb.shape[1], rgb.shape[0]))
        left, top, right, bottom = placement.target
        inner = images.resize(rgb, right - left, bottom - top, self.interpolation, placement.source)
        if self.fit != "pad":
            return inner
        canvas = np.full((self.size, self.size, 3), 128, np.uint8)
        canvas[top:bottom, left:right] = inner
        return canvas

    def place(self, box: images.Box) -> Placement:
        """Return what the engine sees of `box`, in pixels of the photo, and where in its input."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        whole = (0, 0, self.size, self.size)
        if self.fit == "squash":
            return Placement(box, whole, self.size)
        if self.fit == "crop":
            side = min(width, height)
            left, top = left + (width - side) / 2, top + (height - side) / 2
            return Placement((left, top, left + side, top + side), whole, self.size)
        scale = self.size / max(width, height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        x, y = (self.size - w) // 2, (self.size - h) // 2
        return Placement(box, (x, y, x + w, y + h), self.size)

    def decode(self, source: str | os.PathLike[str] | bytes) -> RGB:
        """Decode a photo whole, but no larger than needed.

        Twice the input's size keeps the scores: on photos of 12 megapixels the input differs by a
        quarter of a gray level on average (docs/lab/measurements.md).

        Raises:
            ImageError: as `images.decode`.
        """
        return images.decode(source, min_side=2 * self.size)

    def read(self, source: str | os.PathLike[str] | bytes) -> RGB:
        """Decode a photo and fit all of it into the input square: uint8 (size, size, 3).

        Raises:
            ImageError: as `images.decode`.
        """
        return self.apply(self.decode(source))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Preprocessing:
        """Return the preprocessing whose `to_json` gave the fields."""
        mean, std = (tuple(float(x) for x in fields[name]) for name in ("mean", "std"))
        return cls(**{**fields, "mean": mean, "std": std})
