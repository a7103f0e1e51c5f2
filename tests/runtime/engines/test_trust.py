"""The list of trusted engines: what it holds, and what happens if it is damaged or missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchct_edge.runtime.engines.trust import is_trusted_hash, trust_hash


@pytest.fixture(autouse=True)
def trust_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of trusted engines, in a temporary folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "patchct-edge" / "trusted-engines.json"


def test_only_listed_hashes_are_trusted(trust_file: Path) -> None:
    assert not is_trusted_hash("b" * 64)
    for digit in "ba":
        trust_hash(digit * 64)
    trust_hash("a" * 64)
    assert is_trusted_hash("a" * 64)
    assert is_trusted_hash("b" * 64)
    assert not is_trusted_hash("c" * 64)
    assert not is_trusted_hash(None)
    assert json.loads(trust_file.read_text()) == ["a" * 64, "b" * 64]


def test_only_the_user_can_enter_the_folder(trust_file: Path) -> None:
    trust_hash("a" * 64)
    assert trust_file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "7", '{"a": 1}', "[7, null]", b"\xff"])
def test_a_damaged_list_trusts_nothing_and_is_replaced(trust_file: Path, text: str | bytes) -> None:
    trust_file.parent.mkdir(parents=True)
    trust_file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert not is_trusted_hash("a" * 64)
    assert not is_trusted_hash(None)
    trust_hash("a" * 64)
    assert is_trusted_hash("a" * 64)
