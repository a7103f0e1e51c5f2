"""From the settings of a camera to its source."""

from __future__ import annotations

import pytest

from patchct_edge.errors import UserError
from patchct_edge.runtime.stream.sources.open import parse_size


@pytest.mark.parametrize("text", ["0x480", "640x0", "640", "640 x 480", "-640x480", "99999x99999"])
def test_an_invalid_frame_size_is_reported(text):
    with pytest.raises(UserError, match="invalid frame size"):
        parse_size(text)


def test_a_size_is_width_and_height():
    assert parse_size("1280x720") == (1280, 720)
