"""patchct doctor: the libraries that are installed, and the pip line for the others."""

from __future__ import annotations

import ast
import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

import patchct_edge
from patchct_edge.cli import doctor
from patchct_edge.profiling import machine

OPTIONAL = {"tensorrt", "pycuda"}  # the tests run without them


def test_doctor_as_json(run_cli):
    report = json.loads(run_cli("doctor", "--json").stdout)
    assert report["python"] == platform.python_version()
    assert report["cpu"]
    for name, version in report["libraries"].items():
        if name not in OPTIONAL:
            assert version == metadata.version(name)


def test_doctor_as_text(run_cli):
    stdout = run_cli("doctor").stdout
    assert f"python  {platform.python_version()}" in stdout
    rows = {line.split()[0]: line.split() for line in stdout.splitlines() if line.strip()}
    for name, *_ in doctor.LIBRARIES:
        assert rows[name][1] == metadata.version(name)
    assert "gpu     " in stdout
    missing = {line.split()[0] for line in stdout.splitlines() if " missing " in line}
    assert missing <= OPTIONAL


@pytest.mark.parametrize(("name", "module", "purpose", "extra"), doctor.LIBRARIES)
def test_a_missing_library_has_its_pip_command(run_cli, monkeypatch, name, module, purpose, extra):
    assert name in map(str.lower, metadata.packages_distributions()[module])

    def version(package):
        if package == name:
            raise metadata.PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    (row,) = (line for line in run_cli("doctor").stdout.splitlines() if " missing " in line)
    *words, package = row.split()
    assert words == [name, "missing", *purpose.split(), "pip", "install"]
    assert re.fullmatch(rf"'{name}(>=[\d.]+)?'", package)
    assert json.loads(run_cli("doctor", "--json").stdout)["libraries"][name] is None


def test_the_extras_of_the_libraries_exist():
    extras = {extra for *_, extra in (*doctor.LIBRARIES, *doctor.GPU_LIBRARIES) if extra}
    provided = metadata.metadata("patchct-edge").get_all("Provides-Extra")
    assert provided is not None
    assert extras <= set(provided)


def test_doctor_knows_every_library_that_the_package_imports():
    modules = set()
    for path in Path(patchct_edge.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                modules.add(node.module.partition(".")[0])
    libraries = {library.module for library in (*doctor.LIBRARIES, *doctor.GPU_LIBRARIES)}
    assert modules - sys.stdlib_module_names - core_modules() - {"patchct_edge"} <= libraries


def core_modules():
    """Return the modules of the packages that every installation has, and of what these need."""
    lines = metadata.requires("patchct-edge")
    assert lines is not None
    requirements = [line for line in lines if "extra ==" not in line]
    packages = {re.findall(r"^[\w.-]+", line)[0].lower() for line in requirements}
    by_module = metadata.packages_distributions()
    modules = {module for module, names in by_module.items() if packages & {*map(str.lower, names)}}
    return modules | {"pydantic_core", "annotated_types", "tomli"}


@pytest.mark.parametrize("tool", ["NV Power Mode: MAXN", None])
def test_a_jetson_is_described(run_cli, monkeypatch, tmp_path, tool):
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3,  GCID: 38968081, BOARD: generic\n")
    monkeypatch.setattr(machine, "JETSON_RELEASE", release)
    monkeypatch.setenv("PATH", str(tmp_path))
    if tool:
        (tmp_path / "nvpmodel").write_text(f"#!/bin/sh\necho '{tool}'\necho 0\n")
        (tmp_path / "nvpmodel").chmod(0o755)
    stdout = run_cli("doctor").stdout
    mode = tool or "power mode unknown"
    assert f"jetson  R36 (release), REVISION: 4.3; {mode}" in stdout
    (row,) = (line for line in stdout.splitlines() if line.split()[:1] == ["tensorrt"])
    assert "missing" not in row or "apt install" in row
