"""Which file may import which library, and what runs with the libraries of a device alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

import patchct_edge
from patchct_edge import images

PACKAGE = Path(patchct_edge.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
COMMANDS = (
    "demo",
    "train",
    "export",
    "compile",
    "tag",
    "stream",
    "eval",
    "calibrate",
    "report",
    "explain",
    "show",
    "doctor",
)
DEVICE_ROOMS = ("runtime/", "evaluation/", "explain/", "profiling/", "report/", "cli/")
ABSENT_ON_DEVICE = (
    "torch",
    "transformers",
    "safetensors",
    "onnx",
    "onnxscript",
    "onnxsim",
    "nncf",
    "onnxruntime",
    "matplotlib",
    "jinja2",
    "sklearn",
    "scipy",
    "tensorrt_rtx",
    "cuda",
    "av",
    "paho",
)


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("openvino", "runtime/engines/openvino.py cli/doctor.py"),
        ("onnxruntime", "runtime/engines/onnxruntime.py export/fp16.py"),
        ("matplotlib", "explain/figure.py report/plots.py"),
        ("jinja2", "explain/templating.py"),
        ("av", "runtime/stream/sources/video.py runtime/stream/sinks/video_file.py"),
        ("paho", "runtime/stream/sinks/mqtt.py"),
        ("urllib3", "runtime/stream/sinks/webhook*.py"),
        ("pydantic", "runtime/stream/settings.py runtime/stream/parse.py train/config.py"),
        ("rich", "cli/console.py"),
        ("typer", "cli/*"),
        ("PIL", "images.py"),
        ("sklearn", "datasets/digits.py"),
        ("torch", "train/* export/*"),
        ("transformers", "train/* cli/demo.py"),
        ("safetensors", "train/*"),
        ("onnx", "export/*"),
        ("onnxscript", "export/*"),
        ("onnxsim", "export/simplify.py"),
        ("nncf", "export/int8.py"),
        ("scipy", "datasets/digits.py"),
        ("tensorrt", ""),
        ("tensorrt_rtx", ""),
        ("cuda", "runtime/engines/tensorrt/library.py"),
        ("pycuda", "runtime/engines/tensorrt/*.py"),
    ],
)
def test_a_library_is_imported_in_its_own_files_only(library, places):
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
    importers = [name for name, tree in trees.items() if library in _imported_roots(tree)]
    assert [n for n in importers if not any(fnmatch(n, place) for place in places.split())] == []


def _imported_roots(tree):
    """Return the top-level packages that a syntax tree imports, anywhere in it."""
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            roots.add(node.module.partition(".")[0])
    return roots


UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}


def test_no_module_that_windows_lacks_is_imported_at_the_top():
    importers = {}
    for name, path in FILES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # A function may import such a module; everything else runs when the file is imported.
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body.clear()
        if modules := _imported_roots(tree) & UNIX_MODULES:
            importers[name] = modules
    assert importers == {}


def test_no_import_starts_a_gpu_context():
    assert [name for name, path in FILES.items() if "pycuda.autoinit" in path.read_text()] == []


SCRIPT = """
import importlib, json, pkgutil, sys

blocked, bundle, photo, output = json.loads(sys.argv[1])

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
for library in blocked:
    try:
        importlib.import_module(library)
        sys.exit(f"{library} is not blocked")
    except ImportError:
        pass

from patchct_edge.cli.app import app

codes = {}
def run(*words):
    try:
        app(list(words))
    except SystemExit as exit:
        codes[" ".join(words)] = exit.code

run("--help")
for command in app.registered_commands:
    run(command.name, "--help")
run("tag", photo, "--model", bundle, "--engine", "fake", "--header", "-o", output)
run("explain", photo, "--model", bundle, "--engine", "fake", "-o", output + ".npy")
run("show", bundle, "--verify")
run("doctor")

modules = []
for part in ("runtime", "evaluation", "explain", "profiling", "report", "cli"):
    package = importlib.import_module(f"patchct_edge.{part}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
        modules.append(module.name)
print("\\n" + json.dumps([codes, modules]))
"""


@pytest.fixture(scope="module", params=[(), ("openvino",)], ids=["device", "no openvino"])
def device(request, tiny_bundle, tmp_path_factory):
    """Run everything in a process without the libraries that a device lacks.

    Returns the exit codes by command, the imported modules, the rows of tags, and the folder.
    """
    folder = tmp_path_factory.mktemp("device")
    images.save(np.full((9, 9, 3), (250, 130, 20), np.uint8), folder / "photo.png")
    arguments = [
        [*ABSENT_ON_DEVICE, *request.param],
        str(tiny_bundle),
        str(folder / "photo.png"),
        str(folder / "tags.jsonl"),
    ]
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert process.returncode == 0, process.stderr
    codes, modules = json.loads(process.stdout.splitlines()[-1])
    lines = (folder / "tags.jsonl").read_text(encoding="utf-8").splitlines()
    return codes, modules, [json.loads(line) for line in lines], folder


def test_every_command_runs_on_a_device(device):
    codes, *_ = device
    assert set(codes.values()) == {0}
    assert {f"{command} --help" for command in COMMANDS} <= set(codes)
    assert len(codes) == len([name for name in codes if name.endswith("--help")]) + 4


def test_every_module_for_a_device_imports_there(device):
    _, modules, *_ = device
    expected = {
        "patchct_edge." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for name in FILES
        if name.startswith(DEVICE_ROOMS)
    }
    packages = {f"patchct_edge.{room.rstrip('/')}" for room in DEVICE_ROOMS}
    assert expected - packages == set(modules)


def test_an_image_is_tagged_on_a_device(device):
    *_, rows, folder = device
    header, row = rows
    assert (header["patchct"], header["precision"]) == (patchct_edge.__version__, "fp32")
    assert header["engine"]["engine"] == "fake"
    assert row["path"] == str(folder / "photo.png")
    assert [tag["label"] for tag in row["tags"]] == ["red", "green"]
    scores = [tag["score"] for tag in row["tags"]]
    assert scores == pytest.approx([0.979, 0.520], abs=1e-3)
