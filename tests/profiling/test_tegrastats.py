"""Temperature and power from lines as JetPack 5 and 6 print them; the program is faked."""

from __future__ import annotations

import os
import time

import pytest

from patchct_edge.profiling.tegrastats import (
    DeviceStats,
    Power,
    parse_tegrastats,
    record_device_stats,
)

ORIN_NX_5 = """\
11-26-2025 10:10:10 RAM 2448/15523MB (lfb 5x4MB) SWAP 0/7762MB (cached 0MB) CPU [1%@729,0%@729,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] APE 174 CPU@45.5C SOC2@44.1C CV0@-256C GPU@44.2C tj@47C VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 800mW/800mW VDD_SOC 1500mW/1500mW
11-26-2025 10:10:11 RAM 2449/15523MB (lfb 5x4MB) SWAP 0/7762MB (cached 0MB) CPU [99%@1984,3%@729,off,off] EMC_FREQ 2%@2133 GR3D_FREQ 98%@[918] APE 174 CPU@48.5C SOC2@44.1C CV0@-256C GPU@50.25C tj@50.25C VDD_IN 12000mW/8500mW VDD_CPU_GPU_CV 6800mW/3800mW VDD_SOC 2500mW/2000mW
"""  # noqa: E501
AGX_ORIN_6 = """\
11-26-2025 10:10:10 RAM 3478/62841MB (lfb 3x4MB) SWAP 0/31421MB (cached 0MB) CPU [0%@729,0%@729,off,off] GR3D_FREQ 0% cpu@46.5C tboard@36.5C soc2@42.7C tdiode@36.875C tj@46.5C VDD_GPU_SOC 2400mW/2400mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 3030mW/3030mW
"""  # noqa: E501


@pytest.fixture
def install_program(tmp_path, monkeypatch):
    """Put a program `tegrastats` on the PATH that prints lines and then waits."""

    def install(lines):
        (tmp_path / "lines").write_text(lines)
        script = f"#!/bin/sh\ncat {tmp_path}/lines\necho $$ > {tmp_path}/pid\nexec sleep 60\n"
        (tmp_path / "tegrastats").write_text(script)
        (tmp_path / "tegrastats").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return tmp_path / "pid"

    return install


def read_pid(path):
    for _ in range(200):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise TimeoutError(path)


def test_the_device_is_watched_during_the_work_and_no_longer(install_program):
    pid_file = install_program(ORIN_NX_5)
    pid, stats = record_device_stats(lambda: read_pid(pid_file))
    assert stats is not None
    assert stats.temperature == {
        "CPU": 48.5,
        "SOC2": 44.1,
        "CV0": -256,
        "GPU": 50.25,
        "tj": 50.25,
    }
    assert stats.power == {
        "VDD_IN": Power(8.5, 12),
        "VDD_CPU_GPU_CV": Power(3.8, 6.8),
        "VDD_SOC": Power(2, 2.5),
    }
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_program_is_stopped_if_the_work_fails(install_program):
    pid_file = install_program(ORIN_NX_5)
    with pytest.raises(ZeroDivisionError):
        record_device_stats(lambda: read_pid(pid_file) / 0)
    with pytest.raises(ProcessLookupError):
        os.kill(read_pid(pid_file), 0)


def test_without_a_common_rail_each_rail_is_listed():
    assert parse_tegrastats(AGX_ORIN_6) == DeviceStats(
        {"cpu": 46.5, "tboard": 36.5, "soc2": 42.7, "tdiode": 36.875, "tj": 46.5},
        {
            "VDD_GPU_SOC": Power(2.4, 2.4),
            "VDD_CPU_CV": Power(0.4, 0.4),
            "VIN_SYS_5V0": Power(3.03, 3.03),
        },
    )


@pytest.mark.parametrize("lines", ["", "tegrastats: permission denied\n", "tj@4"])
def test_lines_without_a_figure_are_no_measurement(lines):
    assert parse_tegrastats(lines) is None


def test_without_the_program_the_work_is_done_and_nothing_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record_device_stats(lambda: 7) == (7, None)
