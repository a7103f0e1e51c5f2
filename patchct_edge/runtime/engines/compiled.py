"""The compiled engines of a bundle: how they are stored, and whether they fit this machine.

engines/NAME.plan    the engine as its library serialized it
engines/NAME.json    its record
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from patchct_edge.bundle import Bundle
from patchct_edge.errors import BundleError
from patchct_edge.runtime.engines.trust import is_trusted_hash, trust_hash

ENGINES_FOLDER = "engines"
TENSORRT = "tensorrt"
ANY = "any"  # device or compute capability: the library finishes the engine on the GPU that runs it


@dataclass(frozen=True)
class CompiledEngine:
    """The record of a compiled engine: what it was compiled from, with what, and for what."""

    name: str  # of its files, without suffix
    engine: str  # such as tensorrt
    precision: str
    compute_precision: str
    library: str  # name and version
    device: str
    compute_capability: str
    driver: str  # the newest CUDA version that the driver supports; "" without a driver
    batches: tuple[int, int, int]  # smallest, usual, largest number of images
    similarity: bool
    build_seconds: float
    model: str  # fingerprint
    graph: str  # sha256 of the ONNX file

    def describe_mismatch(
        self, bundle: Bundle, library: str, device: str, compute_capability: str
    ) -> str | None:
        """Return why this engine cannot run a bundle on this machine, or None if it can."""
        checks = (
            ("model", self.model, bundle.manifest.fingerprint),
            ("library", self.library, library),
            ("GPU", self.device, device),
            ("compute capability", self.compute_capability, compute_capability),
        )
        for subject, compiled_for, current in checks:
            if compiled_for not in (current, ANY):
                return f"compiled for {subject} {compiled_for}, here it is {current}"
        return None


def has_compiled(bundle: Bundle) -> bool:
    """Return whether a bundle holds any compiled engine."""
    return any(name.startswith(f"{ENGINES_FOLDER}/") for name in bundle.manifest.files)


def read_compiled(bundle: Bundle, engine: str) -> list[CompiledEngine]:
    """Return the records of the engines of one library, such as tensorrt, sorted by file name.

    Raises:
        BundleError: a record was altered or cannot be read.
    """
    names = sorted(name for name in bundle.manifest.files if name.startswith(f"{ENGINES_FOLDER}/"))
    records = [_read_record(bundle, name) for name in names if name.endswith(".json")]
    return [record for record in records if record.engine == engine]


def _read_record(bundle: Bundle, name: str) -> CompiledEngine:
    bundle.verify(name)
    try:
        values: Mapping[str, Any] = json.loads((bundle.path / name).read_bytes())
        record = CompiledEngine(**{f.name: values[f.name] for f in fields(CompiledEngine)})
        smallest, usual, largest = (int(batch) for batch in record.batches)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{bundle.path / name} cannot be read",
            got=repr(error),
            fix=f"compile it again: patchct compile {bundle.path} --engine tensorrt",
        ) from None
    return CompiledEngine(**{**asdict(record), "batches": (smallest, usual, largest)})


def add_compiled(bundle: Bundle, record: CompiledEngine, plan: bytes) -> Bundle:
    """Add an engine to its bundle and trust it; return the changed bundle."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    base = f"{ENGINES_FOLDER}/{record.name}"
    changed = bundle.add_files({f"{base}.plan": plan, f"{base}.json": text.encode()})
    trust_hash(changed.manifest.files[f"{base}.plan"])
    return changed


def read_plan(bundle: Bundle, record: CompiledEngine) -> bytes:
    """Return the serialized engine after checking its hash.

    Raises:
        BundleError: the file is missing or was altered.
    """
    name = f"{ENGINES_FOLDER}/{record.name}.plan"
    bundle.verify(name)
    return (bundle.path / name).read_bytes()


def is_trusted(bundle: Bundle, record: CompiledEngine) -> bool:
    """Return whether this user compiled the engine on this machine."""
    return is_trusted_hash(bundle.manifest.files.get(f"{ENGINES_FOLDER}/{record.name}.plan"))
