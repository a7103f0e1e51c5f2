"""The site builds without a warning, and no page loads anything from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a browser loads by itself; links that a person follows may lead anywhere.
LOADED = re.compile(
    r'<(?:script|img|iframe|link\b(?=[^>]*rel="(?:stylesheet|preload|preconnect|icon)"))'
    r'[^>]*(?:src|href)="(https?:)?//[^"]*"'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a broken link, an unknown anchor or any other warning is an error."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    completed = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert completed.returncode == 0, completed.stderr
    return folder


def test_every_command_and_setting_is_documented(site: Path) -> None:
    from patchct_edge.cli.app import COMMANDS
    from patchct_edge.runtime.stream import settings as stream
    from patchct_edge.train import config as train

    cli_page = (site / "reference/cli/index.html").read_text("utf-8")
    assert [name for name in COMMANDS if f">patchct {name}" not in cli_page] == []
    settings_page = (site / "reference/settings/index.html").read_text("utf-8")
    names = [row.name for row in train.list_settings()]
    names += [row.name for row in stream.list_settings()]
    assert [name for name in names if f">{name}</td>" not in settings_page] == []


def test_the_committed_reference_pages_agree_with_the_code() -> None:
    specification = importlib.util.spec_from_file_location(
        "write_reference", ROOT / "scripts" / "write_reference.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name, text in module.make_pages().items():
        committed = (ROOT / "docs" / "reference" / name).read_text("utf-8")
        assert committed == text, f"{name} is out of date: run make docs"


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    styles = [path for path in site.rglob("*.css") if "@import" in path.read_text("utf-8")]
    assert styles == []
    assert [page.name for page in pages if LOADED.search(page.read_text("utf-8"))] == []


def test_formulas_are_mathml(site: Path) -> None:
    page = (site / "explanation/model/index.html").read_text("utf-8")
    assert page.count("<math") >= 9
    assert "arithmatex" not in page
