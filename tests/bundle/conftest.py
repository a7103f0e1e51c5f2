"""A bundle whose files are a few bytes."""

from __future__ import annotations

import pytest
from manifests import FP32_GRAPH, make_manifest

from patchct_edge.bundle.write import create_bundle, write_manifest


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose graphs are only bytes: no test here runs them."""
    with create_bundle(tmp_path / "x.patchct") as folder:
        (folder / "model.fp32.onnx").write_bytes(FP32_GRAPH)
        (folder / "model.int8.onnx").write_bytes(b"small")
        (folder / "engines").mkdir()
        (folder / "engines" / "trt.plan").write_bytes(b"compiled")
        write_manifest(folder, make_manifest())
    return tmp_path / "x.patchct"
