"""patchct doctor: what this machine can run, and what to install for the rest."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import typer

from patchct_edge.cli import console, options

# (distribution, what it is for, extra)
LIBRARIES = (
    ("openvino", "tag on a CPU", ""),
    ("onnxruntime", "tag on a CPU, second engine", "onnxruntime"),
    ("torch", "train", "train"),
    ("transformers", "train", "train"),
    ("onnx", "export", "export"),
    ("onnxsim", "export", "export"),
    ("nncf", "export INT8", "export"),
    ("matplotlib", "pictures", "report"),
    ("scikit-learn", "demo", "demo"),
)


def doctor(as_json: options.Json = False) -> None:
    """Say what is installed here, and how to install what is missing."""
    found = [(*library, _version(library[0])) for library in LIBRARIES]
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
    }
    if as_json:
        libraries = {name: version for name, _, _, version in found}
        typer.echo(json.dumps({**machine, "libraries": libraries}, indent=2))
        return
    for name, value in machine.items():
        typer.echo(f"{name:<8}{value}")
    rows = [
        (name, version or "missing", purpose, "" if version else _install(extra))
        for name, purpose, extra, version in found
    ]
    console.table(("library", "version", "for", "to install"), rows, text=4)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _install(extra: str) -> str:
    return f"pip install 'patchct-edge[{extra}]'" if extra else "pip install patchct-edge"


def _cpu() -> str:
    """Name the CPU and the instructions that decide how fast INT8 and bfloat16 are."""
    try:
        import openvino
    except ImportError:
        return platform.processor() or platform.machine()
    core = openvino.Core()
    name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    return f"{name}; {', '.join(core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))}"
