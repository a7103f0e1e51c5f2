"""patchct compile, with TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal

import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.cli import console
from patchct_edge.runtime.engines.compiled import read_compiled
from patchct_edge.runtime.engines.tensorrt import library

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("onnx")


def test_the_command_compiles_every_precision_into_the_bundle(
    run_cli, exported_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "x.patchct"
    shutil.copytree(exported_bundle, path)
    messages = run_cli("compile", path, "--precision", "fp16,int8", "--batch", "4").stderr
    assert messages.count("compiled tensorrt-rtx-") == 2
    bundle = Bundle(path)
    bundle.verify()
    records = read_compiled(bundle, "tensorrt")
    assert [(record.precision, record.compute_precision) for record in records] == [
        ("fp16", "fp16"),
        ("int8", "int8+fp16"),
    ]
    assert all(record.batches == (1, 4, 4) for record in records)
    engines = json.loads(run_cli("show", path, "--json").stdout)["engines"]
    assert {"tensorrt"} < {engine["engine"] for engine in engines}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--precision fp8", 2, "unknown precision"),
        ("--batch 8,4,2", 2, "not in order"),
        ("--batch many", 2, "one number or three"),
        ("--engine tensort", 2, "tensorrt"),
        ("--workspace 0", 2, "workspace"),
    ],
)
def test_wrong_options_are_user_errors(run_cli, exported_bundle, options, code, message):
    result = run_cli("compile", exported_bundle, *options.split(), code=code)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_library_is_reported_with_the_install_command(
    run_cli, exported_bundle, monkeypatch
):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    result = run_cli("compile", exported_bundle, code=3)
    assert "TensorRT is not installed" in result.stderr
    assert "pip install" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_build_stops_the_command(
    run_cli, exported_bundle, tmp_path, monkeypatch, number
):
    path = tmp_path / "x.patchct"
    shutil.copytree(exported_bundle, path)
    old_handler = signal.getsignal(number)

    class SignalingProgress:
        def stage(self, name, total):
            return lambda done, detail="": os.kill(os.getpid(), number)

    monkeypatch.setattr(console, "progress", lambda: contextlib.nullcontext(SignalingProgress()))
    result = run_cli("compile", path, "--precision", "fp32", code=130)
    assert "interrupted" in result.stderr
    assert not (path / "engines").exists()
    assert signal.getsignal(number) is old_handler
    Bundle(path).verify()
