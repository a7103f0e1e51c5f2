"""patchct doctor: what this machine can run, and what to install for the rest."""

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
    Library("av", "av", "stream video", "stream"),
    Library("paho-mqtt", "paho", "stream to MQTT", "stream"),
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
    about = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "gpu": machine.describe_gpu(),
        **machine.describe_jetson(),
    }
    if as_json:
        libraries = {library.name: version for library, version in found}
        typer.echo(json.dumps({**about, "libraries": libraries}, indent=2))
        return
    for name, value in about.items():
        typer.echo(f"{name:<8}{value}")
    rows = [
        (each.name, version or "missing", each.purpose, "" if version else _install(each))
        for each, version in found
    ]
    console.print_table(("library", "version", "for", "to install"), rows, text_columns=4)
    if any(each.name == "torch" and version is None for each, version in found):
        typer.echo("Choose torch's build first, such as pip install torch==2.13.0: see the README.")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _install(library: Library) -> str:
    if library.name == "tensorrt" and machine.JETSON.exists():
        return "apt install nvidia-jetpack; python3 -m venv --system-site-packages"
    return f"pip install '{find_requirement(library.name)}'"


def _cpu() -> str:
    """Name the CPU and the instructions that decide how fast INT8 and bfloat16 are."""
    try:
        import openvino
    except ImportError:
        return platform.processor() or platform.machine()
    core = openvino.Core()
    name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    return f"{name}; {', '.join(core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))}"
