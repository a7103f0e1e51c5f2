"""The wheel: built from the sources, installed into a fresh environment, and used from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import patchct_edge

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with what it needs at least into a new virtual environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    constraints = ROOT / "constraints.txt"
    command = ["pip", "install", "--quiet", "-c", str(constraints), str(wheel)]
    subprocess.run([str(folder / "bin/python"), "-m", *command], check=True)
    return folder


def test_the_wheel_holds_the_templates_and_the_type_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "patchct_edge/py.typed" in names
    templates = {name for name in names if "/templates/" in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "patchct_edge").rglob("templates/*")
        if path.is_file()
    }
    assert templates == sources
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]


def test_the_installed_command_tags_a_photo(
    environment: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Without any extra: the command starts, opens a bundle and runs OpenVINO."""
    from PIL import Image

    Image.new("RGB", (16, 16), (250, 20, 20)).save(tmp_path / "red.png")
    patchct = str(environment / "bin/patchct")
    # Nothing of the checkout is on the path.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> str:
        command = [patchct, *words]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=variables
        ).stdout

    assert run("--version").split() == ["patchct", patchct_edge.__version__]
    row = json.loads(run("tag", "red.png", "--model", str(tiny_bundle), "--engine", "openvino"))
    assert [tag["label"] for tag in row["tags"]] == ["red"]


def test_a_missing_library_is_named_with_its_install_line(
    environment: Path, tiny_bundle: Path
) -> None:
    """Without the extra for streams, the hint names the third-party package and its range."""
    command = ["stream", "camera.mp4", "--model", str(tiny_bundle)]
    Path(environment / "camera.mp4").touch()
    completed = subprocess.run(
        [str(environment / "bin/patchct"), *command],
        capture_output=True,
        text=True,
        cwd=environment,
        check=False,
    )
    assert completed.returncode == 3, completed.stderr
    assert "pip install" in completed.stderr
    assert "'av>=14'" in completed.stderr
    assert "patchct-edge[" not in completed.stderr
