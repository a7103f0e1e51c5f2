"""The machine that a figure was measured on: names, clocks, power mode, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from patchct_edge import __version__
from patchct_edge.errors import EngineError

JETSON = Path("/etc/nv_tegra_release")  # what NVIDIA's system for Jetsons leaves there
CLOCKS = Path("/sys/devices/system/cpu/cpu0/cpufreq")
LIBRARIES = ("numpy", "pillow", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")


def describe_machine() -> dict[str, str]:
    """Describe this machine, for a report."""
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": f"{_cpu_name()}, {_cores()} cores",
        "clocks": _clocks(),
        "GPU": describe_gpu(),
        **describe_jetson(),
        "versions": ", ".join(_versions()),
    }


def describe_gpu() -> str:
    """Name the GPU, its compute capability and what its driver serves, or say why there is none."""
    from patchct_edge.runtime.engines.tensorrt.library import query_device

    try:
        found = query_device()
    except EngineError as error:
        return f"none: {error.problem}"
    return f"{found.name}; compute capability {found.compute_capability}, CUDA {found.driver}"


def describe_jetson() -> dict[str, str]:
    """Name the release of a Jetson's system and its power mode; nothing elsewhere."""
    if not JETSON.exists():
        return {}
    release = JETSON.read_text(errors="replace").partition("GCID")[0].strip("#, \n")
    try:
        said = subprocess.run(
            ["nvpmodel", "-q"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    mode = next((line for line in said.splitlines() if "Power Mode" in line), "power mode unknown")
    return {"jetson": f"{release}; {mode.strip()}"}


def _cpu_name() -> str:
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    board = _text(Path("/proc/device-tree/model")).rstrip("\0")  # an ARM's cpuinfo has no name
    return next(names, "") or board or platform.processor() or platform.machine()


def _cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _clocks() -> str:
    """Say which clocks the first core may take, and who chooses."""
    least, most, governor = (
        _text(CLOCKS / name).strip()
        for name in ("scaling_min_freq", "scaling_max_freq", "scaling_governor")
    )
    if not (least.isdigit() and most.isdigit()):
        return "not told by this system"
    return f"{int(least) // 1000} to {int(most) // 1000} MHz, governor {governor or 'unknown'}"


def _versions() -> list[str]:
    found = [f"patchct-edge {__version__}", f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
