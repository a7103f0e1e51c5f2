"""Files that are written whole or not at all, hashes, and the folders of the user."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from patchct_edge import files
from patchct_edge.files import cache_folder, sha256, state_folder, write_aside, write_atomically


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


def test_the_hash_of_a_file_longer_than_a_chunk(tmp_path):
    data = bytes(range(256)) * (files.CHUNK_BYTES // 256) + b"end"
    (tmp_path / "x").write_bytes(data)
    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


FOLDERS = [
    (cache_folder, "XDG_CACHE_HOME", ".cache"),
    (state_folder, "XDG_STATE_HOME", ".local/state"),
]


@pytest.mark.parametrize(("folder", "variable", "below_home"), FOLDERS)
def test_the_folders_of_the_user(monkeypatch, tmp_path, folder, variable, below_home):
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder() == tmp_path / "patchct-edge"
    monkeypatch.setenv(variable, "")
    assert folder() == Path.home() / below_home / "patchct-edge"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("folder", "variable", "below_home"), FOLDERS)
def test_a_user_without_a_home_has_no_folder(monkeypatch, no_home, folder, variable, below_home):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RuntimeError, match="home"):
        folder()


def test_an_unexpanded_home_is_refused(monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/x"))
    with pytest.raises(RuntimeError, match="no home folder"):
        cache_folder()
