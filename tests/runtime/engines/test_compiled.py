"""Compiled engines in a bundle: records, fit and trust, with a fake library."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.manifest import Stage
from patchct_edge.errors import BundleError, EngineError
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.compiled import (
    CompiledEngine,
    add_compiled,
    is_trusted,
    read_compiled,
    read_plan,
)
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.engines.select import EngineRequest, iter_candidates, open_engine
from patchct_edge.runtime.engines.tensorrt import select
from patchct_edge.runtime.engines.tensorrt.library import Device

ORIN = Device("Orin", "8.7", "12.6")
TRT = types.SimpleNamespace(__name__="tensorrt", __version__="10.3.0")


@pytest.fixture(autouse=True)
def trust_file(tmp_path, monkeypatch):
    """The list of trusted engines, in a temporary folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "patchct-edge" / "trusted-engines.json"


@pytest.fixture
def bundle(write_bundle, tmp_path):
    return Bundle(write_bundle(tmp_path / "x.patchct", ("fp32", "fp16", "int8", "int8-fp16")))


@pytest.fixture
def record(bundle):
    return CompiledEngine(
        name="tensorrt-10.3.0-orin-fp16",
        engine="tensorrt",
        precision="fp16",
        compute_precision="fp16",
        library="tensorrt 10.3.0",
        device="Orin",
        compute_capability="8.7",
        driver="12.6",
        batches=(1, 8, 32),
        similarity=False,
        build_seconds=81.5,
        model=bundle.manifest.fingerprint,
        graph=bundle.manifest.files["model.fp16.onnx"],
    )


@pytest.fixture
def on_orin(monkeypatch):
    """A machine with an Orin GPU, a library, and an engine that computes what the fake one does."""
    monkeypatch.setattr(select, "import_tensorrt", lambda: TRT)
    monkeypatch.setattr(select, "query_device", lambda: ORIN)
    monkeypatch.setattr(select, "target_device", lambda trt: ORIN)
    monkeypatch.setattr(select, "open_memory", lambda: None)

    def open_fake(trt, plan, record, memory):
        assert plan == b"plan"
        engine = FakeEngine(8, 3, 4)
        engine.record = record
        return engine

    monkeypatch.setattr(select, "TensorRTEngine", open_fake)


def test_an_engine_is_added_to_its_bundle_and_read_back(bundle, record):
    changed = add_compiled(bundle, record, b"plan")
    changed.verify()
    assert read_compiled(changed, "tensorrt") == [record]
    assert read_compiled(changed, "other") == []
    assert read_plan(changed, record) == b"plan"
    assert is_trusted(changed, record)
    assert set(bundle.manifest.files) < set(changed.manifest.files)
    assert changed.manifest.fingerprint == bundle.manifest.fingerprint


def test_adding_a_file_does_not_hide_damage(bundle, record):
    (bundle.path / "model.fp32.onnx").write_bytes(b"other")
    changed = add_compiled(bundle, record, b"plan")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx was altered"):
        changed.verify()


def test_a_write_that_fails_leaves_the_bundle_as_it_was(bundle):
    (bundle.path / "engines").touch()
    with pytest.raises(OSError, match="engines"):
        bundle.add_files({"engines/x.plan": b"plan"})
    assert Bundle(bundle.path).manifest == bundle.manifest


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 7}', "[" * 10**5], ids=lambda t: t[:9])
def test_a_damaged_record_is_refused(bundle, text):
    changed = bundle.add_files({"engines/x.json": text.encode()})
    with pytest.raises(BundleError, match=r"(?s)x\.json cannot be read.*patchct compile"):
        read_compiled(changed, "tensorrt")


