"""The Python API: what `patchct_edge` offers, imported on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import patchct_edge


@pytest.mark.parametrize("name", patchct_edge.__all__)
def test_every_public_name_can_be_imported(name):
    if name in ("train_model", "export_bundle"):
        pytest.importorskip("torch")
    if name == "export_bundle":
        pytest.importorskip("onnx")
    assert getattr(patchct_edge, name) is not None
    assert name in dir(patchct_edge)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'tagger_of'"):
        _ = patchct_edge.tagger_of


def test_the_package_alone_imports_no_library():
    code = "import sys, patchct_edge; print('numpy' in sys.modules or 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
