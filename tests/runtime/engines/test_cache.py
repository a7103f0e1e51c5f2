"""The cache of compiled graphs: reused, checked before use, and compiled again if damaged."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from patchct_edge.files import sha256
from patchct_edge.runtime.engines import cache
from patchct_edge.runtime.engines.openvino import OpenVINOEngine

pytest.importorskip("openvino")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def graph(write_graph, tmp_path):
    return write_graph(tmp_path / "tiny.onnx")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "patchct-edge" / "openvino"


def compute_logits(graph, **options):
    with OpenVINOEngine(graph, "fp32", **options) as engine:
        return engine.infer(IMAGES).logits


def find_blobs(folder):
    return sorted(folder.glob("*/*.blob"))


def test_a_compiled_graph_is_used_again(graph, folder):
    expected = compute_logits(graph)
    (blob,) = find_blobs(folder)
    time_ns = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(compute_logits(graph), expected)
    assert [path.stat().st_mtime_ns for path in find_blobs(folder)] == [time_ns]
    compute_logits(graph, similarity=True)
    assert len(find_blobs(folder)) == 2
    assert len(list(folder.iterdir())) == 1


def test_every_graph_has_its_own_folder(write_graph, graph, folder, tmp_path):
    other = write_graph(tmp_path / "other.onnx", 2 * np.eye(3))
    expected = [compute_logits(graph), compute_logits(other)]
    assert len(list(folder.iterdir())) == 2
    for path, logits in zip((graph, other), expected, strict=True):
        np.testing.assert_array_equal(compute_logits(path), logits)


@pytest.mark.parametrize(
    "damage", ["flipped bit", "cut", "empty", "no hashes", "broken hashes", "other hashes"]
)
def test_a_damaged_file_is_compiled_again(graph, folder, damage):
    expected = compute_logits(graph)
    (blob,) = find_blobs(folder)
    blob.chmod(0o644)
    data = blob.read_bytes()
    middle = len(data) // 2
    if "hashes" in damage:
        texts = {"no hashes": b"", "broken hashes": b"{", "other hashes": b"[7]"}
        (blob.parent / cache.HASHES_NAME).write_bytes(texts[damage])
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        blob.write_bytes({"flipped bit": flipped, "cut": data[:middle], "empty": b""}[damage])
    damage_time_ns = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(compute_logits(graph), expected)
    # OpenVINO's compiled file is not the same to the byte each time.
    assert abs(blob.stat().st_size - len(data)) < 64
    hashes = json.loads((blob.parent / cache.HASHES_NAME).read_bytes())
    assert hashes == {blob.name: sha256(blob)}
    assert (compile_time_ns := blob.stat().st_mtime_ns) != damage_time_ns
    compute_logits(graph)
    assert blob.stat().st_mtime_ns == compile_time_ns


def test_the_graphs_used_longest_ago_are_deleted(write_graph, graph, folder, tmp_path):
    compute_logits(graph)
    (graph_folder,) = folder.iterdir()
    for n in range(cache.MAX_GRAPHS - 1):
        compute_logits(write_graph(tmp_path / f"{n}.onnx", (n + 2) * np.eye(3)))
        compute_logits(graph)
    assert len(list(folder.iterdir())) == cache.MAX_GRAPHS
    compute_logits(write_graph(tmp_path / "last.onnx", 99 * np.eye(3)))
    assert len(list(folder.iterdir())) == cache.MAX_GRAPHS
    assert graph_folder.exists()


@pytest.mark.parametrize("home", ["a file", "none"])
def test_the_engine_runs_without_a_cache_folder(
    request, graph, tmp_path, monkeypatch, folder, home
):
    expected = compute_logits(graph)
    if home == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        request.getfixturevalue("no_home")
    with cache.compile_cache(graph) as cache_folder:
        assert cache_folder is None
    np.testing.assert_array_equal(compute_logits(graph), expected)


def test_processes_that_start_together_share_the_cache(graph, folder):
    """The file that one is writing has no hash yet, so it looks damaged to the others."""
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from patchct_edge.runtime.engines.openvino import OpenVINOEngine;"
        "images = np.full((1, 8, 8, 3), 255, np.uint8);"
        "print(OpenVINOEngine(Path(sys.argv[1]), 'fp32').infer(images).logits.round().tolist())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, graph], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {process.communicate(timeout=120)[0] for process in processes} == {"[[4.0, 4.0, 4.0]]\n"}
    assert len(find_blobs(folder)) == 1
