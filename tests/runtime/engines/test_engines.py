"""The engine interface: results, their order, and refused files."""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.arrays import Float64s, ImageBatch
from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.engines.onnxruntime import ONNXRuntimeEngine
from patchct_edge.runtime.engines.openvino import OpenVINOEngine

M, N, SIZE = 5, 4, 8
WEIGHTS = np.random.default_rng(0).normal(size=(3, M))
ENGINES = {"onnxruntime": ONNXRuntimeEngine, "openvino": OpenVINOEngine}

OpenEngine = Callable[..., Engine]


@pytest.fixture(scope="module")
def graph(write_graph: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.fp32.onnx", WEIGHTS)


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of an engine that can run here."""
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def open_engine(name: str, graph: Path) -> OpenEngine:
    return lambda **options: ENGINES[name](graph, "fp32", **options)


def random_images(count: int, seed: int = 0) -> ImageBatch:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def expected_similarity(images: ImageBatch) -> Float64s:
    patches = images.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(-1, N, 3)
    return np.asarray((patches / 255 @ WEIGHTS).transpose(0, 2, 1), np.float64)


def expected_logits(images: ImageBatch) -> Float64s:
    return np.asarray(expected_similarity(images).mean(axis=2) * 8 - 4, np.float64)


def test_results_match_numpy(open_engine: OpenEngine) -> None:
    with open_engine() as engine:
        for count in (1, 17, 3):
            images = random_images(count)
            outputs = engine.infer(images)
            assert outputs.logits.dtype == np.float32
            np.testing.assert_allclose(
                outputs.logits, expected_logits(images), rtol=1e-4, atol=1e-4
            )
            assert outputs.similarity is None


def test_similarity_is_returned_on_request(open_engine: OpenEngine) -> None:
    with open_engine(similarity=True) as engine:
        logits, similarity = engine.infer(random_images(3))
    np.testing.assert_allclose(logits, expected_logits(random_images(3)), rtol=1e-4, atol=1e-4)
    assert similarity is not None
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(
        similarity, expected_similarity(random_images(3)), rtol=1e-4, atol=1e-4
    )


def test_results_come_in_order_however_many_batches_are_in_flight(open_engine: OpenEngine) -> None:
    with open_engine() as engine:
        counts = [1, 17, 2, 8] * (engine.concurrency + 1)
        for seed, count in enumerate(counts):
            engine.submit(random_images(count, seed))
        results = [engine.result().logits for _ in counts]
    for seed, (count, logits) in enumerate(zip(counts, results, strict=True)):
        np.testing.assert_allclose(
            logits, expected_logits(random_images(count, seed)), rtol=1e-4, atol=1e-4
        )


def test_a_batch_may_be_overwritten_once_it_is_submitted(open_engine: OpenEngine) -> None:
    with open_engine() as engine:
        batch = random_images(4)
        for _ in range(engine.concurrency):
            batch[:] = random_images(4)
            engine.submit(batch)
            batch[:] = 0
        for _ in range(engine.concurrency):
            np.testing.assert_allclose(
                engine.result().logits, expected_logits(random_images(4)), rtol=1e-4, atol=1e-4
            )


def test_a_batch_need_not_be_contiguous(open_engine: OpenEngine) -> None:
    batch = random_images(4)[::2, :, ::-1]
    with open_engine() as engine:
        logits = engine.infer(batch).logits
    np.testing.assert_allclose(logits, expected_logits(batch), rtol=1e-4, atol=1e-4)


def test_results_outlive_the_engine(open_engine: OpenEngine) -> None:
    with open_engine() as engine:
        first = engine.infer(random_images(2)).logits
        engine.infer(random_images(2, seed=1))
    np.testing.assert_allclose(first, expected_logits(random_images(2)), rtol=1e-4, atol=1e-4)


def test_closing_twice_with_batches_in_flight(open_engine: OpenEngine) -> None:
    engine = open_engine()
    for _ in range(engine.concurrency + 2):
        engine.submit(random_images(8))
    engine.result()
    engine.close()
    engine.close()


def test_the_record_describes_the_engine(open_engine: OpenEngine, name: str) -> None:
    with open_engine() as engine:
        record = engine.record
        assert engine.concurrency >= 1
        assert engine.best_batch >= 1
    assert (record.engine, record.precision, record.compute_precision) == (name, "fp32", "fp32")
    assert record.library.startswith(f"{name} {importlib.import_module(name).__version__[:4]}")
    assert record.device
    assert record.to_json()["device"] == record.device
    assert all(str(value) in str(record) for value in record.to_json().values() if value)


@pytest.fixture
def fp16_graph(tmp_path: Path) -> Path:
    """A graph whose FP16 nodes multiply by 1000 and by 0.001: in FP16, 255 overflows in between."""
    onnx = pytest.importorskip("onnx")
    make, FP32, FP16 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    constants = {"factor": np.float16(1000), "inverse": np.float16(0.001), "axes": np.array([1, 2])}
    nodes = [
        make.make_node("Cast", ["image"], ["pixels"], to=FP16),
        make.make_node("Mul", ["pixels", "factor"], ["scaled"]),
        make.make_node("Mul", ["scaled", "inverse"], ["restored"]),
        make.make_node("ReduceMean", ["restored", "axes"], ["mean"], keepdims=0),
        make.make_node("Cast", ["mean"], ["logits"], to=FP32),
    ]
    graph = make.make_graph(
        nodes,
        "fp16",
        [make.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["B", SIZE, SIZE, 3])],
        [make.make_tensor_value_info("logits", FP32, ["B", 3])],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = make.make_opsetid("", 20)
    onnx.save(make.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "fp16.onnx")
    return tmp_path / "fp16.onnx"


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="an ARM CPU may compute in FP16"
)
def test_an_x86_cpu_computes_an_fp16_graph_in_fp32(name: str, fp16_graph: Path) -> None:
    with ENGINES[name](fp16_graph, "fp16") as engine:
        logits = engine.infer(np.full((2, SIZE, SIZE, 3), 255, np.uint8)).logits
        assert (engine.record.precision, engine.record.compute_precision) == ("fp16", "fp32")
    np.testing.assert_allclose(logits, np.full((2, 3), 255), rtol=2e-3)  # FP16 rounds 0.001


def test_the_record_admits_that_an_arm_cpu_may_mix_precisions(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with ONNXRuntimeEngine(graph, "fp16") as engine:
        assert engine.record.compute_precision == "fp16+fp32"


@pytest.mark.parametrize(("topology_known", "threads"), [(True, 2), (False, 3)])
def test_onnxruntime_uses_the_physical_cores_that_this_process_may_use(
    graph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topology_known: bool,
    threads: int,
) -> None:
    """Logical cores 0 and 4 share a physical one; without the topology, they count as two."""
    pytest.importorskip("onnxruntime")
    for core in range(8 * topology_known):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    monkeypatch.setattr("patchct_edge.runtime.engines.onnxruntime.CPU_TOPOLOGY", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 4}, raising=False)
    with ONNXRuntimeEngine(graph, "fp32") as engine:
        assert engine.record.threads == threads
        assert engine.infer(random_images(2)).logits.shape == (2, M)


@pytest.mark.parametrize("data", [b"not a graph", b"", None], ids=["text", "empty", "missing"])
def test_a_file_that_is_not_onnx_is_refused(name: str, tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "broken.onnx"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        ENGINES[name](file, "fp32")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("onnxruntime", r"pip install 'onnxruntime>=1"),
        ("openvino", "pip install openvino"),
    ],
)
def test_a_missing_library_is_reported_with_its_install_command(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    module = importlib.import_module(f"patchct_edge.runtime.engines.{name}")
    assert re.search(line, module.check_library())
    with pytest.raises(EngineError, match=f"{name} (?s:.*){line}"):
        ENGINES[name](Path("model.onnx"), "fp32")


def test_the_fake_engine_scores_colors() -> None:
    red = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 255
    with FakeEngine(size=8, label_count=M, patch_count=N) as engine:
        engine.submit(red)
        engine.submit(np.full((17, SIZE, SIZE, 3), 255, np.uint8))
        first, second = engine.result(), engine.result()
        assert engine.record.engine == "fake"
    np.testing.assert_array_equal(first.logits, [[4, -4, -4, 4, -4]])
    np.testing.assert_array_equal(second.logits, np.full((17, M), 4))
    assert first.logits.dtype == np.float32
    assert first.similarity is not None
    assert first.similarity.shape == (1, M, N)
    np.testing.assert_array_equal(
        first.similarity, np.repeat([[[1.0], [0], [0], [1], [0]]], N, axis=2)
    )


def test_a_fake_logit_is_a_scaled_channel_mean() -> None:
    images = random_images(3)
    logits = FakeEngine(size=8, label_count=3, patch_count=1).infer(images).logits
    np.testing.assert_allclose(logits, images.mean(axis=(1, 2)) / 255 * 8 - 4, rtol=1e-5, atol=1e-5)
