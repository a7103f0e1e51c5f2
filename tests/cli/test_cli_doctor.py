"""patchct doctor: what is installed, and the pip line for what is not."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import pytest

from patchct_edge.cli import doctor


def test_as_json(run_cli):
    found = json.loads(run_cli("doctor", "--json").stdout)
    assert found["python"] == platform.python_version()
    assert found["cpu"]
    for name, version in found["libraries"].items():
        assert version == metadata.version(name)


def test_for_a_person(run_cli):
    said = run_cli("doctor").stdout
    assert f"python  {platform.python_version()}" in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    for name, *_ in doctor.LIBRARIES:
        assert rows[name][1] == metadata.version(name)
    assert "pip install" not in said


@pytest.mark.parametrize(("name", "purpose", "extra"), doctor.LIBRARIES)
def test_what_is_missing_can_be_installed(run_cli, monkeypatch, name, purpose, extra):
    def version(asked):
        if asked == name:
            raise metadata.PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    (row,) = (line for line in run_cli("doctor").stdout.splitlines() if "missing" in line)
    package = f"'patchct-edge[{extra}]'" if extra else "patchct-edge"
    assert row.split() == [name, "missing", *purpose.split(), "pip", "install", package]
    assert json.loads(run_cli("doctor", "--json").stdout)["libraries"][name] is None


def test_the_extras_that_it_names_exist():
    extras = {extra for *_, extra in doctor.LIBRARIES if extra}
    assert extras <= set(metadata.metadata("patchct-edge").get_all("Provides-Extra"))
