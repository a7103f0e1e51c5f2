"""Which engine runs a bundle, and the reason against every other."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.manifest import Stage
from patchct_edge.errors import BundleError, EngineError, ExitCode, UserError
from patchct_edge.runtime.engines.select import EngineRequest, iter_candidates, open_engine

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundles(write_bundle, tmp_path_factory):
    """Bundles with FP32 and INT8, by whether the INT8 gate passed."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {}
    for passed in (True, False):
        stage = Stage("int8", "fp32", "openvino", 9, 0, 0, 0, gate="flips <= 3 %", passed=passed)
        path = write_bundle(folder / f"{passed}.patchct", ("fp32", "int8"), stages=(stage,))
        found[passed] = Bundle(path)
    return found


FAKE = "taken only with --engine fake"
ABSENT = "no fp16 graph"
GATE = r"gate failed at export \(flips <= 3 %\)"
ORT, OV, INT8 = "--engine onnxruntime", "--engine openvino", "--precision int8"


@pytest.mark.parametrize(
    ("passed", "engine", "precision", "openvino", "onnxruntime", "fake"),
    [  # the reasons for int8, fp32, fp16; "" where it fits
        (True, None, None, ("", "", ABSENT), ("", "", ABSENT), (FAKE, FAKE, FAKE)),
        (False, None, None, (GATE, "", ABSENT), (GATE, "", ABSENT), (FAKE, FAKE, FAKE)),
        (False, None, "int8", ("", INT8, INT8), ("", INT8, INT8), (FAKE, FAKE, FAKE)),
        (False, "openvino", None, (GATE, "", ABSENT), (OV, OV, OV), (OV, OV, OV)),
        (True, "onnxruntime", "int8", (ORT, ORT, ORT), ("", INT8, INT8), (ORT, ORT, ORT)),
        (True, "fake", None, ("--engine fake",) * 3, ("--engine fake",) * 3, ("", "", "")),
    ],
)
def test_every_candidate_has_its_reason(
    bundles, passed, engine, precision, openvino, onnxruntime, fake
):
    on_gpu, found = [], []
    for candidate in iter_candidates(bundles[passed], EngineRequest(engine, precision)):
        (on_gpu if candidate.engine == "tensorrt" else found).append(candidate)
    assert [c.precision for c in on_gpu] == ["int8", "fp16", "fp32"]
    assert all(c.skip_reason for c in on_gpu)
    assert [str(c).partition(":")[0] for c in found] == [
        f"{name} {each}"
        for name in ("openvino", "onnxruntime", "fake")
        for each in ("int8", "fp32", "fp16")
    ]
    for candidate, reason in zip(found, (*openvino, *onnxruntime, *fake), strict=True):
        if reason:
            assert re.search(reason, candidate.skip_reason)
        else:
            assert candidate.skip_reason is None
            assert str(candidate).endswith(": fits")


@pytest.mark.parametrize(
    ("passed", "asked", "expected"),
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
def test_the_first_that_fits_is_opened(bundles, passed, asked, expected):
    with open_engine(bundles[passed], EngineRequest(**asked)) as engine:
        assert (engine.record.engine, engine.record.precision) == expected


def test_a_missing_library_gives_way_to_the_next(bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with open_engine(bundles[True]) as engine:
        assert (engine.record.engine, engine.record.precision) == ("onnxruntime", "int8")


def test_no_library_at_all_is_an_error_that_lists_the_reasons(bundles, monkeypatch):
    for library in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EngineError) as caught:
        open_engine(bundles[True])
    assert caught.value.exit_code == ExitCode.DOES_NOT_FIT == 3
    for line in (
        "openvino int8: .*pip install openvino",
        "openvino fp16: the bundle has no fp16 graph",
        r"onnxruntime fp32: .*pip install 'onnxruntime>=1",
        f"fake fp32: .*{FAKE}",
    ):
        assert re.search(line, str(caught.value))


def test_only_the_engine_that_was_asked_for_is_explained(bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="onnxruntime int8") as caught:
        open_engine(bundles[True], EngineRequest("onnxruntime"))
    assert "openvino" not in str(caught.value)


def test_a_precision_that_the_bundle_lacks_fits_nowhere(bundles):
    with pytest.raises(EngineError, match="openvino fp16: the bundle has no fp16 graph"):
        open_engine(bundles[True], EngineRequest(precision="fp16"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "openvinno"}, "did you mean 'openvino'"),
        ({"engine": "zzz"}, "one of tensorrt, openvino, onnxruntime, fake"),
        ({"precision": "int88"}, "did you mean 'int8'"),
    ],
)
def test_an_unknown_name_suggests_a_known_one(bundles, asked, message):
    with pytest.raises(UserError, match=message) as caught:
        open_engine(bundles[True], EngineRequest(**asked))
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_altered_graph_is_not_run(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct")
    opened = Bundle(path)
    with (path / "model.fp32.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="was altered"):
        open_engine(opened)


def test_similarity_and_latency_are_handed_on(bundles):
    for name in ("openvino", "onnxruntime"):
        with open_engine(
            bundles[True], EngineRequest(engine=name, similarity=True, latency=True)
        ) as engine:
            assert engine.infer(np.zeros((1, 8, 8, 3), np.uint8)).similarity.shape == (1, 3, 4)
            assert engine.concurrency == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("changes", "got", "expected"),
    [
        ({"labels": ("red", "green")}, "8 px and 3 labels", "8 px and 2 labels"),
        ({"preprocessing": Preprocessing(16)}, "8 px and 3 labels", "16 px and 3 labels"),
    ],
)
def test_a_graph_of_other_labels_or_pixels_is_not_run(
    write_bundle, tmp_path, engine, changes, got, expected
):
    opened = Bundle(write_bundle(tmp_path / "x.patchct", **changes))
    with pytest.raises(BundleError, match=f"(?s)does not fit.*got: *{got}.*expected: *{expected}"):
        open_engine(opened, EngineRequest(engine))
