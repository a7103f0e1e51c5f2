"""Every name of TensorRT that the code uses is there from 10.3 to 11.4.

`tensorrt_api.json` holds the public names of the classes in question, per version.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import patchct_edge

CODE = Path(patchct_edge.__file__).parent / "runtime" / "engines" / "tensorrt"
API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
# What the variables of the code hold.
CLASSES = {
    "trt": "module",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "profile": "IOptimizationProfile",
    "ILogger": "ILogger",
    "MemoryPoolType": "MemoryPoolType",
    "NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
}
PYTHON = {"__name__", "__version__", "__init__", "log"}


def used():
    """Return the (class, name) pairs that the code reads."""
    found = set()
    for path in set(CODE.glob("*.py")) - {CODE / "memory.py"}:  # that one is CUDA
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                holder = getattr(owner, "attr", getattr(owner, "id", None))
                if holder in CLASSES and node.attr not in PYTHON:
                    found.add((CLASSES[holder], node.attr))
    return found


def test_the_names_are_found_at_all():
    found = used()
    for pair in (
        ("Builder", "build_serialized_network"),
        ("IExecutionContext", "execute_async_v3"),
        ("module", "Runtime"),
        ("IBuilderConfig", "progress_monitor"),
        ("ICudaEngine", "get_tensor_profile_shape"),
        ("MemoryPoolType", "WORKSPACE"),
    ):
        assert pair in found
    assert len(found) > 25


@pytest.mark.parametrize("version", API)
def test_every_name_is_in_every_version(version):
    assert [pair for pair in sorted(used()) if pair[1] not in API[version][pair[0]]] == []


def test_a_name_that_was_removed_would_be_noticed():
    assert "platform_has_fast_fp16" in API["10.3.0"]["Builder"]
    assert "platform_has_fast_fp16" not in API["11.4.0.106"]["Builder"]
