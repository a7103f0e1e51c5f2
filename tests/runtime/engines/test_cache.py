"""What OpenVINO compiled: kept, checked before it is used, and made again where it is damaged."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from patchct_edge.runtime.engines import cache
from patchct_edge.runtime.engines.openvino import OpenVINOEngine

pytest.importorskip("openvino")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def model(write_graph, tmp_path):
    return write_graph(tmp_path / "tiny.onnx")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "patchct-edge" / "openvino"


def scores(model, **options):
    with OpenVINOEngine(model, "fp32", **options) as engine:
        return engine.infer(IMAGES).logits


def blobs(folder):
    return sorted(folder.glob("*/*.blob"))


def test_what_was_compiled_is_used_again(model, folder):
    expected = scores(model)
    (blob,) = blobs(folder)
    written = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(scores(model), expected)
    assert [path.stat().st_mtime_ns for path in blobs(folder)] == [written]
    scores(model, similarity=True)
    assert len(blobs(folder)) == 2
    assert len(list(folder.iterdir())) == 1


def test_every_graph_has_its_own(write_graph, model, folder, tmp_path):
    other = write_graph(tmp_path / "other.onnx", 2 * np.eye(3))
    expected = [scores(model), scores(other)]
    assert len(list(folder.iterdir())) == 2
    for each, first in zip((model, other), expected, strict=True):
        np.testing.assert_array_equal(scores(each), first)


@pytest.mark.parametrize(
    "damage", ["a bit", "cut", "empty", "no seal", "broken seal", "other seal"]
)
def test_what_is_damaged_is_compiled_anew(model, folder, damage):
    expected = scores(model)
    (blob,) = blobs(folder)
    blob.chmod(0o644)
    whole = blob.read_bytes()
    middle = len(whole) // 2
    if "seal" in damage:
        texts = {"no seal": b"", "broken seal": b"{", "other seal": b"[7]"}
        (blob.parent / cache.SEAL).write_bytes(texts[damage])
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        blob.write_bytes({"a bit": flipped, "cut": whole[:middle], "empty": b""}[damage])
    before = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(scores(model), expected)
    assert blob.stat().st_size == len(whole)
    assert (written := blob.stat().st_mtime_ns) != before
    scores(model)
    assert blob.stat().st_mtime_ns == written


def test_graphs_that_were_used_long_ago_are_forgotten(write_graph, model, folder, tmp_path):
    scores(model)
    (mine,) = folder.iterdir()
    for n in range(cache.GRAPHS - 1):
        scores(write_graph(tmp_path / f"{n}.onnx", (n + 2) * np.eye(3)))
        scores(model)
    assert len(list(folder.iterdir())) == cache.GRAPHS
    scores(write_graph(tmp_path / "last.onnx", 99 * np.eye(3)))
    assert len(list(folder.iterdir())) == cache.GRAPHS
    assert mine.exists()


@pytest.mark.parametrize("home", ["a file", "none"])
def test_without_a_folder_it_runs_all_the_same(request, model, tmp_path, monkeypatch, folder, home):
    expected = scores(model)
    if home == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        request.getfixturevalue("no_home")
    with cache.compile_cache(model) as found:
        assert found is None
    np.testing.assert_array_equal(scores(model), expected)


def test_processes_that_start_at_once_do_not_disturb_each_other(model, folder):
    """What one compiles is unsealed, and would be damaged in the eyes of another."""
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from patchct_edge.runtime.engines.openvino import OpenVINOEngine;"
        "images = np.full((1, 8, 8, 3), 255, np.uint8);"
        "print(OpenVINOEngine(Path(sys.argv[1]), 'fp32').infer(images).logits.round().tolist())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, model], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {process.communicate(timeout=120)[0] for process in running} == {"[[4.0, 4.0, 4.0]]\n"}
    assert len(blobs(folder)) == 1
