"""Folders of images as streams."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.errors import ImageError, UserError
from patchct_edge.runtime.stream.sources.folder import FolderSource, require_images

GRAY_LEVELS = (10, 120, 240)


@pytest.fixture
def folder(tmp_path):
    """Three gray images, named so that their order is not that of their creation."""
    for name, level in zip("bca", GRAY_LEVELS, strict=True):
        images.save(np.full((4, 4, 3), level, np.uint8), tmp_path / f"{name}.png")
    return tmp_path


def read_levels(frames):
    return [int(frame.load_rgb().mean()) for frame in frames]


def test_images_are_read_by_name_with_positions_by_rate(folder):
    frames = list(FolderSource(str(folder), 2.0, loop=False).read_frames())
    assert read_levels(frames) == [240, 10, 120]
    assert [frame.position for frame in frames] == [0.0, 0.5, 1.0]


def test_a_folder_in_a_loop_starts_again_with_growing_positions(folder):
    frames = list(islice(FolderSource(str(folder), 1.0, loop=True).read_frames(), 7))
    assert read_levels(frames) == [240, 10, 120, 240, 10, 120, 240]
    assert [frame.position for frame in frames] == list(range(7))


def test_an_unreadable_image_is_a_frame_that_raises(folder):
    (folder / "b.png").write_bytes(b"no image")
    frames = list(FolderSource(str(folder), 1.0, loop=False).read_frames())
    assert len(frames) == 3
    with pytest.raises(ImageError, match=r"b\.png"):
        frames[1].load_rgb()


def test_a_loop_over_unreadable_images_ends(folder):
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    assert len(list(FolderSource(str(folder), 1.0, loop=True).read_frames())) == 3


def test_a_folder_without_images_is_reported(folder, tmp_path):
    require_images(str(folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty"):
        require_images(str(empty))