def test_an_altered_engine_is_refused(bundle, record):
    changed = add_compiled(bundle, record, b"plan")
    (bundle.path / "engines" / f"{record.name}.plan").write_bytes(b"evil")
    with pytest.raises(BundleError, match="was altered"):
        read_plan(changed, record)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"library": "tensorrt 10.13.3"}, "library tensorrt 10.13.3, here it is tensorrt 10.3.0"),
        ({"device": "Xavier"}, "GPU Xavier, here it is Orin"),
        ({"compute_capability": "7.2"}, "compute capability 7.2, here it is 8.7"),
        ({"model": "0" * 16}, "model 0000000000000000, here it is"),
        ({"device": "any", "compute_capability": "any"}, None),
    ],
    ids=str,
)
def test_a_mismatch_is_reported_with_the_command_that_fixes_it(
    bundle, record, on_orin, changes, reason
):
    changed = add_compiled(bundle, dataclasses.replace(record, **changes), b"plan")
    candidates = iter_candidates(changed, EngineRequest("tensorrt", "fp16"))
    (candidate,) = (c for c in candidates if (c.engine, c.precision) == ("tensorrt", "fp16"))
    if reason is None:
        assert candidate.skip_reason is None
    else:
        assert candidate.skip_reason is not None
        assert reason in candidate.skip_reason
        command = f"patchct compile {bundle.path} --engine tensorrt --precision fp16"
        assert command in candidate.skip_reason


def test_an_engine_from_elsewhere_runs_only_if_it_is_trusted(bundle, record, on_orin, trust_file):
    changed = add_compiled(bundle, record, b"plan")
    trust_file.unlink()  # no other machine has it
    with pytest.raises(EngineError, match=r"compiled on another machine.*--trust-engine"):
        open_engine(changed, EngineRequest("tensorrt"))
    with open_engine(changed, EngineRequest(trust=True)) as engine:
        assert engine.record == EngineRecord("tensorrt", "fp16", "fp16", "tensorrt 10.3.0", "Orin")
    with open_engine(changed) as engine:  # the next runnable one
        assert engine.record.engine != "tensorrt"


def test_the_gpu_comes_before_the_cpu_and_similarity_needs_its_own_engine(bundle, record, on_orin):
    changed = add_compiled(bundle, record, b"plan")
    with open_engine(changed) as engine:
        assert engine.record.engine == "tensorrt"
        assert engine.infer(np.zeros((1, 8, 8, 3), np.uint8)).logits.shape == (1, 3)
    with pytest.raises(EngineError, match=r"not compiled; run .* --with-maps"):
        open_engine(changed, EngineRequest("tensorrt", similarity=True))


def test_int8_that_failed_its_gate_runs_only_on_request(write_bundle, tmp_path, record, on_orin):
    failed = Stage("int8-fp16", "fp32", "x", 9, 0, 0, 1, gate="flips <= 3 %", passed=False)
    bundle = Bundle(
        write_bundle(tmp_path / "y.patchct", ("fp32", "int8", "int8-fp16"), stages=(failed,))
    )
    int8_record = dataclasses.replace(record, precision="int8", model=bundle.manifest.fingerprint)
    changed = add_compiled(bundle, int8_record, b"plan")
    with pytest.raises(EngineError, match=r"tensorrt int8: its gate failed at export"):
        open_engine(changed, EngineRequest("tensorrt"))
    with open_engine(changed, EngineRequest("tensorrt", "int8")) as engine:
        assert engine.record.precision == "int8"


def test_a_missing_driver_is_the_skip_reason(bundle, record, monkeypatch):
    def fail():
        raise EngineError("there is no NVIDIA driver")

    monkeypatch.setattr(select, "import_tensorrt", lambda: TRT)
    monkeypatch.setattr(select, "query_device", fail)
    changed = add_compiled(bundle, record, b"plan")
    with pytest.raises(EngineError, match="tensorrt fp16: there is no NVIDIA driver"):
        open_engine(changed, EngineRequest("tensorrt"))


def test_the_record_file_is_readable_json(bundle, record):
    add_compiled(bundle, record, b"plan")
    fields = json.loads((bundle.path / "engines" / f"{record.name}.json").read_text())
    assert fields["device"] == "Orin"
    assert fields["batches"] == [1, 8, 32]
