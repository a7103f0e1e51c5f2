"""Selecting the engine for a bundle, and the reason to skip every other."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.manifest import Stage
from patchct_edge.errors import BundleError, EngineError, ExitCode, UserError
from patchct_edge.runtime.engines.select import (
    Candidate,
    EngineRequest,
    iter_candidates,
    open_engine,
)

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundles(write_bundle, tmp_path_factory):
    """Bundles with FP32 and INT8; the keys tell whether the INT8 gate passed."""
    folder = tmp_path_factory.mktemp("bundles")
    bundles = {}
    for passed in (True, False):
        stage = Stage("int8", "fp32", "openvino", 9, 0, 0, 0, gate="flips <= 3 %", passed=passed)
        path = write_bundle(folder / f"{passed}.patchct", ("fp32", "int8"), stages=(stage,))
        bundles[passed] = Bundle(path)
    return bundles


FAKE_REASON = "only for tests, with --engine fake"
MISSING_REASON = "no fp16 graph"
GATE_REASON = r"gate failed at export \(flips <= 3 %\)"
ORT, OV, INT8 = "--engine onnxruntime", "--engine openvino", "--precision int8"


@pytest.mark.parametrize(
    ("passed", "engine", "precision", "openvino", "onnxruntime", "fake"),
    [  # the skip reasons of int8, fp32, fp16; "" where the candidate can run
        (True, None, None, ("", "", MISSING_REASON), ("", "", MISSING_REASON), (FAKE_REASON,) * 3),
        (
            False,
            None,
            None,
            (GATE_REASON, "", MISSING_REASON),
            (GATE_REASON, "", MISSING_REASON),
            (FAKE_REASON,) * 3,
        ),
        (False, None, "int8", ("", INT8, INT8), ("", INT8, INT8), (FAKE_REASON,) * 3),
        (False, "openvino", None, (GATE_REASON, "", MISSING_REASON), (OV, OV, OV), (OV, OV, OV)),
        (True, "onnxruntime", "int8", (ORT, ORT, ORT), ("", INT8, INT8), (ORT, ORT, ORT)),
        (True, "fake", None, ("--engine fake",) * 3, ("--engine fake",) * 3, ("", "", "")),
    ],
)
def test_every_candidate_has_its_reason(
    bundles, passed, engine, precision, openvino, onnxruntime, fake
):
    gpu_candidates: list[Candidate] = []
    candidates: list[Candidate] = []
    for candidate in iter_candidates(bundles[passed], EngineRequest(engine, precision)):
        (gpu_candidates if candidate.engine == "tensorrt" else candidates).append(candidate)
    assert [c.precision for c in gpu_candidates] == ["int8", "fp16", "fp32"]
    assert all(c.skip_reason for c in gpu_candidates)
    assert [str(c).partition(":")[0] for c in candidates] == [
        f"{name} {precision}"
        for name in ("openvino", "onnxruntime", "fake")
        for precision in ("int8", "fp32", "fp16")
    ]
    for candidate, reason in zip(candidates, (*openvino, *onnxruntime, *fake), strict=True):
        if reason:
            assert candidate.skip_reason is not None
            assert re.search(reason, candidate.skip_reason)
        else:
            assert candidate.skip_reason is None
            assert str(candidate).endswith(": fits")


@pytest.mark.parametrize(
    ("passed", "request_fields", "expected"),
    [
        (True, {}, ("openvino", "int8")),
        (False, {}, ("openvino", "fp32")),
        (False, {"precision": "int8"}, ("openvino", "int8")),
        (True, {"precision": "fp32"}, ("openvino", "fp32")),
        (True, {"engine": "onnxruntime"}, ("onnxruntime", "int8")),
        (False, {"engine": "onnxruntime"}, ("onnxruntime", "fp32")),
        (True, {"engine": "fake"}, ("fake", "fp32")),
    ],
    ids=str,
)
def test_the_first_runnable_candidate_is_opened(bundles, passed, request_fields, expected):
    with open_engine(bundles[passed], EngineRequest(**request_fields)) as engine:
        assert (engine.record.engine, engine.record.precision) == expected


def test_an_engine_without_its_library_is_skipped(bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with open_engine(bundles[True]) as engine:
        assert (engine.record.engine, engine.record.precision) == ("onnxruntime", "int8")


def test_without_any_library_the_error_lists_the_reasons(bundles, monkeypatch):
    for library in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EngineError) as caught:
        open_engine(bundles[True])
    assert caught.value.exit_code == ExitCode.DOES_NOT_FIT == 3
    for line in (
        "openvino int8: .*pip install openvino",
        "openvino fp16: the bundle has no fp16 graph",
        r"onnxruntime fp32: .*pip install 'onnxruntime>=1",
        f"fake fp32: .*{FAKE_REASON}",
    ):
        assert re.search(line, str(caught.value))


def test_only_the_requested_engine_is_explained(bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="onnxruntime int8") as caught:
        open_engine(bundles[True], EngineRequest("onnxruntime"))
    assert "openvino" not in str(caught.value)


def test_only_the_requested_precision_is_explained(bundles):
    with pytest.raises(EngineError, match="openvino fp16: the bundle has no fp16 graph") as caught:
        open_engine(bundles[True], EngineRequest(precision="fp16"))
    assert "int8" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({"engine": "openvinno"}, "did you mean 'openvino'"),
        ({"engine": "zzz"}, "expected one of tensorrt, openvino, onnxruntime, fake"),
        ({"precision": "int88"}, "did you mean 'int8'"),
    ],
)
def test_an_unknown_name_suggests_a_known_one(bundles, request_fields, message):
    with pytest.raises(UserError, match=message) as caught:
        open_engine(bundles[True], EngineRequest(**request_fields))
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_altered_graph_is_refused(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct")
    bundle = Bundle(path)
    with (path / "model.fp32.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="was altered"):
        open_engine(bundle)


def test_similarity_and_latency_reach_the_engine(bundles):
    for name in ("openvino", "onnxruntime"):
        with open_engine(
            bundles[True], EngineRequest(engine=name, similarity=True, latency=True)
        ) as engine:
            similarity = engine.infer(np.zeros((1, 8, 8, 3), np.uint8)).similarity
            assert similarity is not None
            assert similarity.shape == (1, 3, 4)
            assert engine.concurrency == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("changes", "got", "expected"),
    [
        ({"labels": ("red", "green")}, "8 px and 3 labels", "8 px and 2 labels"),
        ({"preprocessing": Preprocessing(16)}, "8 px and 3 labels", "16 px and 3 labels"),
    ],
)
def test_a_graph_that_does_not_fit_the_manifest_is_refused(
    write_bundle, tmp_path, engine, changes, got, expected
):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", **changes))
    with pytest.raises(BundleError, match=f"(?s)does not fit.*got: *{got}.*expected: *{expected}"):
        open_engine(bundle, EngineRequest(engine))
