"""Crop a frame to the camera's region of interest and fit it to the engine's input."""

from __future__ import annotations

from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.images import Box
from patchct_edge.runtime.stream.settings import Roi
from patchct_edge.runtime.stream.sources.frame import Frame

ROUNDING_PX = 0.5  # by which a region may reach beyond the frame: fractions are rounded


def crop_and_fit(frame: Frame, preprocessing: Preprocessing, roi: Roi | None) -> tuple[RGB, RGB]:
    """Return the whole frame, uint8 (H, W, 3), and its region at the engine's input size.

    Raises:
        UserError: the region reaches beyond the frame.
        Exception: the source cannot convert its picture.
    """
    rgb = frame.load_rgb()
    return rgb, preprocessing.apply(rgb, roi_box(rgb, roi))


def roi_box(rgb: RGB, roi: Roi | None) -> Box | None:
    """Return a region as a box (left, top, right, bottom) in pixels; None is the whole frame.

    Args:
        rgb: the frame, uint8 (H, W, 3).
        roi: x, y, width, height in fractions of the frame if none is above 1, else in pixels.

    Raises:
        UserError: the region reaches beyond the frame.
    """
    if roi is None:
        return None
    frame_height, frame_width = rgb.shape[:2]
    x, y, width, height = roi
    if max(roi) <= 1:
        x, width = x * frame_width, width * frame_width
        y, height = y * frame_height, height * frame_height
    if x + width > frame_width + ROUNDING_PX or y + height > frame_height + ROUNDING_PX:
        raise UserError(
            "the region of interest reaches beyond the frame",
            got=f"{x:g},{y:g},{width:g},{height:g} in {frame_width} x {frame_height}",
            fix="give it in fractions, which fit every frame size",
        )
    return (x, y, min(x + width, frame_width), min(y + height, frame_height))
