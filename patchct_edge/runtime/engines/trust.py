"""The compiled engines that this user trusts: the hashes of those compiled on this machine.

    $XDG_STATE_HOME/patchct-edge/trusted-engines.json    a list of sha256

An engine is code that its library runs, so one from elsewhere runs only if the user asks for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from patchct_edge.files import state_folder, write_atomically


def is_trusted_hash(sha256: str | None) -> bool:
    """Return whether an engine with this hash was compiled here; None is never trusted."""
    return sha256 in _read_hashes()


def trust_hash(sha256: str) -> None:
    """Remember the hash of an engine that was compiled here."""
    path = _hashes_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashes = sorted(_read_hashes() | {sha256})
    write_atomically(path, json.dumps(hashes, indent=1).encode())


def _read_hashes() -> set[str]:
    """Return the trusted hashes; none if the list is missing or damaged."""
    try:
        hashes = json.loads(_hashes_path().read_bytes())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: the user has no home folder
        return set()
    return {text for text in hashes if isinstance(text, str)} if isinstance(hashes, list) else set()


def _hashes_path() -> Path:
    return state_folder() / "trusted-engines.json"
