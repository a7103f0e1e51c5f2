"""The check of names: what it refuses, and that the project itself passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "vocabulary.py"


def check(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Run the check on files or folders, on the whole project by default."""
    command = [sys.executable, str(SCRIPT), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("found = 1", "'found' could mean anything"),
        ("for each in (): pass", "'each' could mean anything"),
        ("squares = [said for said in ()]", "'said' could mean anything"),
        ("def read(given): pass", "'given' could mean anything"),
        ("box.told = 1", "'told' could mean anything"),
        ("f = lambda _found: 0", "'_found' could mean anything"),
        ("import os as found", "'found' could mean anything"),
        ("class Judged: pass", "'Judged' is now 'Predictions'"),
        ("run(left_out=1)", "'left_out' is now 'skipped'"),
        ("def measured(): pass", "'measured' is a participle"),
        ("async def _drawn(): pass", "'_drawn' is a participle"),
        ("def fitted_as(): pass", "'fitted_as' is a participle"),
        ("def pointing(): pass", "'pointing' is a participle"),
        ("x = [  # fmt" + ": skip\n]", "remove the directive"),
    ],
)
def test_a_name_that_must_not_come_back_is_refused(tmp_path: Path, code: str, finding: str) -> None:
    path = tmp_path / "code.py"
    path.write_text(code + "\n")
    completed = check(path)
    assert completed.returncode == 1
    assert completed.stdout.startswith(f"{path}:1: ")
    assert finding in completed.stdout


def test_a_module_that_was_renamed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heat.py"
    path.write_text("labels = 1\n")
    assert f"{path}:1: the module 'heat.py' is now 'overlay.py'" in check(path).stdout


@pytest.mark.parametrize(
    "code",
    [
        "labels = 1",
        "def training_step(): pass",
        "def seed(): pass",
        "def feed_frames(): pass",
        "@property\ndef finished(self): pass",
        "@pytest.fixture\ndef exported(self): pass",
        "@functools.cached_property\ndef closed(self): pass",
        "text = 'nothing was found'",
        "print(recipe.found)",
    ],
)
def test_other_names_pass(tmp_path: Path, code: str) -> None:
    path = tmp_path / "code.py"
    path.write_text(code + "\n")
    assert check(path).returncode == 0


def test_the_project_passes() -> None:
    completed = check()
    assert completed.stdout == ""
    assert completed.returncode == 0
