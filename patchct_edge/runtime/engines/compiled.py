"""The compiled engines of a bundle: their records, whether they fit, and whether they are trusted.

    engines/NAME.plan    the engine, as its library serialised it
    engines/NAME.json    its record

An engine is code that its library runs. The hashes of those compiled here stand in the user's state
folder; any other one runs only when asked for knowingly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from patchct_edge.bundle import Bundle
from patchct_edge.errors import BundleError
from patchct_edge.files import user_folder, write_atomically

FOLDER = "engines"
TENSORRT = "tensorrt"
ANY = "any"  # device or compute capability: the library finishes the engine where it runs


@dataclass(frozen=True)
class CompiledEngine:
    """What a compiled engine was made with, from and for."""

    name: str  # of its files
    engine: str  # such as tensorrt
    precision: str
    compute_precision: str
    library: str  # name and version
    device: str
    compute_capability: str
    driver: str  # the CUDA version that the driver serves, "" where there was none
    batches: tuple[int, int, int]  # smallest, most usual, largest
    similarity: bool
    build_seconds: float
    model: str  # fingerprint
    graph: str  # sha256 of the ONNX file

    def describe_mismatch(
        self, bundle: Bundle, library: str, device: str, capability: str
    ) -> str | None:
        """Return why this engine cannot run here, or None."""
        checks = (
            ("model", self.model, bundle.manifest.fingerprint),
            ("library", self.library, library),
            ("GPU", self.device, device),
            ("compute capability", self.compute_capability, capability),
        )
        for what, mine, here in checks:
            if mine not in (here, ANY):
                return f"compiled for {what} {mine}, here it is {here}"
        return None


def has_compiled(bundle: Bundle) -> bool:
    """Whether there is any compiled engine in a bundle."""
    return any(name.startswith(f"{FOLDER}/") for name in bundle.manifest.files)


def read_compiled(bundle: Bundle, engine: str) -> list[CompiledEngine]:
    """Return the records of the engines of one kind, in the order of their names.

    Raises:
        BundleError: a record was altered or cannot be read.
    """
    names = sorted(n for n in bundle.manifest.files if n.startswith(f"{FOLDER}/"))
    found = [_read(bundle, name) for name in names if name.endswith(".json")]
    return [each for each in found if each.engine == engine]


def _read(bundle: Bundle, name: str) -> CompiledEngine:
    bundle.verify(name)
    try:
        values: Mapping[str, Any] = json.loads((bundle.path / name).read_bytes())
        record = CompiledEngine(**{f.name: values[f.name] for f in fields(CompiledEngine)})
        least, usual, most = (int(batch) for batch in record.batches)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{bundle.path / name} cannot be read", got=repr(error), fix="patchct compile it again"
        ) from None
    return CompiledEngine(**{**asdict(record), "batches": (least, usual, most)})


def add_compiled(bundle: Bundle, record: CompiledEngine, plan: bytes) -> Bundle:
    """Put an engine into its bundle and trust it; return the bundle as it is now."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    base = f"{FOLDER}/{record.name}"
    changed = bundle.add_files({f"{base}.plan": plan, f"{base}.json": text.encode()})
    trust(changed.manifest.files[f"{base}.plan"])
    return changed


def read_plan(bundle: Bundle, record: CompiledEngine) -> bytes:
    """Return the verified engine itself."""
    name = f"{FOLDER}/{record.name}.plan"
    bundle.verify(name)
    return (bundle.path / name).read_bytes()


def is_trusted(bundle: Bundle, record: CompiledEngine) -> bool:
    """Whether this user compiled the engine on this machine."""
    return bundle.manifest.files.get(f"{FOLDER}/{record.name}.plan") in _trusted()


def trust(digest: str) -> None:
    """Remember the sha256 of an engine that was compiled here."""
    path = _state_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, json.dumps(sorted({*_trusted(), digest}), indent=1).encode())


def _trusted() -> set[str]:
    try:
        found = json.loads(_state_file().read_bytes())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home is known
        return set()
    return {each for each in found if isinstance(each, str)} if isinstance(found, list) else set()


def _state_file() -> Path:
    return user_folder("state") / "trusted-engines.json"
