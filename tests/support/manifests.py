"""A manifest for tests of bundles, and edits of its file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from patchct_edge.bundle import Manifest, Preprocessing
from patchct_edge.bundle.manifest import Stage, compute_fingerprint

FP32_GRAPH = b"exact"


STAGE = Stage("int8", "fp32", "openvino", 9, 0.1, 0.01, 0.02, gate="flips <= 3 %", passed=False)


def make_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "labels": ("cat", "Hund 🐕"),
        "prompts": ("A cat.", "Ein Hund."),
        "tau": 0.07,
        "label_encoder": "learned",
        "preprocessing": Preprocessing(8, fit="pad", std=(0.2, 0.3, 0.4)),
        "grid": (2, 3),
        "producer": "tests",
        "quantization_data": "c",
        "stages": (STAGE, Stage("fp32", "graph", "openvino", 9, 0, 0, 0, map=0.9)),
    }
    values |= changes
    model = compute_fingerprint(
        hashlib.sha256(FP32_GRAPH).hexdigest(),
        *(values[name] for name in ("labels", "preprocessing", "tau", "grid")),
    )
    return Manifest(**{"fingerprint": model, **values})


def edit_manifest(bundle: Path, **changes: Any) -> Path:
    """Change fields of the manifest's JSON; None removes a field."""
    fields = {**json.loads((bundle / "manifest.json").read_text()), **changes}
    fields = {name: value for name, value in fields.items() if value is not None}
    (bundle / "manifest.json").write_text(json.dumps(fields))
    return bundle
