"""Every TensorRT name that the code uses exists from version 10.3 to 11.4.

`tensorrt_api.json` holds the public names of the classes in question, by version.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import patchct_edge

CODE = Path(patchct_edge.__file__).parent / "runtime" / "engines" / "tensorrt"
API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
# The class of each variable in the code.
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
PYTHON_NAMES = {"__name__", "__version__", "__init__", "log"}


def find_names():
    """Return the (class, name) pairs that the code uses."""
    pairs = set()
    for path in set(CODE.glob("*.py")) - {CODE / "memory.py"}:  # which uses CUDA alone
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                holder = getattr(owner, "attr", getattr(owner, "id", None))
                if holder in CLASSES and node.attr not in PYTHON_NAMES:
                    pairs.add((CLASSES[holder], node.attr))
    return pairs


def test_the_search_finds_known_names():
    pairs = find_names()
    for pair in (
        ("Builder", "build_serialized_network"),
        ("IExecutionContext", "execute_async_v3"),
        ("module", "Runtime"),
        ("IBuilderConfig", "progress_monitor"),
        ("ICudaEngine", "get_tensor_profile_shape"),
        ("MemoryPoolType", "WORKSPACE"),
    ):
        assert pair in pairs
    assert len(pairs) > 25


@pytest.mark.parametrize("version", API)
def test_every_name_exists_in_every_version(version):
    assert [pair for pair in sorted(find_names()) if pair[1] not in API[version][pair[0]]] == []


def test_the_lists_show_a_removed_name():
    assert "platform_has_fast_fp16" in API["10.3.0"]["Builder"]
    assert "platform_has_fast_fp16" not in API["11.4.0.106"]["Builder"]
