"""patchct doctor: what this machine can run, and what to install for the rest."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import EngineError

JETSON = Path("/etc/nv_tegra_release")  # what NVIDIA's system for Jetsons leaves there


class Library(NamedTuple):
    """A library that some command needs; `extra` is "" where every installation has it."""

    name: str  # of the distribution
    module: str
    purpose: str
    extra: str


LIBRARIES = (
    Library("openvino", "openvino", "tag on a CPU", ""),
    Library("onnxruntime", "onnxruntime", "tag on a CPU, second engine", "onnxruntime"),
    Library("torch", "torch", "train", "train"),
    Library("transformers", "transformers", "train", "train"),
    Library("safetensors", "safetensors", "train", "train"),
    Library("onnx", "onnx", "export", "export"),
    Library("onnxscript", "onnxscript", "export", "export"),
    Library("onnxsim", "onnxsim", "export", "export"),
    Library("nncf", "nncf", "export INT8", "export"),
    Library("sympy", "sympy", "export FP16", "export"),
    Library("matplotlib", "matplotlib", "pictures", "report"),
    Library("jinja2", "jinja2", "pages", "report"),
    Library("scikit-learn", "sklearn", "demo", "demo"),
    Library("scipy", "scipy", "demo", "demo"),
)
# Of a machine with an NVIDIA GPU: one of the first two is enough.
GPU_LIBRARIES = (
    Library("tensorrt", "tensorrt", "NVIDIA GPU", ""),
    Library("tensorrt-rtx", "tensorrt_rtx", "RTX GPU", "rtx"),
    Library("cuda-bindings", "cuda", "either GPU", "tensorrt"),
    Library("pycuda", "pycuda", "in its place", ""),
)


def doctor(as_json: options.Json = False) -> None:
    """Say what is installed here, and how to install what is missing."""
    found = [(library, _version(library.name)) for library in (*LIBRARIES, *GPU_LIBRARIES)]
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "gpu": _gpu(),
        **_jetson(),
    }
    if as_json:
        libraries = {library.name: version for library, version in found}
        typer.echo(json.dumps({**machine, "libraries": libraries}, indent=2))
        return
    for name, value in machine.items():
        typer.echo(f"{name:<8}{value}")
    rows = [
        (each.name, version or "missing", each.purpose, "" if version else _install(each))
        for each, version in found
    ]
    console.table(("library", "version", "for", "to install"), rows, text=4)
    if any(each.name == "torch" and version is None for each, version in found):
        typer.echo("Choose torch's build first, such as pip install torch==2.13.0: see the README.")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _install(library: Library) -> str:
    if library.name == "tensorrt" and JETSON.exists():
        return "apt install nvidia-jetpack; python3 -m venv --system-site-packages"
    if not library.extra and library in GPU_LIBRARIES:
        return f"pip install {library.name}"
    extra = f"[{library.extra}]" if library.extra else ""
    return f"pip install 'patchct-edge{extra}'" if extra else "pip install patchct-edge"


def _gpu() -> str:
    """Name the GPU, its compute capability and what its driver serves, or say why there is none."""
    from patchct_edge.runtime.engines.tensorrt.library import device

    try:
        found = device()
    except EngineError as error:
        return f"none: {error.what}"
    return f"{found.name}; compute capability {found.compute_capability}, CUDA {found.driver}"


def _jetson() -> dict[str, str]:
    """Name the release of a Jetson's system and its power mode; nothing elsewhere."""
    if not JETSON.exists():
        return {}
    release = JETSON.read_text(errors="replace").partition(",  GCID")[0].lstrip("# ").strip()
    try:
        said = subprocess.run(
            ["nvpmodel", "-q"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    mode = next((line for line in said.splitlines() if "Power Mode" in line), "power mode unknown")
    return {"jetson": f"{release}; {mode.strip()}"}


def _cpu() -> str:
    """Name the CPU and the instructions that decide how fast INT8 and bfloat16 are."""
    try:
        import openvino
    except ImportError:
        return platform.processor() or platform.machine()
    core = openvino.Core()
    name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    return f"{name}; {', '.join(core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))}"
