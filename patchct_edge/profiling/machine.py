"""The machine that a figure was measured on: names, clocks, power mode, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from patchct_edge.errors import EngineError, MissingLibraryError
from patchct_edge.version import __version__

JETSON_RELEASE = Path("/etc/nv_tegra_release")  # written by NVIDIA's system for Jetsons
CPU_CLOCKS = Path("/sys/devices/system/cpu/cpu0/cpufreq")
NVPMODEL_TIMEOUT_S = 5
LIBRARIES = ("numpy", "pillow", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")


def describe_machine() -> dict[str, str]:
    """Describe this machine for a report: one line of text by topic.

    Raises:
        MissingLibraryError: psutil is not installed.
    """
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": f"{_read_cpu_name()}, {_count_cores()} cores",
        "clocks": _describe_clocks(),
        "memory": f"{_read_memory_gib():.1f} GiB",
        "GPU": describe_gpu(),
        **describe_jetson(),
        "versions": ", ".join(_list_versions()),
    }


def describe_gpu() -> str:
    """Name the GPU, its compute capability and CUDA version, or say why there is none."""
    from patchct_edge.runtime.engines.tensorrt.library import query_device

    try:
        device = query_device()
    except EngineError as error:
        return f"none: {error.problem}"
    return f"{device.name}; compute capability {device.compute_capability}, CUDA {device.driver}"


def describe_jetson() -> dict[str, str]:
    """Name the release of a Jetson's system and its power mode; empty on other machines."""
    if not JETSON_RELEASE.exists():
        return {}
    release = JETSON_RELEASE.read_text(errors="replace").partition("GCID")[0].strip("#, \n")
    try:
        output = subprocess.run(
            ["nvpmodel", "-q"],
            capture_output=True,
            text=True,
            timeout=NVPMODEL_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        output = ""
    lines = (line.strip() for line in output.splitlines() if "Power Mode" in line)
    return {"jetson": f"{release}; {next(lines, 'power mode unknown')}"}


def _read_cpu_name() -> str:
    lines = _read_text(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    # On ARM, cpuinfo has no name; the device tree does.
    model = _read_text(Path("/proc/device-tree/model")).rstrip("\0")
    return next(names, "") or model or platform.processor() or platform.machine()


def _count_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_memory_gib() -> float:
    try:
        import psutil
    except ImportError:
        raise MissingLibraryError("psutil") from None
    return float(psutil.virtual_memory().total) / 2**30


def _describe_clocks() -> str:
    """Describe the clock range of the first core, and the governor that chooses within it."""
    lowest_khz, highest_khz, governor = (
        _read_text(CPU_CLOCKS / name).strip()
        for name in ("scaling_min_freq", "scaling_max_freq", "scaling_governor")
    )
    if not (lowest_khz.isdigit() and highest_khz.isdigit()):
        return "unknown"
    lowest_mhz, highest_mhz = int(lowest_khz) // 1000, int(highest_khz) // 1000
    return f"{lowest_mhz} to {highest_mhz} MHz, governor {governor or 'unknown'}"


def _list_versions() -> list[str]:
    versions = [f"patchct-edge {__version__}", f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
