"""Regions of interest in fractions and pixels."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.roi import roi_box

FRAME = np.zeros((40, 80, 3), np.uint8)


@pytest.mark.parametrize(
    ("roi", "box"),
    [
        (None, None),
        ((0.25, 0.0, 0.5, 1.0), (20, 0, 60, 40)),
        ((20.0, 0.0, 40.0, 40.0), (20, 0, 60, 40)),
        ((20.0, 0.0, 60.4, 40.4), (20, 0, 80, 40)),
    ],
)
def test_a_region_becomes_a_box_in_pixels(roi, box):
    assert roi_box(FRAME, roi) == box


def test_a_region_beyond_the_frame_is_reported():
    with pytest.raises(UserError, match="beyond the frame"):
        roi_box(FRAME, (20.0, 0.0, 61.0, 40.0))
