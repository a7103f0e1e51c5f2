"""patchct doctor: list what this machine can run, and how to install the rest."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import NamedTuple

import typer

from patchct_edge.cli import console, options
from patchct_edge.profiling import machine
from patchct_edge.requirements import find_requirement


class Library(NamedTuple):
    """A library that some command needs; `extra` is "" where every installation has it."""

    name: str  # on the package index
    module: str
    purpose: str
    extra: str


LIBRARIES = (
    Library("openvino", "openvino", "tag on a CPU", ""),
    Library("onnxruntime", "onnxruntime", "tag on a CPU (second engine)", "onnxruntime"),
    Library("torch", "torch", "train, export", "train"),
    Library("transformers", "transformers", "train, export", "train"),
    Library("safetensors", "safetensors", "train, export", "train"),
    Library("onnx", "onnx", "export", "export"),
    Library("onnxscript", "onnxscript", "export", "export"),
    Library("onnxsim", "onnxsim", "export", "export"),
    Library("nncf", "nncf", "export INT8", "export"),
    Library("sympy", "sympy", "export FP16", "export"),
    Library("av", "av", "stream cameras and videos", "stream"),
    Library("paho-mqtt", "paho", "stream to MQTT", "stream"),
    Library("matplotlib", "matplotlib", "explain, report", "report"),
    Library("psutil", "psutil", "report", "report"),
    Library("jinja2", "jinja2", "explain, report", "report"),
    Library("scikit-learn", "sklearn", "run the demo", "demo"),
    Library("scipy", "scipy", "run the demo", "demo"),
)
# For an NVIDIA GPU: TensorRT or TensorRT for RTX, and one library to reach the GPU.
GPU_LIBRARIES = (
    Library("tensorrt", "tensorrt", "tag on an NVIDIA GPU", ""),
    Library("tensorrt-rtx", "tensorrt_rtx", "tag on an RTX GPU", "rtx"),
    Library("cuda-bindings", "cuda", "reach the GPU", "tensorrt"),
    Library("pycuda", "pycuda", "reach the GPU (in place of cuda-bindings)", ""),
)


def doctor(as_json: options.Json = False) -> None:
    """List the libraries and devices of this machine, and how to install what is missing."""
    versions = {library: _find_version(library.name) for library in (*LIBRARIES, *GPU_LIBRARIES)}
    system = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _describe_cpu(),
        "gpu": machine.describe_gpu(),
        **machine.describe_jetson(),
    }
    if as_json:
        libraries = {library.name: version for library, version in versions.items()}
        typer.echo(json.dumps({**system, "libraries": libraries}, indent=2))
        return
    for name, value in system.items():
        typer.echo(f"{name:<8}{value}")
    rows = [
        (
            library.name,
            version or "missing",
            library.purpose,
            "" if version else _install_command(library),
        )
        for library, version in versions.items()
    ]
    console.print_table(("library", "version", "needed to", "to install"), rows, text_columns=4)
    if any(library.name == "torch" and version is None for library, version in versions.items()):
        typer.echo("Install torch first, and choose its CPU or CUDA build: see the README.")


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _install_command(library: Library) -> str:
    if library.name == "tensorrt" and machine.JETSON_RELEASE.exists():
        return "apt install nvidia-jetpack; python3 -m venv --system-site-packages .venv"
    return f"pip install '{find_requirement(library.name)}'"


def _describe_cpu() -> str:
    """Return the CPU's name and the instructions that decide how fast INT8 and bfloat16 are."""
    try:
        import openvino
    except ImportError:
        return platform.processor() or platform.machine()
    core = openvino.Core()
    name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    return f"{name}; OpenVINO: {', '.join(core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))}"
