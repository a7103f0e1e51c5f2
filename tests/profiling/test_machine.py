"""The description of the machine; a Jetson's files and its program are faked."""

from __future__ import annotations

import os
import platform
import re

import pytest

from patchct_edge.profiling import machine as machine_module

RELEASE = "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n"
NVPMODEL = "#!/bin/sh\necho 'NV Power Mode: 15W'\necho 2\n"


@pytest.fixture
def set_up_jetson(tmp_path, monkeypatch):
    """Put the release file in place and, unless it is None, the program `nvpmodel`."""

    def set_up(program):
        release = tmp_path / "nv_tegra_release"
        release.write_text(RELEASE)
        monkeypatch.setattr(machine_module, "JETSON_RELEASE", release)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
        if program is not None:
            (tmp_path / "nvpmodel").write_text(program)
            (tmp_path / "nvpmodel").chmod(0o755)

    return set_up


def test_system_cores_and_versions_are_named():
    machine = machine_module.describe_machine()
    assert platform.machine() in machine["system"]
    assert re.search(r", [1-9]\d* cores$", machine["CPU"])
    assert re.fullmatch(r"\d+\.\d GiB", machine["memory"])
    assert f"python {platform.python_version()}" in machine["versions"]
    assert all(machine.values())


def test_no_jetson_is_named_on_other_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_module, "JETSON_RELEASE", tmp_path / "none")
    assert machine_module.describe_jetson() == {}


def test_a_jetson_names_its_release_and_power_mode(set_up_jetson):
    set_up_jetson(NVPMODEL)
    assert machine_module.describe_jetson() == {
        "jetson": "R36 (release), REVISION: 4.0; NV Power Mode: 15W"
    }


@pytest.mark.parametrize("program", [None, "#!/bin/sh\nexit 1\n"])
def test_without_nvpmodel_the_power_mode_is_unknown(set_up_jetson, program):
    set_up_jetson(program)
    assert machine_module.describe_jetson()["jetson"].endswith("REVISION: 4.0; power mode unknown")


def test_clocks_are_read_from_the_first_core(tmp_path, monkeypatch):
    for name, text in (("min_freq", "408000\n"), ("max_freq", "1984000\n"), ("governor", "x\n")):
        (tmp_path / f"scaling_{name}").write_text(text)
    monkeypatch.setattr(machine_module, "CPU_CLOCKS", tmp_path)
    assert machine_module.describe_machine()["clocks"] == "408 to 1984 MHz, governor x"


def test_missing_clocks_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_module, "CPU_CLOCKS", tmp_path)
    assert machine_module.describe_machine()["clocks"] == "unknown"
