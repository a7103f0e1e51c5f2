"""From a frame to what the engine wants of it: a region, fitted by the preprocessing."""

from __future__ import annotations

from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.images import Box
from patchct_edge.runtime.stream.settings import Roi
from patchct_edge.runtime.stream.sources.frame import Frame


def crop_and_fit(frame: Frame, preprocessing: Preprocessing, roi: Roi | None) -> tuple[RGB, RGB]:
    """Return a frame as uint8 (H, W, 3) RGB, and its region as the engine wants it.

    Raises:
        Exception: its picture cannot be converted.
        UserError: the region reaches beyond it.
    """
    rgb = frame.to_rgb()
    return rgb, preprocessing.apply(rgb, roi_box(rgb, roi))


def roi_box(rgb: RGB, roi: Roi | None) -> Box | None:
    """Return the box (left, top, right, bottom) in pixels of a region of a frame.

    Raises:
        UserError: it reaches beyond the frame.
    """
    if roi is None:
        return None
    height, width = rgb.shape[:2]
    x, y, w, h = roi
    if max(roi) <= 1:
        x, y, w, h = x * width, y * height, w * width, h * height
    if x + w > width + 0.5 or y + h > height + 0.5:
        raise UserError(
            "the region of interest reaches beyond the frame",
            got=f"{x:g},{y:g},{w:g},{h:g} in {width} x {height}",
            fix="fractions fit every size",
        )
    return (x, y, min(x + w, width), min(y + h, height))
