"""Files that are whole or not there, and a user's folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patchct_edge.files import user_folder, write_aside, write_atomically


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    for data in (b"old", b"", b"new\r\n"):
        write_atomically(tmp_path / "x.json", data)
        assert (tmp_path / "x.json").read_bytes() == data
    assert os.listdir(tmp_path) == ["x.json"]  # noqa: PTH208


def test_a_write_that_fails_leaves_what_stood_there(tmp_path, monkeypatch):
    write_atomically(tmp_path / "x.json", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "x.json", b"new")
    assert (tmp_path / "x.json").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]  # noqa: PTH208


def test_a_file_that_fails_half_way_leaves_what_stood_there(tmp_path):
    target = tmp_path / "x.html"
    target.write_text("old")

    def write():
        with write_aside(target) as aside:
            aside.write_text("ne")
            raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("kind", "variable", "below_home"),
    [("cache", "XDG_CACHE_HOME", ".cache"), ("state", "XDG_STATE_HOME", ".local/state")],
)
def test_a_folder_of_the_user(monkeypatch, tmp_path, kind, variable, below_home):
    monkeypatch.setenv(variable, str(tmp_path))
    assert user_folder(kind) == tmp_path / "patchct-edge"
    monkeypatch.setenv(variable, "")
    assert user_folder(kind) == Path.home() / below_home / "patchct-edge"
